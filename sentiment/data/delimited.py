"""Tables whose cells are separated by a character (CSV, TSV): delimiter, quotes and line breaks."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator

from sentiment.data.columns import TEXT_COLUMNS
from sentiment.exceptions import InputError, require

DELIMITERS = (",", ";", "\t", "|")
TAB_SUFFIXES = (".tsv", ".tab")
# A quote that opens here and closes later than this is not closed.
LONGEST_QUOTE_LINES = 10_000
MOST_VALUES = 1_000  # of a column whose values are compared with the lines of a cell
SPACED_QUOTES = re.compile(r'\s+".*"\s*')


class SwallowedRows:
    """Finds rows inside a quoted cell, by their values, which other rows have in the same column."""

    def __init__(self, path: str, delimiter: str, width: int):
        self.path, self.delimiter, self.width = path, delimiter, width
        self.known: dict[int, set[str]] = {place: set() for place in range(width)}  # values by column
        self.suspects: list[tuple[int, list[list[str]]]] = []  # row, and cells of each of its lines

    def add(self, row: int, lines: list[str], cells: list[str]) -> None:
        """Take the lines and cells of a row."""
        if len(lines) > 1:
            as_rows = [line.rstrip("\r\n").split(self.delimiter) for line in lines]
            if self.width > 1 and all(len(line) == self.width for line in as_rows):
                self.suspects.append((row, as_rows))
            return
        for place, values in [*self.known.items()]:
            values.add(cells[place])
            if len(values) > MOST_VALUES:
                del self.known[place]

    def check(self) -> None:
        """Raise InputError if there are any, once all rows are known."""
        for row, lines in self.suspects:
            for place, values in self.known.items():
                is_suspect = all(line[place] and line[place] in values for line in lines)
                require(not is_suspect, describe_swallowed_rows(self.path, row, len(lines)))


class LineFeed:
    """Lines for a `csv.reader`, and those that it has read since the last record; `push_back` returns some to it."""

    def __init__(self, lines: Iterable[str]):
        self.lines = iter(lines)
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.record) > LONGEST_QUOTE_LINES:
            raise StopIteration
        line = next(self.lines)
        self.record.append(line)
        return line

    def push_back(self, lines: list[str]) -> None:
        """Give these lines again, first."""
        self.lines = itertools.chain(lines, self.lines)
        self.record = []


def read_cells(path: str, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each row, the header being row 0; blank lines are no rows.

    Cells are quoted as in RFC 4180; one that is not, such as `"Great" film`, stays as it is if its line has as many
    cells as the header whether quotes are heeded or not, so that none of them holds a delimiter. If tabs separate the
    cells, which texts rarely hold, so does one with a quote that is not closed in its line.

    Raises:
        InputError: other quotes, one that closes some rows below, a text that begins with an unquoted line break, or
            another number of cells than in the header.
    """
    csv.field_size_limit(2**31 - 1)  # the default is 131,072 characters
    feed = LineFeed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    row, width, has_bare_returns, spaced = 0, 0, False, f'{delimiter} "'
    swallowed: SwallowedRows | None = None
    while True:
        feed.record = []
        try:
            cells = next(reader)
        except StopIteration:
            if swallowed:
                swallowed.check()
            return
        except csv.Error as error:
            cells = read_malformed(f"{path}: row {row}", feed, delimiter, width, str(error))
            reader = csv.reader(feed, delimiter=delimiter, strict=True)
        if not cells:
            # Where lines end otherwise, this is the start of an unquoted text rather than a blank line.
            is_text = width > 0 and feed.record == ["\r"] and not has_bare_returns
            problem = f"{path}: row {row} begins with a carriage return; quote the texts that contain a line break"
            require(not is_text, problem)
            continue
        if spaced in feed.record[0] and any(map(SPACED_QUOTES.fullmatch, cells)):
            raise InputError(f"{path}: row {row}: a space before a quote makes it part of the cell; remove such spaces")
        if delimiter == "\t" and width and len(feed.record) > 1:
            check_swallowed_rows(path, row, feed.record, width)
        if not width:
            width, has_bare_returns = len(cells), feed.record[-1].endswith("\r")
        require(
            len(cells) == width,
            f"{path}: row {row} has {len(cells)} fields where the header has {width}; quote the texts that contain a "
            "delimiter or a line break",
        )
        if swallowed:
            swallowed.add(row, feed.record, cells)
        else:
            swallowed = SwallowedRows(path, delimiter, width)
        yield row, cells
        row += 1


