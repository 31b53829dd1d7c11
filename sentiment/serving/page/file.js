// Labels the texts of a file in batches, and offers the file with the labels for download.
"use strict";

const MAX_FILE_BYTES = 1 << 20;
const TEXT_COLUMNS = ["text", "sentence", "review"]; // as all commands find them
const BATCH = 64; // texts of a request: so many are answered well within the service's time limit
const BUSY_SECONDS = 1; // to wait before a busy service is asked again
const MAX_ATTEMPTS = 60;
const ADDED = ["label", "score"];
const ADDED_OF_SECOND = ["compared_label", "compared_score"];
let table = null; // the open file, see `parseFile`

/** Read a file, and show its columns; an error if it is no table or too large. */
async function openFile(file) {
  closeFile();
  find("error").replaceChildren();
  if (!file) return;
  try {
    await loadInfo();
    table = parseFile(file.name, await readText(file));
  } catch (error) {
    showError(error, () => openFile(file), []);
    return;
  }
  const { header, rows } = table;
  const samples = rows[0].map((cell) => (cell.length > 40 ? `${cell.slice(0, 40)}…` : cell));
  find("column").replaceChildren(...header.map((name, place) => {
    const option = build("option", "", `${name || `column ${place + 1}`} (“${samples[place] ?? ""}”)`);
    option.value = place;
    return option;
  }));
  find("column").value = chooseColumn(header, rows);
  find("file-name").textContent = file.name;
  find("file-submit").textContent = `Label ${count(rows.length, "row")}`;
  find("file-submit").hidden = false;
  find("file-submit").removeAttribute("aria-disabled");
  find("file-form").hidden = false;
  find("column").focus();
}

