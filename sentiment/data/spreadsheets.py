"""Excel workbooks: the rows of the only sheet with cells."""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from sentiment.data.labels import plain_label, shorten
from sentiment.data.streams import open_bytes
from sentiment.exceptions import InputError, first_line, require

LARGEST_WORKBOOK = 2_000_000_000  # bytes of its parts when unpacked
NUMBERS = (bool, int, float)
FORMULA = re.compile(rb"<f[ >/]")


def open_spreadsheet(path: str) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """The names of the columns, from the first row, and number and cells of each row below; numbers are plain text.

    Raises:
        InputError: a damaged workbook, several sheets with cells, a cell without a column name, or no openpyxl.
    """
    workbook, formulas = load_workbook(path)
    sheets = [sheet for sheet in workbook.worksheets if any(map(any, sheet.iter_rows(max_row=2, values_only=True)))]
    names = ", ".join(sheet.title for sheet in sheets) or "none"
    require(len(sheets) == 1, f"{path}: has {len(sheets)} sheets with cells ({names}): keep the one with the reviews")
    rows = sheets[0].iter_rows(values_only=True)
    header = ["" if cell is None else str(cell) for cell in next(rows)]
    while header and not header[-1]:
        header.pop()
    written = formulas[sheets[0].title].iter_rows(min_row=2) if formulas else None

    def iterate() -> Iterator[tuple[int, dict[str, Any]]]:
        for row, cells in enumerate(rows, start=1):
            if written:
                check_computed(path, row, header, cells, next(written))
            if any(cell is not None for cell in cells):
                extra = [cell for cell in cells[len(header) :] if cell is not None]
                require(not extra, f"{path}: row {row} has a cell without a column name: {shorten(repr(extra[:1]))}")
                values = (plain_label(cell) if isinstance(cell, NUMBERS) else cell for cell in cells)
                yield row, dict.fromkeys(header) | dict(zip(header, values, strict=False))

    return header, iterate()


def check_computed(path: str, row: int, header: list[str], cells: Any, written: Any) -> None:
    """Raise InputError if a cell is a formula that was never computed."""
    for name, value, cell in zip(header, cells, written, strict=False):
        require(
            value is not None or cell.data_type != "f",
            f"{path}: row {row}, column {name!r} is a formula without a value: open the file in a spreadsheet program "
            "and save it again",
        )


def load_workbook(path: str) -> tuple[Any, Any]:
    """The workbook with the values of formulas as last computed, and if it has formulas, the workbook with these."""
    try:
        import openpyxl
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading Excel needs openpyxl: pip install 'adapt-or-finetune[excel]'") from error
    with open_bytes(path) as stream:
        content = io.BytesIO(stream.read())
    try:
        with zipfile.ZipFile(content) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            require(size <= LARGEST_WORKBOOK, f"{path}: over {LARGEST_WORKBOOK:,} bytes when unpacked: save it as .csv")
            sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
            has_formulas = any(FORMULA.search(archive.read(name)) for name in sheets)
        values = openpyxl.load_workbook(content, read_only=True, data_only=True)
        return values, openpyxl.load_workbook(content, read_only=True) if has_formulas else None
    except InputError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of many types
        raise InputError(f"{path}: a damaged Excel workbook ({first_line(error)}): save it again") from error
