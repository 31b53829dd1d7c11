"""Rows of a file of any supported format, which its content tells; an error names file, row and column."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from sentiment.data.columns import (
    TEXT_COLUMNS,
    ColumnOptions,
    Columns,
    looks_like_text,
    match_columns,
    name_unnamed_columns,
    parse_row,
)
from sentiment.data.delimited import TAB_SUFFIXES, find_delimiter, read_cells, split_off_separator_line
from sentiment.data.json_files import Record, read_json_records
from sentiment.data.spreadsheets import open_spreadsheet
from sentiment.data.streams import (
    COMPRESSED_SUFFIXES,
    get_suffix,
    iterate_lines,
    open_bytes,
    open_text,
    read_sample,
    suggest_encoding,
)
from sentiment.exceptions import InputError, first_line, require

TABLE_SUFFIXES = (".csv", *TAB_SUFFIXES, ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
SUFFIXES = (*TABLE_SUFFIXES, ".txt")
PARQUET, SPREADSHEET, OLD_SPREADSHEET = b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
LONGEST_NAME = 2  # words of a column's name; more are a sentence
Rows = Iterator[dict[str, Any]]


@dataclass
class Table:
    """Number and cells by column of each row of a file, the features that `datasets` wrote into it, if any, and the
    names of the columns where they are known; a context manager that closes the file.
    """

    rows: Iterator[tuple[int, Record]]
    features: Mapping[str, Any] | None = None
    names: Sequence[str] = ()
    resources: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()


def is_data_file(path: Path) -> bool:
    """Whether the suffix is that of a supported format, compressed or not."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[-1:] and suffixes[-1] in COMPRESSED_SUFFIXES:
        return suffixes[-1] == ".zip" or suffixes[0] in SUFFIXES
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def read_files(paths: list[str], stamps: list[tuple[int, int]], options: ColumnOptions) -> Rows:
    """Yield the rows of files one after the other; `stamps` (time and size) are only part of the cache's key."""
    del stamps
    for path in paths:
        rows = read_rows(path, options)
        try:
            first = next(rows, None)
            if first is None:
                raise InputError(f"{path}: no rows")
            yield first
            yield from rows
        except UnicodeError as error:  # of encodings without a place for invalid bytes, such as UTF-16
            raise InputError(f"{path}: {first_line(error)}: save it as UTF-8, or correct --encoding") from error


def read_labelled_texts(
    paths: list[str], stamps: list[tuple[int, int]], labels: list[str | None], encoding: str
) -> Rows:
    """Yield one row per file, with its whole text and its label; `stamps` are only part of the cache's key."""
    del stamps
    for path, label in zip(paths, labels, strict=True):
        with open_text(path, encoding or None, newline=None) as stream:
            columns = Columns(("text",), "label")
            yield parse_row(path, 1, columns, {"text": stream.read(), "label": label}, suggest_encoding)


def read_rows(path: str, options: ColumnOptions) -> Rows:
    """Yield rows `{"text": str, "label": str or None}`; raises InputError with file, row and column."""
    with open_table(path, options, options.with_record) as table:
        seen = dict.fromkeys(table.names)
        columns = match_columns(path, table.names, options, table.features) if table.names else Columns()
        for row, record in table.rows:
            if not record.keys() <= seen.keys():  # rows of JSON may have columns of their own
                seen |= dict.fromkeys(record)
                columns = match_columns(f"{path}: row {row}", seen, options, table.features)
            for name in columns.texts:
                if name not in record:
                    raise InputError(f"{path}: row {row} has no column {name!r}, which earlier rows have")
            yield parse_row(path, row, columns, record, suggest_encoding)


def list_file_columns(path: str, encoding: str | None = None) -> list[str]:
    """The names of the columns of a file, for JSON those of its first object."""
    with open_table(path, ColumnOptions(encoding=encoding), all_columns=True) as table:
        return list(table.names) or [*next(table.rows, (0, {}))[1]]


def is_table(path: str, options: ColumnOptions) -> bool:
    """Whether a file is a table and not lines of text: by its suffix, its content, or options that name columns.

    The header of a table of another suffix has a column that looks like a text; in .txt, one of `TEXT_COLUMNS`.
    """
    sample, suffix = read_sample(path), get_suffix(path)
    if suffix in TABLE_SUFFIXES or sample.startswith((PARQUET, SPREADSHEET)) or is_json(sample):
        return True
    if options.text_column_names or (options.with_labels and options.label_column_name):
        return True  # a column that is not there is an error
    with open_text(path, options.encoding) as stream:
        delimiter, lines = split_off_separator_line(iter(stream))
        header = next(lines, "").rstrip("\r\n")
    cells = [cell.strip('" ') for cell in header.split(delimiter or find_delimiter(header, suffix))]
    has_text = any(cell.lower() in TEXT_COLUMNS for cell in cells)
    if suffix != ".txt":
        has_text = has_text or any(looks_like_text(cell) for cell in cells if len(cell.split()) <= LONGEST_NAME)
    return bool(delimiter) or (len(cells) > 1 and has_text)


