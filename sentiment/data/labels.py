"""Labels and the columns of a row of reviews."""

from collections.abc import Iterable
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
LABEL_NAMES = ("negative", "positive")  # label 0, label 1


def match_columns(where: str, names: Iterable[str], with_labels: bool = True) -> tuple[str, str | None]:
    """Names of the text column and, if there is one, of the label column; case and spaces do not count.

    Without `with_labels` only the text column is looked for, and None given for the other.
    Raises `InputError` if there is no text column or more than one, or if a label column seems misnamed.
    """
    found = list(names)
    keys = [name.strip().lower() for name in found]
    listing = shorten(", ".join(repr(name) for name in found), 200) or "none"
    texts = [name for name, key in zip(found, keys, strict=True) if key in TEXT_COLUMNS]
    labels = [name for name, key in zip(found, keys, strict=True) if with_labels and key == LABEL_COLUMN]
    if not texts:
        raise InputError(
            f"{where}: no text column; one must be named text, sentence or review; found columns: {listing}"
        )
    if len(texts) > 1 or len(labels) > 1:
        several = " and ".join(repr(name) for name in (texts if len(texts) > 1 else labels))
        raise InputError(f"{where}: columns {several} stand for the same thing; keep one; found columns: {listing}")
    near = [name for name, key in zip(found, keys, strict=True) if key in NEAR_LABEL_COLUMNS]
    if with_labels and not labels and near:
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
        raise InputError(f"{where}: row {row}, column {columns[0]!r}: expected a text, found {shorten(repr(text))}")
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
        found = f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"a lone surrogate \\u{code:04x}"
        raise InputError(
            f"{where}: row {row}, column {column!r}: {found} at character {error.start + 1} is not UTF-8; "
            "save the file as UTF-8"
        ) from None
