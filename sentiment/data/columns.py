"""Text and label columns of a table, and its rows as text and label."""

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentiment.data.labels import plain_label, shorten
from sentiment.exceptions import InputError, require

TEXT_COLUMNS = ("text", "sentence", "review")
LABEL_COLUMN = "label"
NO_LABELS = "none"  # as the name of the label column
# A label under another name would be read as "unlabelled": without a column `label`, these names are refused.
RATING = "stars?|ratings?|scores?|grades?|points?"
AS_VALUE = r"(_(value|given|\d.*))?"
LABEL_LIKE = re.compile(
    rf"(.*_)?({RATING}|rank(ing)?s?){AS_VALUE}|labels?|labels?_.*|.*_labels?|(.*_)?sentiments?|(.*_)?polarity|"
    "(is_)?recommend(ed)?(_ind)?|is_positive|voted_up|overall|liked|feedback|class(es)?|.*_class|targets?|category|"
    "categories|emotions?|intents?|y"
)
RATING_LIKE = re.compile(f"(.*_)?({RATING}){AS_VALUE}")
# The first ones are the likeliest: "comment" may be an answer to the review.
TEXT_WORDS = ("text", "reviews?", "sentence", "content", "body", "tweet", "post", "comments?", "message")
TEXT_LIKE = [re.compile(f"(.*_)?{word}") for word in TEXT_WORDS]


@dataclass(frozen=True)
class ColumnOptions:
    """Which columns to read: names as on the command line, or the usual ones; labels, or text alone."""

    text_column_names: str | None = None
    label_column_name: str | None = None
    text_column_delimiter: str = " "
    encoding: str | None = None
    with_labels: bool = True
    with_record: bool = False  # rows also have `record`: every column of the source, as it is

    @property
    def has_no_labels(self) -> bool:
        """Whether the reviews count as unlabelled, whatever their columns are called."""
        return (self.label_column_name or "").strip().lower() == NO_LABELS


@dataclass(frozen=True)
class Columns:
    """The columns of a source, `label` empty if there is none; `class_names` name the numbers in the label column."""

    texts: tuple[str, ...] = ()
    label: str = ""
    class_names: tuple[str, ...] = ()
    delimiter: str = " "
    with_record: bool = False

    @property
    def names(self) -> list[str]:
        """Text columns and label column."""
        return [*self.texts, *([self.label] if self.label else [])]


def match_columns(
    where: str, names: Iterable[str], options: ColumnOptions, features: Mapping[str, Any] | None = None
) -> Columns:
    """Find the text columns and the label column, if any; case and surrounding spaces are ignored.

    Raises:
        InputError: a column is missing or ambiguous, or two columns have the same name, read or not.
    """
    found = list(names)
    listing = f"found columns: {list_names(found)}"

    def find(candidates: Sequence[str], error: str = "") -> str:
        matches = [name for name in found if name.strip().lower() in candidates]
        several = " and ".join(map(repr, matches))
        check_distinct(where, matches)
        require(len(matches) < 2, f"{where}: columns {several} are ambiguous: keep one, or pass its name; {listing}")
        require(bool(matches) or not error, f"{where}: {error}; {listing}")
        return matches[0] if matches else ""

    def find_option(name: str, option: str) -> str:
        return find([name.strip().lower()], f"no column {name.strip()!r} for --{option}")

    if options.text_column_names:
        texts = [find_option(name, "text_column_names") for name in options.text_column_names.split(",")]
    else:
        text_like = min(filter(looks_like_text, found), key=rank_text_name, default="")
        option = f"--text_column_names {shlex.quote(text_like)}" if text_like else "--text_column_names"
        texts = [find(TEXT_COLUMNS, f"no text column: name it text, sentence or review, or pass {option}")]
    check_distinct(where, found)
    if not options.with_labels:
        if options.with_record and options.label_column_name and not options.has_no_labels:
            find_option(options.label_column_name, "label_column_name")
        return Columns(tuple(texts), delimiter=options.text_column_delimiter, with_record=options.with_record)
    if options.has_no_labels:
        label = ""
    elif options.label_column_name:
        label = find_option(options.label_column_name, "label_column_name")
    else:
        label = find([LABEL_COLUMN])
        near = [name for name in found if looks_like_label(name) and name not in texts]
        if near and not label:
            raise InputError(
                f"{where}: no column 'label', but {near[0]!r}: pass --label_column_name {shlex.quote(near[0])}, or "
                f"--label_column_name {NO_LABELS} if the reviews are unlabelled; {listing}"
            )
    feature: Any = features or {}
    for part in label.split(".") if label not in feature else [label]:
        feature = feature.get(part) if isinstance(feature, Mapping) else None
    names = tuple(getattr(feature, "names", None) or ())
    return Columns(tuple(texts), label, names, options.text_column_delimiter, options.with_record)


