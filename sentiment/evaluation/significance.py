"""Which of two classifiers is better on the same test rows, by how much, and how sure that is.

The first is called A and the second B; every difference is B minus A.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm

from sentiment.reporting.rendering import format_points, round_for_reading

RESAMPLES = 10_000
SIGNIFICANCE = 0.05
POWER = 0.80
ONE_POINT = 0.01
RULE = (
    "One run is called better where both tests agree: the 95% interval of the accuracy difference leaves out 0, "
    "and the exact McNemar p is below 0.05."
)
# Fewer texts on which just one of the two is right can give no p below 0.05: 2 * 0.5 ** 5 is 0.0625.
FEWEST_DISCORDANT = 6


def compare_predictions(
    labels: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """The scores of both with intervals, how many rows B mends and breaks, McNemar's p, and which is better by `RULE`.

    Labels are 0 or 1; the three have one entry a test row, in the same order. `better` is "a", "b" or None;
    `needed_rows` as in `compute_needed_rows`, for the observed difference and for one of one point.
    """
    # Axes: true label, label by A, label by B. Whatever is compared here depends on the rows through these counts.
    true, first, second = (np.asarray(values, dtype=np.int64) for values in (labels, predicted_a, predicted_b))
    cells = np.bincount(4 * true + 2 * first + second, minlength=8).reshape(2, 2, 2)
    rows, fixes, regressions = (
        int(cells.sum()),
        int(cells[0, 1, 0] + cells[1, 0, 1]),
        int(cells[0, 0, 1] + cells[1, 1, 0]),
    )
    metrics = compare_scores(cells, resamples, seed)
    p_value = compute_mcnemar_p(fixes, regressions)
    discordance, difference = (fixes + regressions) / rows, (fixes - regressions) / rows
    return {
        "test_rows": rows,
        "better": choose_better(metrics["accuracy"]["difference_ci95"], p_value),
        "fixes": fixes,
        "regressions": regressions,
        "mcnemar_p": p_value,
        "needed_rows": compute_needed_rows(difference, discordance),
        "needed_rows_for_one_point": compute_needed_rows(ONE_POINT, max(ONE_POINT, discordance)),
        "metrics": metrics,
    }


def compare_scores(cells: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Each score for `a`, `b` and their `difference`, with 95% intervals from a paired bootstrap over test rows.

    `cells`, of shape (2, 2, 2), counts rows by true label, label by A and label by B. Drawing rows with replacement
    is drawing these counts from a multinomial distribution; an interval is between the 2.5th and 97.5th percentile
    of the resamples (Efron & Tibshirani 1993, chapter 13).
    """
    rows = int(cells.sum())
    drawn = np.random.default_rng(seed).multinomial(rows, cells.ravel() / rows, size=resamples).reshape(-1, 2, 2, 2)
    # The row in front holds the counts themselves; the others are resamples.
    counts = np.concatenate([cells[np.newaxis], drawn])
    scores = zip(compute_scores(counts.sum(axis=3)).items(), compute_scores(counts.sum(axis=2)).values(), strict=True)
    compared: dict[str, dict[str, Any]] = {}
    for (name, score_a), score_b in scores:
        compared[name] = {}
        for key, values in (("a", score_a), ("b", score_b), ("difference", score_b - score_a)):
            compared[name] |= {key: float(values[0]), f"{key}_ci95": np.percentile(values[1:], [2.5, 97.5]).tolist()}
    return compared


