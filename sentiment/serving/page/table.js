// Tables in CSV (RFC 4180) with commas, semicolons, tabs or bars between the cells.
"use strict";

const DELIMITERS = [",", ";", "\t", "|"];

/** The delimiter that is most frequent in the first line, outside quotes; an empty string if there is none. */
function findDelimiter(text) {
  const [line] = text.replace(/"(?:[^"]|"")*"/g, "").split(/\r?\n/, 1);
  const counts = DELIMITERS.map((delimiter) => line.split(delimiter).length);
  const most = Math.max(...counts);
  return most > 1 ? DELIMITERS[counts.indexOf(most)] : "";
}

/** The rows, as lists of cells, without blank lines; throws an Error for a quote that is not closed. */
function parseTable(text, delimiter) {
  const rows = [];
  let row = [];
  let place = 0;
  while (place < text.length) {
    let cell = "";
    if (text[place] === '"') {
      const opened = place;
      for (;;) {
        const end = text.indexOf('"', place + 1);
        if (end < 0) throw new Error(`the quote in line ${text.slice(0, opened).split("\n").length} is not closed`);
        cell += text.slice(place + 1, end);
        place = end + 1;
        if (text[place] !== '"') break;
        cell += '"'; // doubled: a quote of the text
      }
    }
    const start = place;
    while (place < text.length && text[place] !== delimiter && text[place] !== "\n") place += 1;
    row.push(cell + text.slice(start, place).replace(/\r$/, ""));
    if (text[place] !== delimiter) {
      if (row.length > 1 || row[0]) rows.push(row);
      row = [];
    } else if (place + 1 === text.length) row.push(""); // the last cell of a file without a line break at its end
    place += 1;
  }
  if (row.length) rows.push(row);
  return rows;
}

/** Rows as CSV, with line breaks as in RFC 4180. */
function formatTable(rows, delimiter) {
  const quote = (cell) => (/["\r\n]/.test(cell) || cell.includes(delimiter) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return rows.map((row) => `${row.map(quote).join(delimiter)}\r\n`).join("");
}