def list_names(names: Iterable[str]) -> str:
    """Names of columns for a message."""
    return shorten(", ".join(map(repr, names)), 200) or "none"


def check_distinct(where: str, names: Sequence[str]) -> None:
    """Raises InputError if two columns have the same name."""
    for name, count in Counter(names).items():
        problem = f"{where}: {count} columns are named {name!r}, of which only one could be read: rename them"
        require(count == 1, problem)


def name_unnamed_columns(names: Sequence[str]) -> list[str]:
    """The names of a header, where several empty ones get those that pandas gives them, by their place.

    >>> name_unnamed_columns(["", "text", " ", ""]), name_unnamed_columns(["", "text"])
    (['Unnamed: 0', 'text', 'Unnamed: 2', 'Unnamed: 3'], ['', 'text'])
    """
    if sum(not name.strip() for name in names) < 2:
        return list(names)
    return [name if name.strip() else f"Unnamed: {place}" for place, name in enumerate(names)]


def looks_like_rating(name: str) -> bool:
    """Whether a column, or the end of a nested column's path, has the name of a rating: 1 is a bad one.

    >>> looks_like_rating("review.stars"), looks_like_rating("overall_rating"), looks_like_rating("label")
    (True, True, False)
    """
    return RATING_LIKE.fullmatch(underscore(name.rpartition(".")[2])) is not None


def looks_like_text(name: str) -> bool:
    """Whether a column, or the end of a nested column's path, has the name of a text, without a comma.

    >>> [looks_like_text(name) for name in ("Review Text", "meta.body", "review_id", "title")]
    [True, True, False, False]
    """
    return "," not in name and rank_text_name(name)[0] < len(TEXT_LIKE)


def rank_text_name(name: str) -> tuple[int, int]:
    """A key that sorts names of columns by how likely they are that of a text."""
    last = underscore(name.rpartition(".")[2])
    place = next((place for place, word in enumerate(TEXT_LIKE) if word.fullmatch(last)), len(TEXT_LIKE))
    return place, len(name)


def looks_like_label(name: str) -> bool:
    """Whether a column, or a part of a nested column's path, has the name of a label or rating.

    >>> [looks_like_label(name) for name in ("airline_sentiment", "review.stars", "Star Rating", "title")]
    [True, True, True, False]
    """
    return any(LABEL_LIKE.fullmatch(underscore(part)) for part in name.split("."))


def underscore(name: str) -> str:
    """A name in lower case, with underscores between its words.

    >>> underscore("Star Rating"), underscore("starRating"), underscore("is-positive")
    ('star_rating', 'star_rating', 'is_positive')
    """
    return re.sub(r"[\s-]+|(?<=[a-z\d])(?=[A-Z])", "_", name.strip()).lower()


def parse_row(
    where: str,
    row: int,
    columns: Columns,
    record: Mapping[str, Any],
    suggest_encoding: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """One row as `{"text": str, "label": str or None}`: texts joined, the label in its plain form, None if missing."""
    texts = [parse_text(where, row, name, record[name], suggest_encoding) for name in columns.texts]
    label = record.get(columns.label)
    if columns.class_names and isinstance(label, int):
        label = columns.class_names[label] if 0 <= label < len(columns.class_names) else None
    try:
        plain = plain_label(label)
    except ValueError:
        problem = f"label {shorten(repr(label))} is neither a name nor a number"
        raise InputError(f"{where}: row {row}, column {columns.label!r}: {problem}") from None
    if plain is not None and not plain.isascii():
        parse_text(where, row, columns.label, plain, suggest_encoding)
    parsed: dict[str, Any] = {"text": columns.delimiter.join(filter(None, texts)), "label": plain}
    if columns.with_record:
        for name, value in record.items():
            if isinstance(value, str):
                parse_text(where, row, name, value, suggest_encoding)
        parsed["record"] = dict(record)
    return parsed


def parse_text(
    where: str, row: int, column: str, text: Any, suggest_encoding: Callable[[str], str] | None = None
) -> str:
    """The text of a cell; raises InputError if it is no string or not Unicode, with a suggested encoding."""
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InputError(f"{where}: row {row}, column {column!r}: expected a text, found {shorten(repr(text))}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code, position = ord(text[error.start]), error.start + 1
        # errors="surrogateescape" decodes an invalid byte b as the lone surrogate 0xDC00 + b
        is_byte = 0xDC80 <= code <= 0xDCFF
        found = f"byte 0x{code - 0xDC00:02X}" if is_byte else f"a lone surrogate \\u{code:04x}"
        way_out = "save the file as UTF-8" if is_byte else "correct the text"
        if suggest_encoding and is_byte:
            way_out += f", or pass its encoding, such as --encoding {suggest_encoding(where)}"
        place = f"{where}: row {row}, column {column!r}"
        raise InputError(f"{place}: {found} at character {position} is not UTF-8; {way_out}") from None
    return text