def compute_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, precision, recall and F1 of the positive class, and macro F1, by scikit-learn's definitions.

    `confusion` has shape (..., 2, 2), rows true, columns predicted; each score has shape (...), and is 0 where
    scikit-learn would divide by 0.
    """
    (true_negative, false_positive), (false_negative, true_positive) = np.moveaxis(confusion, (-2, -1), (0, 1))
    errors = false_positive + false_negative
    f1 = _divide(2 * true_positive, 2 * true_positive + errors)
    return {
        "accuracy": _divide(true_negative + true_positive, confusion.sum(axis=(-2, -1))),
        "precision": _divide(true_positive, true_positive + false_positive),
        "recall": _divide(true_positive, true_positive + false_negative),
        "f1": f1,
        "macro_f1": (f1 + _divide(2 * true_negative, 2 * true_negative + errors)) / 2,
    }


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def compute_mcnemar_p(fixes: int, regressions: int) -> float:
    """Exact two-sided p that rows which just one of the two gets right fall to either side by chance (McNemar 1947).

    >>> compute_mcnemar_p(10, 2), compute_mcnemar_p(0, 0)
    (0.03857421875, 1.0)
    """
    return float(binomtest(fixes, fixes + regressions).pvalue) if fixes + regressions else 1.0


def choose_better(interval: Sequence[float], p_value: float) -> str | None:
    """Which is better by `RULE`, "a" or "b"; None where it cannot be told. `interval` is that of B minus A."""
    low, high = interval
    if p_value >= SIGNIFICANCE or low <= 0 <= high:
        return None
    return "b" if low > 0 else "a"


def compute_needed_rows(difference: float, discordance: float) -> int | None:
    """Test rows at which McNemar's test sees a difference with 80% power at the 5% level; None for a difference of 0.

    Args:
        difference: of the accuracies.
        discordance: share of the rows that just one of the two gets right, at least as large.

    Connor 1987, Biometrics 43, 207-211; with shares of 0.45 and 0.05, for example, 23 pairs:

    >>> compute_needed_rows(0.45 - 0.05, 0.45 + 0.05)
    23
    """
    if difference == 0:
        return None
    certainty, reach = norm.ppf(1 - SIGNIFICANCE / 2), norm.ppf(POWER)
    spread = math.sqrt(max(0.0, discordance - difference**2))  # rounding may take it below 0
    rows = ((certainty * math.sqrt(discordance) + reach * spread) / difference) ** 2
    return math.ceil(max(rows, FEWEST_DISCORDANT / discordance))


def describe_verdict(name_a: str, name_b: str, outcome: Mapping[str, Any]) -> str:
    """The verdict on a `compare_predictions` in one sentence, from the side of the run that is ahead."""
    accuracy = outcome["metrics"]["accuracy"]
    ahead, behind = (name_b, name_a) if accuracy["difference"] >= 0 else (name_a, name_b)
    sign = 1 if ahead == name_b else -1
    interval = sorted(sign * end for end in accuracy["difference_ci95"])
    points, low, high = format_points(sign * accuracy["difference"], *interval)
    range_in_words = f"(95% interval {low} to {high})"
    if outcome["better"]:
        return f"{ahead} is better than {behind} by {points} points {range_in_words}."
    start = "Cannot tell at this size:"
    if not outcome["fixes"] + outcome["regressions"]:
        return f"{start} {name_b} and {name_a} are right and wrong on the same rows."
    if accuracy["difference"]:
        needed, size = outcome["needed_rows"], "that size"
        found = f"{ahead} is ahead of {behind} by {points} points {range_in_words}"
    else:
        needed, size = outcome["needed_rows_for_one_point"], "one point"
        found = f"{name_b} and {name_a} are right on equally many rows {range_in_words}"
    if needed <= outcome["test_rows"]:
        return f"{start} {found}, where a difference of {size} would be seen four times out of five."
    needed_rows = f"about {round_for_reading(needed)} test rows would be needed"
    return f"{start} {found}; {needed_rows} to see a difference of {size} four times out of five."


def compute_wilson_interval(count: int, rows: int) -> list[float]:
    """Lower and upper end of the 95% interval of a share, by Wilson's score method (Wilson 1927).

    Unlike the textbook interval it stays inside 0 and 1, and holds for few rows and shares near 0 or 1.

    >>> [round(end, 4) for end in compute_wilson_interval(90, 100)]
    [0.8256, 0.9448]
    """
    interval = binomtest(count, rows).proportion_ci(method="wilson")
    return [float(interval.low), float(interval.high)]
