"""Where classifiers err: error rates by slice, the most confident errors, and which errors a second model fixes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerBase

from sentiment.evaluation.significance import compute_wilson_interval
from sentiment.evaluation.slices import assign_slices


def compute_slices(
    texts: Sequence[str], labels: Sequence[int], predicted: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    """Rows, errors, error rate and its 95% interval for all texts, then for each of `SLICES`, in their order.

    A slice without rows stays in the list, with None for the rate and the interval.
    """
    wrong = [label != guess for label, guess in zip(labels, predicted, strict=True)]
    return [
        _summarize_slice(name, (is_wrong for is_wrong, member in zip(wrong, members, strict=True) if member))
        for name, members in assign_slices(texts, tokenizer).items()
    ]


def _summarize_slice(name: str, wrong: Iterable[bool]) -> dict[str, Any]:
    outcomes = list(wrong)
    rows, errors = len(outcomes), sum(outcomes)
    return {
        "name": name,
        "rows": rows,
        "errors": errors,
        "error_rate": errors / rows if rows else None,
        "error_rate_ci95": compute_wilson_interval(errors, rows) if rows else None,
    }


def find_most_confident_errors(
    texts: Sequence[str],
    labels: Sequence[int],
    predicted: Sequence[int],
    probabilities: Sequence[float],
    limit: int = 20,
) -> list[dict[str, Any]]:
    """The misclassified texts that the model was surest of, at most `limit`, surest first, then by row.

    `probabilities` are those of positive; `confidence` is the probability of the predicted label.

    >>> find_most_confident_errors(["fine", "dull"], [1, 0], [1, 1], [0.9, 0.75])
    [{'row': 1, 'text': 'dull', 'label': 0, 'predicted': 1, 'confidence': 0.75}]
    """
    errors: list[dict[str, Any]] = [
        {
            "row": row,
            "text": text,
            "label": int(label),
            "predicted": int(guess),
            "confidence": float(probability if guess == 1 else 1.0 - probability),
        }
        for row, (text, label, guess, probability) in enumerate(
            zip(texts, labels, predicted, probabilities, strict=True)
        )
        if label != guess
    ]
    return sorted(errors, key=lambda error: (-error["confidence"], error["row"]))[:limit]


def count_fixes_and_regressions(
    members: Mapping[str, Sequence[bool]], right_a: ArrayLike, right_b: ArrayLike
) -> list[dict[str, Any]]:
    """For each slice its rows, the errors of A and B, the rows that B mends and breaks, and its net gain.

    `members` says for each slice which rows belong to it (`assign_slices`); `right_a` and `right_b` which rows
    each gets right.

    >>> count_fixes_and_regressions({"all texts": [True] * 3}, [True, False, False], [False, True, True])
    [{'name': 'all texts', 'rows': 3, 'errors_a': 2, 'errors_b': 1, 'fixes': 2, 'regressions': 1, 'net': 1}]
    """
    first, second = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    flips = []
    for name, flags in members.items():
        belongs = np.asarray(flags, dtype=bool)
        fixes, regressions = int((belongs & ~first & second).sum()), int((belongs & first & ~second).sum())
        flips.append(
            {
                "name": name,
                "rows": int(belongs.sum()),
                "errors_a": int((belongs & ~first).sum()),
                "errors_b": int((belongs & ~second).sum()),
                "fixes": fixes,
                "regressions": regressions,
                "net": fixes - regressions,
            }
        )
    return flips


def find_most_confident_flips(
    predictions_a: Mapping[str, Sequence[Any]], predictions_b: Mapping[str, Sequence[Any]], limit: int = 10
) -> dict[str, list[dict[str, Any]]]:
    """The texts that B `fixes` and `broke` with both surest of their labels, at most `limit` each, surest first.

    Both hold the columns of a run's predictions.parquet, for the same rows in the same order; the texts are A's.
    Surest is where the probabilities that the two give the true label, `probability_a` and `probability_b`, lie
    furthest apart.
    """
    flips: dict[str, list[dict[str, Any]]] = {"fixes": [], "regressions": []}
    columns = zip(*(predictions_a[name] for name in ("row", "text", "label", "predicted", "probability")), strict=True)
    others = zip(predictions_b["predicted"], predictions_b["probability"], strict=True)
    for (row, text, label, guess_a, positive_a), (guess_b, positive_b) in zip(columns, others, strict=True):
        if guess_a != guess_b:
            of_truth = [positive if label == 1 else 1 - positive for positive in (positive_a, positive_b)]
            flip = {"row": row, "text": text, "label": label}
            flip |= {"probability_a": of_truth[0], "probability_b": of_truth[1]}
            flips["fixes" if guess_b == label else "regressions"].append(flip)
    return {side: sorted(found, key=_by_distance)[:limit] for side, found in flips.items()}


def _by_distance(flip: Mapping[str, Any]) -> tuple[float, int]:
    return -abs(flip["probability_b"] - flip["probability_a"]), flip["row"]
