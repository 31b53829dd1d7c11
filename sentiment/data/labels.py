"""Classes and their names, from the values of a label column; imports no `datasets`, as serving does without."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sentiment.exceptions import InputError, require

LABEL_NAMES = ("negative", "positive")  # of two classes whose names are among BINARY_VALUES
BINARY_VALUES = {
    **dict.fromkeys(("negative", "neg", "0", "false"), 0),
    **dict.fromkeys(("positive", "pos", "1", "true"), 1),
}
DIGITS = ("0", "1")  # the names of classes of a rating, as they are
UNLABELLED = -1
LEFT_OUT = -2  # by --label_mapping
MASKED = "-1"  # the label of every row of a test split whose labels are not published
MAX_CLASSES = 1000
UNCERTAIN = "uncertain"  # the label of an answer that is withheld
PROBABILITY_PREFIX = "p_"  # of the column with the probability of a class, in every output
# Of a number column with missing values, which pandas writes as 1.0, and a spreadsheet in many countries as 1,0.
WHOLE_FLOAT = re.compile(r"(?:\+?(-?\d+)(?:\.0+|,0)|\+(\d+))")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def canonical_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of classes; two that mean negative and positive, in this order, as `LABEL_NAMES`.

    >>> canonical_names(["NEG", "POS"]), canonical_names(["LABEL_0", "LABEL_1"]), canonical_names(["1", "2"])
    (('negative', 'positive'), ('negative', 'positive'), ('1', '2'))
    """
    found = tuple(names)
    return LABEL_NAMES if read_polarities(found) == [0, 1] else found


def read_polarities(names: Iterable[str]) -> list[int]:
    """0 for each name that means negative, 1 for positive, `UNLABELLED` for another."""
    return [BINARY_VALUES.get(name.strip().lower().removeprefix("label_"), UNLABELLED) for name in names]


def has_polarity(class_names: Sequence[str]) -> bool:
    """Whether the classes are negative and positive, in this order.

    >>> has_polarity(["neg", "pos"]), has_polarity(["ham", "spam"])
    (True, False)
    """
    return canonical_names(class_names) == LABEL_NAMES


def name_positive_class(class_names: Sequence[str]) -> str:
    """The class that precision, recall and F1 are of, in words; empty for positive.

    >>> name_positive_class(["ham", "spam"]), name_positive_class(LABEL_NAMES)
    (' of spam', '')
    """
    return "" if tuple(class_names) == LABEL_NAMES else f" of {class_names[1]}"


@dataclass(frozen=True)
class LabelOptions:
    """What label values mean: `mapping` to classes (None: leave the row out), and the value of unlabelled rows.

    `known` are the classes of a model: labels that are all among them keep their names, also 0 and 1.
    """

    mapping: Mapping[str, str | None] | None = None
    unlabelled_value: str | None = None
    known: tuple[str, ...] = ()


def plain_label(value: Any) -> str | None:
    """A label value as text: 1, 1.0 and "1.0" are "1", True is "true"; None for a missing one.

    Raises:
        ValueError: it is no string, number or boolean.
    """
    if isinstance(value, str):
        return plain_text_label(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (bool, int, float, Decimal)) or type(value).__module__ == "numpy":
        return plain_text_label(str(value))
    raise ValueError(value)


@lru_cache(MAX_CLASSES)
def plain_text_label(value: str) -> str | None:
    """`plain_label` of a text."""
    text = value.strip()
    if match := WHOLE_FLOAT.fullmatch(text):
        text = match[1] or match[2]
    text = text.lower() if text in ("True", "False") else text
    return None if text.lower() in ("", "nan") else text


