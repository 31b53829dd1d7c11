"""Writers of tables row by row: CSV, TSV, JSON Lines, Parquet and Excel, by the suffix of the file."""

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.data.labels import shorten
from sentiment.exceptions import InputError, first_line, require

Record = Mapping[str, Any]
# Limits of Excel: rows with the header, characters in a cell, and digits of a number.
EXCEL_ROWS, EXCEL_CHARACTERS, EXCEL_LARGEST = 1_048_576, 32_767, 10**15


SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".parquet", ".xlsx")
# Characters that XML lacks; Excel reads _x000B_ as the first of them.
NOT_IN_XML = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\ufffe\uffff]")


class Writer(Protocol):
    """Writes rows whose columns are those of the first ones."""

    def write(self, records: Sequence[Record]) -> None:
        """Write rows; raises InputError for a value or a column that the file cannot hold."""


class CsvWriter:
    """CSV or TSV, with nested values as JSON."""

    def __init__(self, stream: TextIO, columns: Sequence[str], delimiter: str = ","):
        self.columns = columns
        self.writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        self.writer.writerow(columns)

    def write(self, records: Sequence[Record]) -> None:
        """As `Writer.write`."""
        for record in records:
            check_columns(record, self.columns)
            self.writer.writerow([to_text(record.get(name)) for name in self.columns])


class JsonlWriter:
    """JSON Lines; a row has the columns of its own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, records: Sequence[Record]) -> None:
        """As `Writer.write`."""
        for record in records:
            finite = {name: None if is_not_finite(value) else value for name, value in record.items()}
            self.stream.write(json.dumps(finite, ensure_ascii=False, default=str) + "\n")


class ParquetWriter:
    """Parquet; each column has a type."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema):
        self.writer, self.schema = writer, schema

    def write(self, records: Sequence[Record]) -> None:
        """As `Writer.write`."""
        for record in records:
            check_columns(record, self.schema.names)
        arrays = [build_array(field.name, records, field.type) for field in self.schema]
        self.writer.write_table(pa.table(arrays, schema=self.schema))


class ExcelWriter:
    """A sheet of an .xlsx file. A text is never a formula, and a number with over 15 digits is a text."""

    def __init__(self, columns: Sequence[str]):
        try:
            from openpyxl import Workbook
        except ModuleNotFoundError as error:
            raise InputError("writing .xlsx needs openpyxl: pip install 'adapt-or-finetune[excel]'") from error
        self.columns, self.rows = columns, 0
        self.workbook = Workbook(write_only=True)
        self.sheet = self.workbook.create_sheet("predictions")
        self.append(columns)

    def write(self, records: Sequence[Record]) -> None:
        """As `Writer.write`."""
        for record in records:
            check_columns(record, self.columns)
            self.append([record.get(name) for name in self.columns])

    def append(self, values: Sequence[Any]) -> None:
        """Add a row of values; raises InputError for too many rows or characters."""
        from openpyxl.cell import WriteOnlyCell

        self.rows += 1
        require(self.rows <= EXCEL_ROWS, f".xlsx holds {EXCEL_ROWS - 1:,} rows at most: write .csv or .parquet")
        cells = []
        for value in map(to_excel, values):
            cell = value
            if isinstance(value, str):
                problem = f"row {self.rows - 1}: {shorten(value)!r} has {len(value):,} characters"
                hint = f"a cell of .xlsx holds {EXCEL_CHARACTERS:,} at most: write .csv or .parquet"
                require(len(value) <= EXCEL_CHARACTERS, f"{problem}, and {hint}")
                cell = WriteOnlyCell(self.sheet)
                cell.value = NOT_IN_XML.sub(lambda match: f"_x{ord(match[0]):04X}_", value)
                cell.data_type = "s"  # "=1+1" would be a formula
            cells.append(cell)
        self.sheet.append(cells)


@contextlib.contextmanager
def open_writer(
    path: Path, suffix: str, columns: Sequence[str], records: Sequence[Record], schema: pa.Schema | None = None
) -> Iterator[Writer]:
    """The writer of a new file, whatever its name, in the format of a suffix of `SUFFIXES`.

    Args:
        path: the file.
        suffix: in lower case, with its dot.
        columns: of the first rows, in order.
        records: the first rows, for the types of columns in Parquet.
        schema: known types of columns in Parquet.
    """
    if suffix == ".parquet":
        known = {} if schema is None else {field.name: field for field in schema}
        full = pa.schema([known.get(name) or pa.field(name, infer_type(name, records)) for name in columns])
        with pq.ParquetWriter(path, full) as writer:
            yield ParquetWriter(writer, full)
    elif suffix == ".xlsx":
        excel = ExcelWriter(columns)
        try:
            yield excel
        except BaseException:
            with contextlib.suppress(Exception):  # else it complains on stderr when it is collected
                excel.sheet.close()
            raise
        excel.workbook.save(path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            delimiter = "," if suffix == ".csv" else "\t"
            yield JsonlWriter(stream) if suffix == ".jsonl" else CsvWriter(stream, columns, delimiter)


def check_columns(record: Record, columns: Sequence[str]) -> None:
    """Raise InputError for a column that the first rows lack."""
    new = next((name for name in record if name not in columns), None)
    require(new is None, f"a later row has the column {new!r}, which the first rows lack: write .jsonl")


def is_not_finite(value: Any) -> bool:
    """Whether a value is a float that is no number, or infinite, which JSON lacks."""
    return isinstance(value, float) and not math.isfinite(value)


def to_text(value: Any) -> str:
    """A value as a cell of CSV.

    >>> [to_text(value) for value in (None, "a", True, 2, {"a": [1, "é"]})]
    ['', 'a', 'true', '2', '{"a": [1, "é"]}']
    """
    if value is None:
        return ""
    if isinstance(value, (bool, int, float, dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def to_excel(value: Any) -> Any:
    """A value as Excel keeps it whole: text for what is no text, truth value, or number of up to 15 digits."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)) and not is_not_finite(value) and abs(value) < EXCEL_LARGEST:
        return value
    return to_text(value)


def infer_type(name: str, records: Sequence[Record]) -> pa.DataType:
    """The type of a column by the values in these rows; text if all are missing."""
    found = build_array(name, records, None).type
    return pa.string() if pa.types.is_null(found) else found


def build_array(name: str, records: Sequence[Record], kind: pa.DataType | None) -> pa.Array:
    """The values of a column; raises InputError if they are of several types, or not of this one."""
    values = [record.get(name) for record in records]
    if kind is None or not pa.types.is_nested(kind):  # an inferred type would lose keys that later values have
        values = [to_text(value) if isinstance(value, (dict, list)) else value for value in values]
    problem = f"column {name!r} has values of several types"
    hint = "which .parquet lacks: write .jsonl or .csv"
    is_cut = kind is not None and pa.types.is_integer(kind) and any(isinstance(value, float) for value in values)
    require(not is_cut, f"{problem} (a fraction among whole numbers), {hint}")
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"{problem} ({shorten(first_line(error), 100)}), {hint}") from error