function count(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

async function readText(file) {
  if (file.size > MAX_FILE_BYTES) {
    const size = (file.size / MAX_FILE_BYTES).toFixed(1);
    throw new RequestError(`${file.name} has ${size} MiB: at most 1 here. The command sentiment predict has no limit.`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer());
  } catch {
    throw new RequestError(`${file.name} is not text in UTF-8: in Excel, save it as “CSV UTF-8”.`);
  }
}

/** The table of a file: CSV with a header, or lines of text in a .txt file. */
function parseFile(name, content) {
  const mark = content.startsWith("\ufeff") ? "\ufeff" : ""; // by which Excel knows UTF-8
  const named = /^sep=(.)\r?\n/i.exec(content.slice(mark.length)); // a line of Excel's
  const text = content.slice(mark.length + (named?.[0].length ?? 0));
  const isText = name.toLowerCase().endsWith(".txt");
  const delimiter = named?.[1] ?? (isText ? "" : findDelimiter(text));
  let rows;
  try {
    rows = isText ? text.split(/\r?\n/).filter(Boolean).map((line) => [line]) : parseTable(text, delimiter);
  } catch (error) {
    throw new RequestError(`${name}: ${error.message}.`);
  }
  const header = isText ? ["text"] : rows.shift() ?? [];
  if (!rows.length) throw new RequestError(`${name} has no rows${isText ? "" : " below its header"}.`);
  const wrong = rows.findIndex((row) => row.length !== header.length);
  if (wrong >= 0) {
    const cells = count(rows[wrong].length, "cell");
    throw new RequestError(`${name}: row ${wrong + 1} has ${cells}, and the header has ${header.length}.`);
  }
  return { name, header, rows, delimiter, mark, answers: [], cut: 0, models: "", isStopped: false, url: null };
}

/** The number of the column with a known name, else of the one with the longest cells. */
function chooseColumn(header, rows) {
  const names = header.map((name) => name.trim().toLowerCase());
  const known = TEXT_COLUMNS.map((name) => names.indexOf(name)).find((place) => place >= 0);
  if (known !== undefined) return known;
  const lengths = header.map((_, place) => rows.reduce((sum, row) => sum + row[place].length, 0));
  return lengths.indexOf(Math.max(...lengths));
}

/** Forget the open file. */
function closeFile() {
  if (table) {
    table.isStopped = true;
    if (table.url) URL.revokeObjectURL(table.url);
  }
  table = null;
  for (const id of ["file-form", "download", "progress"]) find(id).hidden = true;
  find("column").disabled = false;
  find("file-status").textContent = "";
  find("file").value = ""; // so that the same file can be chosen again
}

/** Label the rows that have no answer yet; after an error, pressing the button again goes on from there. */
async function labelFile() {
  const own = table;
  if (!own || own.isBusy || own.url) return;
  own.isBusy = true;
  find("error").replaceChildren();
  find("column").disabled = true; // the answers are to the texts of one column
  find("file-submit").setAttribute("aria-disabled", true);
  find("progress").max = own.rows.length;
  find("progress").hidden = false;
  const texts = own.rows.map((row) => row[find("column").value]);
  try {
    await loadInfo();
    const models = JSON.stringify(state.info.models);
    if (own.models !== models) Object.assign(own, { models, answers: [], cut: 0 }); // answers of one model only
    while (own.answers.length < texts.length) {
      showProgress(own);
      const { answers, cut } = await labelBatch(takeBatch(texts, own.answers.length));
      if (own.isStopped) return;
      own.answers.push(...answers);
      own.cut += cut;
    }
    showFileAnswers(own);
  } catch (error) {
    if (!own.isStopped) showError(error, labelFile, []);
  } finally {
    own.isBusy = false;
    if (!own.isStopped) find("file-submit").removeAttribute("aria-disabled");
  }
}

function showProgress({ answers, rows }) {
  find("progress").value = answers.length;
  find("file-status").textContent = `${answers.length.toLocaleString("en")} of ${count(rows.length, "row")}`;
}

/** The next texts, within the limits of a request. */
function takeBatch(texts, start) {
  const { max_sentences: most, max_body_bytes: bytes } = state.info.limits;
  const batch = [];
  let left = bytes - 100; // for what is around the texts
  for (const text of texts.slice(start, start + Math.min(most, BATCH))) {
    left -= new TextEncoder().encode(JSON.stringify(text)).length + 1;
    if (left < 0 && batch.length) break;
    batch.push(text);
  }
  return batch;
}

/** The cells that are added to the row of each text, and how many texts were read in part; too long ones are not sent. */
async function labelBatch(batch) {
  const isSent = batch.map((text) => [...text].length <= state.info.limits.max_characters);
  const sentences = batch.filter((_, place) => isSent[place]);
  const answer = sentences.length ? await askWhenFree(JSON.stringify({ sentences })) : null;
  let next = 0;
  const answers = isSent.map((wasSent) => {
    const place = wasSent ? next++ : -1;
    return (state.names.length > 1 ? [answer, answer?.compared] : [answer]).flatMap((found) => {
      const label = wasSent ? found.labels[place] : null;
      return label === null ? ["", ""] : [label, found.scores[place].toFixed(6)];
    });
  });
  return { answers, cut: (answer?.truncated ?? []).filter(Boolean).length };
}

/** The answer to a query; a busy service is asked again. */
async function askWhenFree(body) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask("query", body);
    } catch (error) {
      if (error.status !== 429 || attempt === MAX_ATTEMPTS || table?.isStopped !== false) throw error;
      await new Promise((resume) => setTimeout(resume, 1000 * BUSY_SECONDS));
    }
  }
}

/** Show how many rows have each label, and a link to the table with labels and scores. */
function showFileAnswers(own) {
  const added = state.names.length > 1 ? [...ADDED, ...ADDED_OF_SECOND] : ADDED;
  const header = [...own.header.map((name) => (added.includes(name) ? `input_${name}` : name)), ...added];
  const rows = own.rows.map((row, place) => [...row, ...own.answers[place]]);
  const content = own.mark + formatTable([header, ...rows], own.delimiter || ",");
  own.url = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  find("download").href = own.url;
  find("download").download = `${own.name.replace(/\.\w+$/, "")}_labelled.csv`;
  const labels = own.answers.map(([label]) => label).filter(Boolean);
  const without = own.rows.length - labels.length;
  const notes = [without && `${without} without a label (blank or too long)`, own.cut && `${own.cut} read in part only`];
  const end = notes.filter(Boolean).map((note) => `, ${note}`).join("");
  showProgress(own);
  find("file-status").textContent = `${count(own.rows.length, "row")}: ${countLabels(labels)}${end}`;
  find("download").hidden = false;
  find("download").focus();
  find("file-submit").hidden = true;
}

find("open").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", () => openFile(find("file").files[0]));
find("file-form").addEventListener("submit", onSubmit(labelFile));
find("close").addEventListener("click", () => {
  closeFile();
  find("error").replaceChildren();
  find("open").focus();
});