def parse_label_mapping(value: str | Mapping[Any, Any] | None) -> dict[str, str | None] | None:
    """The mapping of `--label_mapping`: from plain labels to names of classes, None for rows to leave out.

    Raises:
        InputError: an entry without `=`, or a label twice.

    >>> parse_label_mapping("1=negative,3=null,5.0=positive")
    {'1': 'negative', '3': None, '5': 'positive'}
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InputError(f"--label_mapping is not JSON: {error}") from error
    if isinstance(value, str):
        entries = [entry.rpartition("=") for entry in value.split(",")]
        problem = f"--label_mapping {value}: pass label=class, separated by commas, or a mapping in a --config file"
        require(all(sign for _, sign, _ in entries), problem)
        pairs: list[tuple[Any, Any]] = [(label, name) for label, _, name in entries]
    else:
        pairs = [*value.items()]
    mapping: dict[str, str | None] = {}
    for label, name in pairs:
        key, target = plain_label(label), plain_label(name)
        require(key is not None, "--label_mapping: a missing label cannot be mapped, it is unlabelled")
        require(
            str(key).casefold() not in {other.casefold() for other in mapping}, f"--label_mapping names {key} twice"
        )
        mapping[str(key)] = None if target is None or target.lower() == "null" else target
    return mapping


def fold_mapping(mapping: Mapping[str, str | None]) -> dict[str, str | None]:
    """The mapping without regard to case; the name of a class is its label too, unless it is a number.

    A number may be another label.

    >>> fold_mapping({"1": "Bad", "2": "3"})
    {'bad': 'Bad', '1': 'Bad', '2': '3'}
    """
    names = {name.casefold(): name for name in mapping.values() if name and not NUMBER.fullmatch(name)}
    return {**names, **{label.casefold(): name for label, name in mapping.items()}}


def encode_labels(
    where: str,
    counts: Mapping[str, Mapping[str | None, int]],
    options: LabelOptions,
    declared: Sequence[str] = (),
    is_rating: bool = False,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of the classes, and the number of the class of each plain label.

    Case does not count. Two classes that mean negative and positive are `LABEL_NAMES`. Classes are in the order of
    `declared`, the names of a `ClassLabel`, else in that of their numbers, else in alphabetical order.

    Args:
        where: the source, for messages.
        counts: rows by split and plain label.
        options: a mapping to classes, and the value of unlabelled rows.
        declared: names of a `ClassLabel`, whose classes may have no rows.
        is_rating: the labels are ratings, of which 0 and 1 are no names for negative and positive.

    Raises:
        InputError: over `MAX_CLASSES` classes, a label that the mapping lacks, or -1 beside other labels.
    """
    declared = [plain_label(name) or name for name in declared]  # as the labels of rows are
    ids, names = {}, {name.casefold(): name for name in declared if not options.mapping}
    mapping = fold_mapping(options.mapping or {})
    unlabelled = plain_label(options.unlabelled_value)
    found = {label: split for split, labels in counts.items() for label in labels if label is not None}
    for label, split in found.items():
        if unlabelled is not None and label.casefold() == unlabelled.casefold():
            ids[label] = UNLABELLED
            continue
        name: str | None = label
        if mapping:
            problem = f"{where}: split {split} has the label {shorten(label)!r}, which --label_mapping lacks"
            require(label.casefold() in mapping, f"{problem}: map it to a class, or to null to leave its rows out")
            name = mapping[label.casefold()]
        elif label == MASKED and not declared:
            check_masked(where, counts)
            ids[label] = UNLABELLED
            continue
        if name is None:
            ids[label] = LEFT_OUT
        else:
            names.setdefault(name.casefold(), name)
    require(
        len(names) <= MAX_CLASSES,
        f"{where}: {len(names):,} different labels, over {MAX_CLASSES:,}: that is no column of classes; name another "
        "column with --label_column_name, or map the labels with --label_mapping",
    )
    classes: tuple[str, ...] = LABEL_NAMES
    number = {name: BINARY_VALUES.get(name, 0) for name in names}
    is_rated = is_rating and not options.mapping and names.keys() <= {*DIGITS}
    is_known = bool(names) and names.keys() <= {name.strip().casefold() for name in options.known}
    if is_rated or is_known or not names.keys() <= BINARY_VALUES.keys():
        classes = order_classes(names.values(), declared or options.known)
        number = {name.casefold(): place for place, name in enumerate(classes)}
    for label in found:
        if label not in ids:
            ids[label] = number[(mapping[label.casefold()] or "" if mapping else label).casefold()]
    return classes, ids


def order_classes(names: Iterable[str], declared: Sequence[str] = ()) -> tuple[str, ...]:
    """The names in the order of `declared`, then of their numbers if all are numbers, else of the alphabet.

    >>> order_classes(["10", "9", "1"]), order_classes(["good", "Bad"])
    (('1', '9', '10'), ('Bad', 'good'))
    """
    given = [*names]
    if declared:
        order = {name: place for place, name in enumerate(declared)}
        return tuple(sorted(given, key=lambda name: (order.get(name, len(order)), name)))
    if all(map(NUMBER.fullmatch, given)):
        return tuple(sorted(given, key=float))
    return tuple(sorted(given, key=lambda name: (name.casefold(), name)))


def check_masked(where: str, counts: Mapping[str, Mapping[str | None, int]]) -> None:
    """Raises InputError if a split has rows with label -1 beside other labels: it may mean negative, or unlabelled."""
    for split, labels in counts.items():
        others = ", ".join(str(label) for label in labels if label not in (None, MASKED))
        require(
            MASKED not in labels or not others,
            f"{where}: split {split} has {labels.get(MASKED, 0):,} rows with label -1 beside {shorten(others, 40)}: "
            "pass --label_mapping -1=negative,1=positive (or other classes), or --unlabelled_value -1",
        )


def align_labels(class_names: Sequence[str], checkpoint_names: Sequence[str], where: str, model: str) -> list[int]:
    """For each class of a dataset, the number of the model's class of the same name; case and outer spaces are ignored.

    The dataset may lack some of the model's classes. `where` and `model` name the two in the message.

    Raises:
        InputError: the model has no class of one of these names.

    >>> align_labels(["positive", "Neutral "], ["negative", "neutral", "positive"], "a.csv", "outputs/e2e")
    [2, 1]
    """
    exact = {name: number for number, name in enumerate(checkpoint_names)}
    folded = {name.strip().casefold(): number for name, number in exact.items()}
    if tuple(checkpoint_names) == DIGITS:
        exact |= {name: number for number, name in enumerate(LABEL_NAMES)}
    polarities = read_polarities(checkpoint_names)
    if sorted(polarities) == [0, 1]:  # in either order
        exact |= {LABEL_NAMES[polarity]: number for number, polarity in enumerate(polarities)}
    names = class_names if tuple(class_names) == DIGITS else canonical_names(class_names)
    found = [exact.get(name, folded.get(name.strip().casefold())) for name in names]
    listed = [shorten(", ".join(names), 200) for names in (class_names, checkpoint_names)]
    require(
        None not in found,
        f"the classes of {where} are {listed[0]}, and those of {model} are {listed[1]}: they must have the same names, "
        "which --label_mapping can give them",
    )
    return [number for number in found if number is not None]


def shorten(text: str, length: int = 60) -> str:
    """The text, truncated to fit into one line of a message.

    >>> shorten("wonderful", 6)
    'won...'
    """
    return text if len(text) <= length else text[: length - 3] + "..."
