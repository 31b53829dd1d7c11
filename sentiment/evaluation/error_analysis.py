"""Where classifiers err: error rates by slice, the most confident errors, and what a second model fixes or breaks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerBase

from sentiment.evaluation.significance import compute_proportion_interval, number_clusters
from sentiment.evaluation.slices import assign_slices


def compute_slice_metrics(
    predictions: Mapping[str, Sequence[Any]], tokenizer: PreTrainedTokenizerBase, clusters: ArrayLike | None = None
) -> list[dict[str, Any]]:
    """`rows`, `errors`, `error_rate` and its 95% interval for all texts, then for each of `SLICES`, in their order.

    `predictions` holds the columns of a run's predictions.parquet, `clusters` a cluster id of each row (see
    `significance`). The rate and the interval of an empty slice are None.
    """
    wrong = np.not_equal(predictions["label"], predictions["predicted"])
    ids = number_clusters(clusters, len(wrong))
    return [
        {"name": name, "rows": int(mask.sum()), "errors": int(wrong[mask].sum())}
        | {
            "error_rate": float(wrong[mask].mean()) if mask.any() else None,
            "error_rate_ci95": compute_proportion_interval(wrong[mask], ids[mask]) if mask.any() else None,
        }
        for name, mask in assign_slices(predictions["text"], tokenizer).items()
    ]


def find_most_confident_errors(predictions: Mapping[str, Sequence[Any]], limit: int = 20) -> list[dict[str, Any]]:
    """The misclassified texts with the highest probability of the predicted label, at most `limit`, highest first.

    `predictions` holds the columns of a run's predictions.parquet.

    >>> columns = {"row": [7, 8], "text": ["fine", "dull"], "label": [1, 0], "predicted": [1, 1]}
    >>> find_most_confident_errors(columns | {"probability": [0.9, 0.75]})
    [{'row': 8, 'text': 'dull', 'label': 0, 'predicted': 1, 'confidence': 0.75}]
    """
    errors = [
        {"row": row, "text": text, "label": label, "predicted": answer}
        | {"confidence": positive if answer == 1 else 1.0 - positive}
        for row, text, label, answer, positive in _iterate_rows(predictions)
        if label != answer
    ]
    return sorted(errors, key=lambda error: (-error["confidence"], error["row"]))[:limit]


def _iterate_rows(predictions: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*(predictions[name] for name in ("row", "text", "label", "predicted", "probability")), strict=True)


def count_fixes_and_regressions(
    slices: Mapping[str, np.ndarray], correct_a: ArrayLike, correct_b: ArrayLike
) -> list[dict[str, Any]]:
    """For each slice its rows, the errors of A and B, the rows that B fixes and breaks, and the net gain.

    `slices` are the masks of `assign_slices`; `correct_a` and `correct_b` say which rows each model classifies
    correctly.

    >>> count_fixes_and_regressions({"all texts": np.ones(3, bool)}, [True, False, False], [False, True, True])
    [{'name': 'all texts', 'rows': 3, 'errors_a': 2, 'errors_b': 1, 'fixes': 2, 'regressions': 1, 'net': 1}]
    """
    first, second = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    counts = []
    for name, mask in slices.items():
        fixes, regressions = int((mask & ~first & second).sum()), int((mask & first & ~second).sum())
        counts.append(
            {
                "name": name,
                "rows": int(mask.sum()),
                "errors_a": int((mask & ~first).sum()),
                "errors_b": int((mask & ~second).sum()),
                "fixes": fixes,
                "regressions": regressions,
                "net": fixes - regressions,
            }
        )
    return counts


def find_most_confident_flips(
    predictions_a: Mapping[str, Sequence[Any]], predictions_b: Mapping[str, Sequence[Any]], limit: int = 10
) -> dict[str, list[dict[str, Any]]]:
    """The `fixes` and `regressions` of B whose probabilities of the true label differ most, at most `limit` each.

    Both hold the columns of a run's predictions.parquet, for the same rows in the same order; the texts are A's.
    `probability_a` and `probability_b` are those of the true label.
    """
    flips: dict[str, list[dict[str, Any]]] = {"fixes": [], "regressions": []}
    others = zip(predictions_b["predicted"], predictions_b["probability"], strict=True)
    pairs = zip(_iterate_rows(predictions_a), others, strict=True)
    for (row, text, label, answer_a, positive_a), (answer_b, positive_b) in pairs:
        if answer_a != answer_b:
            probability_a, probability_b = (value if label == 1 else 1 - value for value in (positive_a, positive_b))
            flip = {"row": row, "text": text, "label": label}
            flip |= {"probability_a": probability_a, "probability_b": probability_b}
            flips["fixes" if answer_b == label else "regressions"].append(flip)
    return {kind: sorted(found, key=_sort_by_change)[:limit] for kind, found in flips.items()}


def _sort_by_change(flip: Mapping[str, Any]) -> tuple[float, int]:
    return -abs(flip["probability_b"] - flip["probability_a"]), flip["row"]
