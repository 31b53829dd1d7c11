"""Classes whose names look like misspellings or missing values, and the option that corrects each."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

from sentiment.data.labels import shorten

MISSPELT_LENGTH = 4  # letters of names that are compared for misspellings
MISSING_VALUES = {"null", "none", "n/a", "na", "#n/a", "<na>", "nil", "-", "?"}


def describe_suspicious_classes(audit: dict[str, Any]) -> list[str]:
    """The classes whose names look like misspellings of others, or like missing values, and what to do about each."""
    counts: Counter[str] = Counter()
    for part in audit["splits"].values():
        counts.update({name: count for name, count in part["labels"].items() if name != "unlabelled"})
    pairs = find_misspelt_classes(counts)
    found = ", ".join(f"{name!r} ({counts[name]:,} rows) is one letter from {other!r}" for name, other in pairs.items())
    advice = f"if that is a misspelling, join them: {suggest_mapping(counts, pairs)}"
    misspelt = [f"class {shorten(found, 200)}: {advice}"] if found else []
    return misspelt + [
        f"class {name!r} ({count:,} rows): if that is a missing value, pass --unlabelled_value {shlex.quote(name)}"
        for name, count in counts.items()
        if name.lower() in MISSING_VALUES
    ]


def find_misspelt_classes(counts: Mapping[str, int]) -> dict[str, str]:
    """Rare classes by the name of a common one that theirs differs from by one letter, as misspelt labels do.

    Rare is a fifth of the other's rows or fewer.

    >>> find_misspelt_classes({"positive": 500, "postive": 3, "negative": 400, "class1": 5, "class2": 100})
    {'postive': 'positive'}
    """
    common = [(name, count) for name, count in counts.items() if len(name) >= MISSPELT_LENGTH]
    return {
        name: other
        for name, count in common
        for other, rows in common
        if 0 < 5 * count <= rows and differs_by_one_letter(name.casefold(), other.casefold())
    }


def suggest_mapping(names: Iterable[str], misspelt: Mapping[str, str]) -> str:
    """The option that joins misspelt classes; without its value if there are none, or a name holds one of its signs.

    >>> suggest_mapping(["bad", "good", "goood"], {"goood": "good"})
    '--label_mapping bad=bad,good=good,goood=good'
    """
    value = ",".join(f"{name}={misspelt.get(name, name)}" for name in names)
    is_plain = len(value) <= 200 and re.fullmatch(r"[\w.+=,-]+", value) and value.count("=") == value.count(",") + 1
    return f"--label_mapping {value}" if misspelt and is_plain else "--label_mapping"


def differs_by_one_letter(name: str, other: str) -> bool:
    """Whether a letter was added, left out or replaced, or two neighbours swapped.

    >>> differs_by_one_letter("positive", "postiive"), differs_by_one_letter("class1", "class2")
    (True, False)
    """
    for _ in range(2):  # without what they have in common at the start, then at the end
        equal = sum(1 for _ in takewhile(lambda letters: letters[0] == letters[1], zip(name, other, strict=False)))
        name, other = name[equal:][::-1], other[equal:][::-1]
    is_swapped = len(name) == 2 and name == other[::-1]
    return f"{name}{other}".isalpha() and (is_swapped or max(len(name), len(other)) == 1)
