"""Readers of CSV, TSV, JSON Lines, Parquet and text files; an error names file, row and column."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from sentiment.data.columns import ColumnOptions, Columns, match_columns, parse_row
from sentiment.data.labels import shorten
from sentiment.exceptions import InputError, require

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
SUFFIXES = (*TABLES, ".txt")
Rows = Iterator[dict[str, Any]]


def read_files(paths: list[str], stamps: list[tuple[int, int]], options: ColumnOptions) -> Rows:
    """Yield the rows of files one after the other; `stamps` (time and size) are only part of the cache's key."""
    del stamps
    for path in paths:
        row = None
        for row in READERS[Path(path).suffix.lower()](path, options):
            yield row
        require(row is not None, f"{path}: no rows")


def read_file(path: str, with_labels: bool = True, text_column_names: str | None = None) -> Rows:
    """Yield rows `{"text": str, "label": str or None}`; raises InputError with file, row and column."""
    return READERS[Path(path).suffix.lower()](path, ColumnOptions(text_column_names, with_labels=with_labels))


def read_delimited(path: str, options: ColumnOptions) -> Rows:
    """Yield the rows of a UTF-8 file whose first line names the columns; commas are quoted as in RFC 4180."""
    # Not by pandas, which fills short rows and drops fields of long ones, nor by pyarrow, which does not say in which
    # row a byte is not UTF-8; both accept text after a closing quote.
    csv.field_size_limit(2**31 - 1)  # the default is 131,072 characters
    refuse_utf16(path)
    header: list[str] = []
    columns = Columns(())
    row = -1
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader: Any = csv.reader(lines, strict=True)
        if path.lower().endswith(".tsv"):
            reader = (map(unquote, cells) for cells in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        try:
            for row, cells in enumerate(filter(None, map(list, reader))):  # a blank line is no row
                if row == 0:
                    header, columns = cells, match_columns(path, cells, options)
                elif len(cells) == len(header):
                    yield parse_row(path, row, columns, dict(zip(header, cells, strict=True)))
                else:
                    raise InputError(
                        f"{path}: row {row} has {len(cells)} fields where the header has {len(header)}; "
                        "quote the texts that contain a delimiter or a line break"
                    )
        except csv.Error as error:
            cause = "a quote is not closed" if "unexpected end" in str(error) else f"malformed ({error})"
            message = f"{path}: row {row + 1}: {cause}; double the quotes inside a quoted text"
            raise InputError(message) from None


def unquote(cell: str) -> str:
    """The cell of a tab-separated file without the quotes around it, if the quotes inside are doubled."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def read_jsonl(path: str, options: ColumnOptions) -> Rows:
    """Yield the rows of a UTF-8 file with one JSON object per line; rows are numbered by line."""
    names: list[str] = []
    columns = Columns(())
    refuse_utf16(path)
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for row, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            record = parse_object(path, row, line)
            new = [name for name in record if name not in names]
            if new or not names:
                names += new
                columns = match_columns(f"{path}: row {row}", names, options)
            for name in columns.texts:
                if name not in record:
                    raise InputError(f"{path}: row {row} has no column {name!r}, which earlier rows have")
            yield parse_row(path, row, columns, record)


def parse_object(path: str, row: int, line: str) -> dict[str, Any]:
    """The JSON object of a line; raises InputError if it is none, or names a column twice."""

    def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("it names a column twice")
        return dict(pairs)

    try:
        record = json.loads(line, object_pairs_hook=build_object)
    except (ValueError, RecursionError) as error:
        reason = shorten(error.msg if isinstance(error, json.JSONDecodeError) else str(error))
        raise InputError(f"{path}: line {row} is not JSON: {reason}; one object per line is needed") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: line {row} is not a JSON object with columns, but {shorten(repr(record))}")
    return record


def read_parquet(path: str, options: ColumnOptions) -> Rows:
    """Yield the rows of a Parquet file, read batch by batch."""
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            features = Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else None
            columns = match_columns(path, schema.names, options, features)
            names = schema.names if options.with_record else columns.names
            for batch in file.iter_batches(columns=names):
                for cells in zip(*(to_values(batch.column(name)) for name in names), strict=True):
                    row += 1
                    yield parse_row(path, row, columns, dict(zip(names, cells, strict=True)))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or damaged or cut off; copy it again") from error


def find_class_names(paths: list[Path], options: ColumnOptions) -> tuple[str, ...]:
    """The names of the classes that a Parquet file of `datasets` declares for its label column, if any does."""
    for path in paths:
        if path.suffix.lower() == ".parquet":
            schema = pq.read_schema(path)
            if b"huggingface" in (schema.metadata or {}):
                features = Features.from_arrow_schema(schema)
                return match_columns(str(path), schema.names, options, features).class_names
    return ()


def to_values(column: pa.Array) -> list[Any]:
    """The values of a column; invalid bytes become lone surrogates, as in `errors="surrogateescape"`."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        cells = column.cast(pa.large_binary()).to_pylist()
        return [None if cell is None else cell.decode(errors="surrogateescape") for cell in cells]


def read_text(path: str, options: ColumnOptions) -> Rows:
    """Yield the lines of a UTF-8 file as unlabelled reviews; a blank line is no row."""
    del options
    with Path(path).open("rb") as lines:
        for line in read_lines(lines, path):
            if line.strip():
                yield {"text": line, "label": None}


def read_lines(lines: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a stream without their ends; raises InputError with name and line if one is not UTF-8."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            message = f"{name}: line {number} is not UTF-8 (byte {error.start + 1}): save it as UTF-8"
            raise InputError(message) from error


def refuse_utf16(path: str) -> None:
    """Raises InputError if the file starts with the mark of UTF-16."""
    with Path(path).open("rb") as file:
        is_utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    require(not is_utf16, f"{path}: row 1, first column: the file is UTF-16; save it as UTF-8")


READERS: dict[str, Callable[[str, ColumnOptions], Rows]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".txt": read_text,
}