def is_json(sample: bytes) -> bool:
    """Whether a file begins with a JSON object or an array of them."""
    return re.match(rb"(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*[\"}]", sample) is not None


def open_table(path: str, options: ColumnOptions, all_columns: bool = False) -> Table:
    """The rows of a file, with all columns or at least those of `options`.

    Raises:
        InputError: no supported format, or a damaged file.
    """
    sample, suffix = read_sample(path), get_suffix(path)
    if sample.startswith(PARQUET) or suffix == ".parquet":
        return open_parquet(path, options, all_columns)
    if sample.startswith(SPREADSHEET):
        names, rows = open_spreadsheet(
            path, lambda names: names if all_columns else match_columns(path, names, options).names
        )
        return Table(rows, names=names)
    require(not sample.startswith(OLD_SPREADSHEET), f"{path}: an Excel file of before 2007: save it as .xlsx")
    require(suffix != ".xlsx", f"{path}: not an Excel workbook, or damaged: save it again")
    if suffix == ".txt" and not is_table(path, options):
        return Table(read_text(path, options.encoding), names=["text"])
    if suffix in (".json", ".jsonl", ".ndjson") or is_json(sample):
        return Table(read_json_records(path, options.encoding))
    is_text = suffix in SUFFIXES or b"\0" not in sample or bool(options.encoding)
    require(is_text, f"{path}: no file of a known format: use {', '.join(SUFFIXES)}")
    return open_delimited(path, suffix, options)


def open_delimited(path: str, suffix: str, options: ColumnOptions) -> Table:
    """The rows of a table whose first line names the columns."""
    # Not by pandas, which fills short rows and drops fields of long ones, nor by pyarrow, which does not say in which
    # row a byte is invalid; both accept text after a closing quote.
    with ExitStack() as stack:
        stream = stack.enter_context(open_text(path, options.encoding))
        delimiter, lines = split_off_separator_line(iter(stream))
        header = next(lines, "")
        delimiter = delimiter or find_delimiter(header, suffix, options.text_column_names)
        cells = read_cells(path, (line for part in ([header], lines) for line in part), delimiter)
        names = name_unnamed_columns(next(cells, (0, []))[1])
        rows = ((row, dict(zip(names, values, strict=True))) for row, values in cells)
        return Table(rows, names=names, resources=stack.pop_all())


def open_parquet(path: str, options: ColumnOptions, all_columns: bool) -> Table:
    """The rows of a Parquet file, read batch by batch; fields of structs have their path as name."""
    problem = f"{path}: not a Parquet file, or damaged or cut off; copy it again"
    try:
        content: Any = path
        if Path(path).suffix.lower() in COMPRESSED_SUFFIXES:
            with open_bytes(path) as stream:
                content = pa.BufferReader(stream.read())
        file = pq.ParquetFile(content)
        schema = file.schema_arrow
        features = Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else None
    except (pa.ArrowException, OSError) as error:
        raise InputError(problem) from error
    names = list_paths(schema)
    chosen = names if all_columns else match_columns(path, names, options, features).names

    def iterate() -> Iterator[tuple[int, Record]]:
        row = 0
        try:
            with file:
                for batch in file.iter_batches(columns=chosen):
                    table = flatten_structs(pa.Table.from_batches([batch]))
                    columns = [to_values(table.column(name).combine_chunks()) for name in chosen]
                    for cells in zip(*columns, strict=True):
                        row += 1
                        yield row, dict(zip(chosen, cells, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise InputError(problem) from error

    return Table(iterate(), features, chosen)


def list_paths(schema: pa.Schema) -> list[str]:
    """The names of the columns, those of a struct's fields by their path."""
    return list(flatten_structs(schema.empty_table()).column_names)


def flatten_structs(table: pa.Table) -> pa.Table:
    """The table with a column for each field of its structs."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def find_class_names(paths: list[Path], options: ColumnOptions) -> tuple[str, ...]:
    """The names of the classes that a Parquet file of `datasets` declares for its label column, if any does."""
    for path in paths:
        if read_sample(str(path)).startswith(PARQUET):
            with open_parquet(str(path), options, all_columns=False) as table:
                if table.features:
                    return match_columns(str(path), table.names, options, table.features).class_names
    return ()


def to_values(column: pa.Array) -> list[Any]:
    """The values of a column; invalid bytes become lone surrogates, as in `errors="surrogateescape"`."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        cells = column.cast(pa.large_binary()).to_pylist()
        return [None if cell is None else cell.decode(errors="surrogateescape") for cell in cells]


def read_text(path: str, encoding: str | None) -> Iterator[tuple[int, Record]]:
    """Yield the lines of a text file; a blank line is no row."""
    for number, line in iterate_lines(path, encoding):
        if line.strip():
            yield number, {"text": line}


def read_lines(lines: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a stream without their ends; raises InputError with name and line if one is not UTF-8."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            message = f"{name}: line {number} is not UTF-8 (byte {error.start + 1}): save it as UTF-8"
            raise InputError(message) from error
