"""Excel workbooks: the rows of the only sheet with cells, or with the columns that are read."""

import io
import itertools
import zipfile
from collections.abc import Callable, Collection, Iterator
from typing import Any

from sentiment.data.columns import name_unnamed_columns
from sentiment.data.labels import plain_label, shorten
from sentiment.data.streams import open_bytes
from sentiment.exceptions import InputError, first_line, require

SCANNED_BYTES = 1_000_000  # at a time
LARGEST_WORKBOOK = 2_000_000_000  # bytes of its parts when unpacked
NUMBERS = (bool, int, float)
ERRORS = {"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"}  # of formulas, which are no values


def open_spreadsheet(
    path: str, choose: Callable[[list[str]], Collection[str]]
) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """The names of the columns, from the first row, and number and cells of each row below; numbers are plain text.

    `choose` returns those of the columns that are read, whose formulas must have values.

    Raises:
        InputError: a damaged workbook, several sheets with cells, a cell without a column name, a formula without a
            value, or no openpyxl.
    """
    workbook, formulas = load_workbook(path)
    for sheet in [*workbook.worksheets, *(formulas.worksheets if formulas else [])]:
        sheet.reset_dimensions()  # as some programs write them, they leave out rows and columns
    sheets = [
        sheet
        for sheet in workbook.worksheets
        if sheet.sheet_state == "visible" and any(map(any, sheet.iter_rows(max_row=2, values_only=True)))
    ]
    if len(sheets) > 1:
        names = ", ".join(sheet.title for sheet in sheets)
        sheets = [sheet for sheet in sheets if has_columns(read_header(sheet), choose)]
        problem = f"{path}: has several sheets with cells ({names}), and {len(sheets)} of them have the columns"
        require(len(sheets) == 1, f"{problem}: keep the one with the reviews")
    hidden = [sheet.title for sheet in workbook.worksheets if sheet.sheet_state != "visible"]
    problem = f"no visible sheet has cells; unhide the one with the reviews ({', '.join(hidden)})"
    require(bool(sheets), f"{path}: {problem if hidden else 'no sheet has cells'}")
    rows = sheets[0].iter_rows(min_row=2, values_only=True)
    header = read_header(sheets[0])
    chosen = {place for name in choose(header) for place, other in enumerate(header) if other == name}
    uncomputed: Iterator[dict[int, str]] = itertools.repeat({})
    if formulas:
        uncomputed = find_uncomputed(workbook, sheets[0], formulas[sheets[0].title])

    def iterate() -> Iterator[tuple[int, dict[str, Any]]]:
        for row, (cells, missing) in enumerate(zip(rows, uncomputed, strict=False), start=1):
            for place in sorted(missing.keys() & chosen):
                raise InputError(
                    f"{path}: row {row}, column {header[place]!r}: the formula {shorten(missing[place], 40)!r} has no "
                    "value: open and save the workbook in a spreadsheet program, which computes it"
                )
            if any(cell is not None for cell in cells):
                extra = [cell for cell in cells[len(header) :] if cell is not None]
                require(not extra, f"{path}: row {row} has a cell without a column name: {shorten(repr(extra[:1]))}")
                values = map(to_value, cells)
                yield row, dict.fromkeys(header) | dict(zip(header, values, strict=False))

    return header, iterate()


def to_value(cell: Any) -> Any:
    """The value of a cell: numbers as plain text, None for an error, characters such as `_x000D_` unescaped."""
    if isinstance(cell, NUMBERS):
        return plain_label(cell)
    if isinstance(cell, str) and "_x" in cell:
        from openpyxl.utils.escape import unescape

        return unescape(cell)
    return None if cell in ERRORS else cell


def read_header(sheet: Any) -> list[str]:
    """The names of the columns, from the first row of a sheet."""
    header = ["" if cell is None else str(cell) for cell in next(sheet.iter_rows(max_row=1, values_only=True))]
    while header and not header[-1]:
        header.pop()
    return name_unnamed_columns(header)


def has_columns(header: list[str], choose: Callable[[list[str]], Collection[str]]) -> bool:
    """Whether `choose` finds its columns."""
    try:
        return bool(choose(header))
    except InputError:
        return False


def find_uncomputed(workbook: Any, values: Any, formulas: Any) -> Iterator[dict[int, str]]:
    """For each row below the header, the formulas without a value by their place.

    Libraries write formulas without a value, or with 0 and a note that all are to be computed when the file is opened;
    a text that was computed as empty has a type.
    """
    is_to_compute = bool(workbook.calculation.fullCalcOnLoad)
    pairs = zip(values.iter_rows(min_row=2), formulas.iter_rows(min_row=2, values_only=True), strict=True)
    for cells, contents in pairs:
        yield {
            place: str(getattr(content, "text", content))  # an array formula has its text as attribute
            for place, (cell, content) in enumerate(zip(cells, contents, strict=False))
            if content is not None
            and (
                (cell.value is None and cell.data_type != "str") or (is_to_compute and cell.value == 0 and content != 0)
            )
        }


def has_formulas(archive: zipfile.ZipFile) -> bool:
    """Whether a cell of a workbook has a formula, by the start of its element."""
    for name in archive.namelist():
        if name.startswith("xl/worksheets/"):
            with archive.open(name) as sheet:
                end = b""
                while piece := sheet.read(SCANNED_BYTES):
                    if b"<f>" in end + piece or b"<f " in end + piece:
                        return True
                    end = piece[-2:]
    return False


def load_workbook(path: str) -> tuple[Any, Any]:
    """The workbook with the values of formulas as last computed, and with the formulas; None if it has none."""
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
            with_formulas = has_formulas(archive)
        formulas = openpyxl.load_workbook(content, read_only=True) if with_formulas else None
        return openpyxl.load_workbook(content, read_only=True, data_only=True), formulas
    except InputError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of many types
        raise InputError(f"{path}: a damaged Excel workbook ({first_line(error)}): save it again") from error
