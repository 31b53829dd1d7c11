"""Excel workbooks: the rows of the only sheet with cells."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from sentiment.data.labels import plain_label, shorten
from sentiment.data.streams import open_bytes
from sentiment.exceptions import InputError, first_line, require

LARGEST_WORKBOOK = 2_000_000_000  # bytes of its parts when unpacked
NUMBERS = (bool, int, float)


def open_spreadsheet(path: str) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """The names of the columns, from the first row, and number and cells of each row below; numbers are plain text.

    Raises:
        InputError: a damaged workbook, several sheets with cells, a cell without a column name, or no openpyxl.
    """
    workbook = load_workbook(path)
    sheets = [sheet for sheet in workbook.worksheets if any(map(any, sheet.iter_rows(max_row=2, values_only=True)))]
    names = ", ".join(sheet.title for sheet in sheets) or "none"
    require(len(sheets) == 1, f"{path}: has {len(sheets)} sheets with cells ({names}): keep the one with the reviews")
    rows = sheets[0].iter_rows(values_only=True)
    header = ["" if cell is None else str(cell) for cell in next(rows)]
    while header and not header[-1]:
        header.pop()

    def iterate() -> Iterator[tuple[int, dict[str, Any]]]:
        for row, cells in enumerate(rows, start=1):
            if any(cell is not None for cell in cells):
                extra = [cell for cell in cells[len(header) :] if cell is not None]
                require(not extra, f"{path}: row {row} has a cell without a column name: {shorten(repr(extra[:1]))}")
                values = (plain_label(cell) if isinstance(cell, NUMBERS) else cell for cell in cells)
                yield row, dict.fromkeys(header) | dict(zip(header, values, strict=False))

    return header, iterate()


def load_workbook(path: str) -> Any:
    """The workbook, with the values of formulas as last computed."""
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
        return openpyxl.load_workbook(content, read_only=True, data_only=True)
    except InputError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of many types
        raise InputError(f"{path}: a damaged Excel workbook ({first_line(error)}): save it again") from error
