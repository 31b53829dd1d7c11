"""Text and label columns of a dataset, and the values of a label; imports no `datasets`, as serving does without."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentiment.exceptions import InputError, require

LABEL_NAMES = ("negative", "positive")  # label 0, label 1
UNLABELLED = -1
PROBABILITY_PREFIX = "p_"  # of the column with the probability of a class, in every output
TEXT_COLUMNS = ("text", "sentence", "review")
LABEL_COLUMN = "label"
# A label under another name would be read as "unlabelled": these names are refused.
NEAR_LABEL_COLUMNS = ("labels", "sentiment", "sentiments", "polarity", "class", "target")
LABEL_VALUES = {
    **dict.fromkeys(("negative", "neg", "0", "0.0", "false"), 0),
    **dict.fromkeys(("positive", "pos", "1", "1.0", "true"), 1),
    **dict.fromkeys(("", "-1", "-1.0", "nan"), UNLABELLED),  # a missing number in a Parquet file is nan
}


def canonical_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of classes; two that mean negative and positive, in this order, as `LABEL_NAMES`.

    >>> canonical_names(["NEG", "POS"]), canonical_names(["LABEL_0", "LABEL_1"]), canonical_names(["1", "2"])
    (('negative', 'positive'), ('negative', 'positive'), ('1', '2'))
    """
    found = tuple(names)
    plain = [name.strip().lower().removeprefix("label_") for name in found]
    return LABEL_NAMES if [LABEL_VALUES.get(name) for name in plain] == [0, 1] else found


@dataclass(frozen=True)
class ColumnOptions:
    """Which columns to read: names as on the command line, or the usual ones; labels, or text alone."""

    text_column_names: str | None = None
    label_column_name: str | None = None
    with_labels: bool = True


@dataclass(frozen=True)
class Columns:
    """The columns of a source, `label` empty if there is none; `class_names` name the numbers in the label column."""

    texts: tuple[str, ...] = ()
    label: str = ""
    class_names: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Text columns and label column."""
        return [*self.texts, *([self.label] if self.label else [])]


def match_columns(
    where: str, names: Iterable[str], options: ColumnOptions, features: Mapping[str, Any] | None = None
) -> Columns:
    """Find the text columns and the label column, if any; case and surrounding spaces are ignored."""
    found = list(names)
    listing = f"found columns: {shorten(', '.join(map(repr, found)), 200) or 'none'}"

    def find(candidates: Sequence[str], error: str = "") -> str:
        matches = [name for name in found if name.strip().lower() in candidates]
        several = " and ".join(map(repr, matches))
        require(len(matches) < 2, f"{where}: columns {several} are ambiguous: keep one, or pass its name; {listing}")
        require(bool(matches) or not error, f"{where}: {error}; {listing}")
        return matches[0] if matches else ""

    def find_option(name: str, option: str) -> str:
        return find([name.strip().lower()], f"no column {name.strip()!r} for --{option}")

    if options.text_column_names:
        texts = [find_option(name, "text_column_names") for name in options.text_column_names.split(",")]
    else:
        texts = [find(TEXT_COLUMNS, "no text column: name it text, sentence or review, or pass --text_column_names")]
    if not options.with_labels:
        return Columns(tuple(texts))
    if options.label_column_name:
        label = find_option(options.label_column_name, "label_column_name")
    else:
        label = find([LABEL_COLUMN])
        near = [name for name in found if name.strip().lower() in NEAR_LABEL_COLUMNS and name not in texts]
        if near and not label:
            raise InputError(
                f"{where}: no column 'label', but {near[0]!r}: rename it, pass --label_column_name {near[0]}, or "
                f"remove it if the reviews are unlabelled; {listing}"
            )
    return Columns(tuple(texts), label, tuple(getattr((features or {}).get(label), "names", ())))


def parse_row(where: str, row: int, columns: Columns, record: Mapping[str, Any]) -> dict[str, Any]:
    """One row as `{"text": str, "label": 0, 1 or -1}`: texts joined by a space, missing values empty or -1."""
    texts = [parse_text(where, row, name, record[name]) for name in columns.texts]
    label = record.get(columns.label)
    if columns.class_names and label is not None and 0 <= label < len(columns.class_names):
        label = columns.class_names[label]  # 0 may mean "positive"
    number = UNLABELLED if label is None else LABEL_VALUES.get(str(label).strip().lower())
    if number is None:
        raise InputError(
            f"{where}: row {row}, column {columns.label!r}: label {shorten(repr(label))} is neither 0/negative nor "
            "1/positive; leave it empty or -1 for an unlabelled review"
        )
    return {"text": " ".join(texts), "label": number}


def parse_text(where: str, row: int, column: str, text: Any) -> str:
    """The text of a cell; raises InputError if it is no string or not Unicode."""
    place = f"{where}: row {row}, column {column!r}"
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InputError(f"{place}: expected a text, found {shorten(repr(text))}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code, position = ord(text[error.start]), error.start + 1
        # errors="surrogateescape" decodes an invalid byte b as the lone surrogate 0xDC00 + b
        found = f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"a lone surrogate \\u{code:04x}"
        problem = f"{place}: {found} at character {position} is not UTF-8; save the file as UTF-8"
        raise InputError(problem) from None
    return text


def shorten(text: str, length: int = 60) -> str:
    """The text, truncated to fit into one line of a message.

    >>> shorten("wonderful", 6)
    'won...'
    """
    return text if len(text) <= length else text[: length - 3] + "..."
