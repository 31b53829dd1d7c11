"""Which test texts the second of two classifiers mends, and which it breaks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def count_flips(members: Mapping[str, Sequence[bool]], right_a: ArrayLike, right_b: ArrayLike) -> list[dict[str, Any]]:
    """For each slice its rows, the errors of A and B, the rows that B mends and breaks, and its net gain.

    `members` says for each slice which rows belong to it (`assign_slices`); `right_a` and `right_b` which rows
    each gets right.

    >>> count_flips({"all texts": [True] * 3}, [True, False, False], [False, True, True])
    [{'name': 'all texts', 'rows': 3, 'errors_a': 2, 'errors_b': 1, 'mended': 2, 'broken': 1, 'net': 1}]
    """
    first, second = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    flips = []
    for name, flags in members.items():
        belongs = np.asarray(flags, dtype=bool)
        mended, broken = int((belongs & ~first & second).sum()), int((belongs & first & ~second).sum())
        flips.append(
            {
                "name": name,
                "rows": int(belongs.sum()),
                "errors_a": int((belongs & ~first).sum()),
                "errors_b": int((belongs & ~second).sum()),
                "mended": mended,
                "broken": broken,
                "net": mended - broken,
            }
        )
    return flips


def most_confident_flips(
    predictions_a: Mapping[str, Sequence[Any]], predictions_b: Mapping[str, Sequence[Any]], limit: int = 10
) -> dict[str, list[dict[str, Any]]]:
    """The texts that B `mended` and `broke` with both surest of their labels, at most `limit` each, surest first.

    Both hold the columns of a run's predictions.parquet, for the same rows in the same order; the texts are A's.
    Surest is where the probabilities that the two give the true label, `probability_a` and `probability_b`, lie
    furthest apart.
    """
    flips: dict[str, list[dict[str, Any]]] = {"mended": [], "broken": []}
    columns = zip(*(predictions_a[name] for name in ("row", "text", "label", "predicted", "probability")), strict=True)
    others = zip(predictions_b["predicted"], predictions_b["probability"], strict=True)
    for (row, text, label, guess_a, positive_a), (guess_b, positive_b) in zip(columns, others, strict=True):
        if guess_a != guess_b:
            of_truth = [positive if label == 1 else 1 - positive for positive in (positive_a, positive_b)]
            flip = {"row": row, "text": text, "label": label}
            flip |= {"probability_a": of_truth[0], "probability_b": of_truth[1]}
            flips["mended" if guess_b == label else "broken"].append(flip)
    return {side: sorted(found, key=_by_distance)[:limit] for side, found in flips.items()}


def _by_distance(flip: Mapping[str, Any]) -> tuple[float, int]:
    return -abs(flip["probability_b"] - flip["probability_a"]), flip["row"]
