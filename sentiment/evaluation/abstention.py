"""Abstention: which share of texts can be answered at which accuracy, if uncertain ones are left to people."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sentiment.evaluation.intervals import compute_proportion_interval, number_clusters

CURVE_POINTS = 50


def compute_coverage_curve(confidences: ArrayLike, correct: ArrayLike) -> list[dict[str, float]]:
    """Points of the curve of accuracy against coverage: `coverage`, `accuracy`, and the lowest confidence, `threshold`.

    Answers of equal confidence are given or withheld together (El-Yaniv & Wiener 2010, JMLR 11, 1605-1641).
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    sorted_confidences, right = np.asarray(confidences)[order], np.asarray(correct, dtype=float)[order]
    ends = np.flatnonzero(np.append(np.diff(sorted_confidences) < 0, True))
    if len(ends) > CURVE_POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, CURVE_POINTS).round().astype(int))]
    return [
        {
            "coverage": float((end + 1) / len(order)),
            "accuracy": float(right[: end + 1].mean()),
            "threshold": float(sorted_confidences[end]),
        }
        for end in ends
    ]


def choose_threshold(confidences: ArrayLike, correct: ArrayLike, target_accuracy: float) -> float | None:
    """The lowest confidence above which answers reach an accuracy; None if no threshold does."""
    order = np.argsort(-np.asarray(confidences), kind="stable")
    sorted_confidences, right = np.asarray(confidences)[order], np.asarray(correct, dtype=float)[order]
    accuracies = np.cumsum(right) / np.arange(1, len(right) + 1)
    is_end = np.append(np.diff(sorted_confidences) < 0, True)
    reached = np.flatnonzero(is_end & (accuracies >= target_accuracy))
    return float(sorted_confidences[reached[-1]]) if len(reached) else None


def evaluate_threshold(
    confidences: ArrayLike, correct: ArrayLike, threshold: float, clusters: ArrayLike | None = None
) -> dict[str, Any]:
    """`coverage` and `accuracy` of the answers with at least a confidence, each with its 95% interval."""
    right = np.asarray(correct, dtype=bool)
    answered = np.asarray(confidences) >= threshold
    ids = number_clusters(clusters, len(right))
    found: dict[str, Any] = {
        "coverage": float(answered.mean()),
        "coverage_ci95": compute_proportion_interval(answered, ids),
    }
    if answered.any():
        own_ids = np.unique(ids[answered], return_inverse=True)[1]
        found |= {
            "accuracy": float(right[answered].mean()),
            "accuracy_ci95": compute_proportion_interval(right[answered], own_ids),
        }
    return found


def compute_accuracy_at(confidences: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """The accuracy of the most confident share of the answers.

    >>> compute_accuracy_at([0.9, 0.8, 0.6, 0.5], [1, 1, 0, 1], 0.5)
    1.0
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    kept = max(1, round(coverage * len(order)))
    return float(np.asarray(correct, dtype=float)[order[:kept]].mean())


def evaluate_abstention(
    confidences: ArrayLike,
    correct: ArrayLike,
    threshold: float | None,
    target_accuracy: float,
    clusters: ArrayLike | None = None,
) -> dict[str, Any]:
    """The coverage curve, the accuracy at 90% coverage, and what a threshold for a target accuracy gives."""
    return {
        "curve": compute_coverage_curve(confidences, correct),
        "accuracy_at_90": compute_accuracy_at(confidences, correct, 0.9),
        "target_accuracy": target_accuracy,
        "threshold": threshold,
        "at_threshold": None if threshold is None else evaluate_threshold(confidences, correct, threshold, clusters),
    }
