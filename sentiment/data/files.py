"""Rows of a CSV, TSV or JSON Lines file, each fault named by file, row and column.

The loaders of `datasets` read texts such as `NA` as missing, fill short rows, and replace or report bad
bytes without a place; these readers stream as they do, and their rows go to its cache on disk.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sentiment.exceptions import InputError

TEXT_COLUMNS = ("text", "sentence", "review")
LABEL_COLUMN = "label"
# A label under another name would pass for "unlabelled", so these stop the reading.
NEAR_LABEL_COLUMNS = ("labels", "sentiment", "sentiments", "polarity", "class", "target")
UNLABELLED = -1
_LABELS = {
    **dict.fromkeys(("negative", "neg", "0", "0.0", "false"), 0),
    **dict.fromkeys(("positive", "pos", "1", "1.0", "true"), 1),
    **dict.fromkeys(("", "-1", "-1.0", "nan"), UNLABELLED),  # a missing number in a Parquet file is nan
}


def read_rows(paths: list[str], stamps: list[tuple[int, int]], version: int = 1) -> Iterator[dict[str, Any]]:
    """Rows `{"text": str, "label": 0, 1 or -1}` of files that follow each other.

    `stamps` (time and size of each file) and `version` (of this reader) are not read: they are here so
    that the cache of `datasets`, whose key is the arguments, notices a file or a reader that changed.
    """
    del stamps, version
    for path in paths:
        yield from read_jsonl(path) if path.lower().endswith(".jsonl") else read_delimited(path)


def read_delimited(path: str) -> Iterator[dict[str, Any]]:
    """Rows of a comma- or tab-separated file in UTF-8 whose first line names the columns.

    Commas: quoting as in RFC 4180. Tabs: a cell ends at a tab or at the line's end, and quotes around a
    whole cell are taken off where those inside are doubled.
    """
    csv.field_size_limit(2**31 - 1)  # the default ends at 131,072 characters
    tabs = path.lower().endswith(".tsv")
    _refuse_utf16(path)
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        if tabs:
            reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            unquoted = ([_unquote(cell) for cell in cells] for cells in reader)
            records = _number_records(path, unquoted)
        else:
            records = _number_records(path, csv.reader(lines, strict=True))
        _, header = next(records, (0, []))
        columns = match_columns(path, header)
        text_at, label_at = (header.index(name) if name is not None else None for name in columns)
        assert text_at is not None  # match_columns found it
        for row, cells in records:
            if len(cells) != len(header):
                raise InputError(
                    f"{path}: row {row} has {len(cells)} fields where the header has {len(header)}; "
                    "quote the texts that contain a delimiter or a line break"
                )
            label = "" if label_at is None else cells[label_at]
            yield parse_row(path, row, columns, cells[text_at], label)


def read_jsonl(path: str) -> Iterator[dict[str, Any]]:
    """Rows of a file in UTF-8 with one JSON object a line; its rows are numbered by line."""
    columns: tuple[str, str | None] | None = None
    _refuse_utf16(path)
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            record = _parse_object(path, number, line)
            if columns is None or columns[1] is None:
                columns = match_columns(path, record)
            if columns[0] not in record:
                raise InputError(
                    f"{path}: row {number} has no column {columns[0]!r}, which earlier rows have"
                )
            label = None if columns[1] is None else record.get(columns[1])
            yield parse_row(path, number, columns, record[columns[0]], label)


def match_columns(where: str, names: Iterable[str]) -> tuple[str, str | None]:
    """Names of the text column and, if there is one, of the label column; case and spaces do not count.

    Raises `InputError` if there is no text column or more than one, or if a label column seems misnamed.
    """
    found = list(names)
    if not found:
        raise InputError(f"{where}: no rows; expected columns {', '.join(TEXT_COLUMNS)} and {LABEL_COLUMN}")
    keys = [name.strip().lower() for name in found]
    listing = shorten(", ".join(repr(name) for name in found), 200)
    texts = [name for name, key in zip(found, keys, strict=True) if key in TEXT_COLUMNS]
    labels = [name for name, key in zip(found, keys, strict=True) if key == LABEL_COLUMN]
    if not texts:
        raise InputError(
            f"{where}: no text column; one must be named text, sentence or review; found columns: {listing}"
        )
    if len(texts) > 1 or len(labels) > 1:
        several = " and ".join(repr(name) for name in (texts if len(texts) > 1 else labels))
        raise InputError(
            f"{where}: columns {several} stand for the same thing; keep one; found columns: {listing}"
        )
    near = [name for name, key in zip(found, keys, strict=True) if key in NEAR_LABEL_COLUMNS]
    if not labels and near:
        raise InputError(
            f"{where}: no column 'label', but {near[0]!r}; rename it to 'label', or remove it if the reviews "
            f"are unlabelled; found columns: {listing}"
        )
    return texts[0], labels[0] if labels else None


def parse_row(where: str, row: int, columns: tuple[str, str | None], text: Any, label: Any) -> dict[str, Any]:
    """One row as `{"text": str, "label": int}`; a missing text is empty, a missing label is -1.

    Raises `InputError` with file, row and column if the text is no string or not Unicode, or if the label
    is neither of the two.
    """
    text = "" if text is None else text
    if not isinstance(text, str):
        raise InputError(
            f"{where}: row {row}, column {columns[0]!r}: expected a text, found {shorten(repr(text))}"
        )
    if not text.isascii():
        _check_unicode(where, row, columns[0], text)
    number = UNLABELLED if label is None else _LABELS.get(str(label).strip().lower())
    if number is None:
        raise InputError(
            f"{where}: row {row}, column {columns[1]!r}: label {shorten(repr(label))} is neither 0/negative "
            "nor 1/positive; leave it empty or -1 for an unlabelled review"
        )
    return {"text": text, "label": number}


def shorten(text: str, length: int = 60) -> str:
    """Text that fits into one line of a message.

    >>> shorten("wonderful", 6)
    'won...'
    """
    return text if len(text) <= length else text[: length - 3] + "..."


def _check_unicode(where: str, row: int, column: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        # errors="surrogateescape" turns an undecodable byte b into the lone surrogate 0xDC00 + b
        found = (
            f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"a lone surrogate \\u{code:04x}"
        )
        raise InputError(
            f"{where}: row {row}, column {column!r}: {found} at character {error.start + 1} is not UTF-8; "
            "save the file as UTF-8"
        ) from None


def _refuse_utf16(path: str) -> None:
    with Path(path).open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path}: row 1, first column: the file is UTF-16; save it as UTF-8")


def _number_records(path: str, reader: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
    row = 0
    try:
        for cells in reader:
            if cells:  # a blank line is no row
                yield row, cells
                row += 1
    except csv.Error as error:
        cause = "a quote is not closed" if "unexpected end" in str(error) else f"malformed ({error})"
        raise InputError(f"{path}: row {row}: {cause}; double the quotes inside a quoted text") from None


def _unquote(cell: str) -> str:
    if len(cell) < 2 or not (cell[0] == cell[-1] == '"'):
        return cell
    inner = cell[1:-1].replace('""', "\0")
    return cell if '"' in inner else inner.replace("\0", '"')


def _parse_object(path: str, number: int, line: str) -> dict[str, Any]:
    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            raise InputError(f"{path}: line {number} names a column twice")
        return record

    try:
        record = json.loads(line, object_pairs_hook=refuse_duplicates)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise InputError(
            f"{path}: line {number} is not JSON: {reason}; one object a line is needed"
        ) from None
    if not isinstance(record, dict):
        raise InputError(
            f"{path}: line {number} is not a JSON object with columns, but {shorten(repr(record))}"
        )
    return record