def read_malformed(where: str, feed: LineFeed, delimiter: str, width: int, error: str) -> list[str]:
    """The cells of the first line of a malformed record as they stand; its other lines are read again.

    Raises InputError if its quotes are not closed or escaped, or it has not `width` cells, unless that is 0.
    """
    first, *rest = feed.record
    cells = first.rstrip("\r\n").split(delimiter)
    is_open = "unexpected end" in error or len(feed.record) > LONGEST_QUOTE_LINES
    heeded = next(csv.reader([first], delimiter=delimiter), [])  # with lenient quotes
    # The cell may go on below, or hold a delimiter.
    is_unclear = delimiter != "\t" and (is_open or bool(rest) or len(heeded) != len(cells))
    if is_unclear or (width and len(cells) != width):
        cause = "a quote is not closed" if is_open else f"malformed ({error})"
        raise InputError(f"{where}: {cause}; double the quotes inside a quoted text") from None
    is_escaped = any(cell[:1] == cell[-1:] == '"' and '\\"' in cell[1:-1] for cell in cells)
    require(not is_escaped, f"{where}: a quote is escaped by a backslash; double the quotes inside a quoted text")
    feed.push_back(rest)
    feed.record = [first]
    return [*map(unquote, cells)]


def describe_swallowed_rows(path: str, row: int, lines: int) -> str:
    """The error for a quoted cell over several lines that look like rows."""
    return (
        f"{path}: row {row}: a quote that opens here closes {lines - 1} lines below, and these look like rows; double "
        "the quotes inside texts, or quote all texts"
    )


def unquote(cell: str) -> str:
    """A cell without its quotes, if it is quoted as in RFC 4180.

    >>> unquote('"a ""b"" c"'), unquote('"a" b "c"')
    ('a "b" c', '"a" b "c"')
    """
    inner = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def check_swallowed_rows(path: str, row: int, lines: list[str], width: int) -> None:
    """Raise InputError where lines that one quoted cell spans look like rows of a table separated by tabs."""
    first, *between, last = (line.count("\t") for line in lines)
    is_suspect = width - 1 in between or (first > 0 and last == width - 1)
    require(width == 1 or not is_suspect, describe_swallowed_rows(path, row, len(lines)))


def split_off_separator_line(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """The delimiter that a first line like `sep=;` of Excel names, if any, and the lines after it."""
    first = next(lines, "")
    named = first.rstrip("\r\n")
    if len(named) == 5 and named.lower().startswith("sep="):
        return named[4], lines
    return "", itertools.chain([first], lines)


def find_delimiter(header: str, suffix: str, text_column_names: str | None = None) -> str:
    """The delimiter of a table by its header: one that yields a text column, else the most frequent one.

    >>> find_delimiter("id;text;label", ".csv"), find_delimiter("text,label", ".tsv"), find_delimiter("text", ".csv")
    (';', ',', ',')
    """
    default = "\t" if suffix in TAB_SUFFIXES else ","
    wanted = {name.strip().lower() for name in (text_column_names or ",".join(TEXT_COLUMNS)).split(",")}

    def rank(delimiter: str) -> tuple[bool, int, bool]:
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            cells = []
        has_text = any(cell.strip().lower() in wanted for cell in cells)
        return has_text and len(cells) > 1, len(cells), delimiter == default

    return max(DELIMITERS, key=rank)
