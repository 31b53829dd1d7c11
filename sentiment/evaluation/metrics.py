"""Metrics of a two-class sentiment classifier, computed offline through `evaluate` and scikit-learn."""

import tempfile
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.significance import compute_proportion_interval

# Keeps the mean log loss finite if the probability of the true class is 0.
SMALLEST_PROBABILITY = 1e-12
CLASS_SCORES = ("precision", "recall", "f1", "support")


class SentimentMetrics(evaluate.Metric):  # type: ignore[misc]
    """Accuracy with its 95% interval, precision, recall and F1 of the positive class and of each class, and macro F1.

    The confusion matrix has true labels in rows; with `clusters` (an id per row), the interval is cluster-robust.
    """

    def __init__(self) -> None:
        # In memory, without a lock, for concurrent processes; the default cache folder, created even so, may be
        # read-only.
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Metrics of a two-class sentiment classifier, whose labels are 0 (negative) and 1 (positive).",
            citation="",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(
        self, predictions: list[int], references: list[int], clusters: ArrayLike | None = None
    ) -> dict[str, Any]:
        predicted, true = np.asarray(predictions), np.asarray(references)
        if not np.isin([predicted, true], [0, 1]).all():
            raise ValueError("predictions and references must be 0 (negative) or 1 (positive)")
        columns = precision_recall_fscore_support(true, predicted, labels=[0, 1], zero_division=0)
        classes = zip(LABEL_NAMES, zip(*(column.tolist() for column in columns), strict=True), strict=True)
        per_class = {name: dict(zip(CLASS_SCORES, scores, strict=True)) for name, scores in classes}
        counts = {} if clusters is None else {"test_rows": len(true), "test_clusters": len(np.unique(clusters))}
        return {
            **counts,
            "accuracy": float((predicted == true).mean()),
            "accuracy_ci95": compute_proportion_interval(predicted == true, clusters),
            **{name: per_class["positive"][name] for name in ("precision", "recall", "f1")},
            "macro_f1": float(columns[2].mean()),
            "per_class": per_class,
            "confusion_matrix": confusion_matrix(true, predicted, labels=[0, 1]).tolist(),
        }


def compute_metrics(predictions: ArrayLike, references: ArrayLike, clusters: ArrayLike | None = None) -> dict[str, Any]:
    """The metrics of `SentimentMetrics`; raises ValueError without rows, for different lengths and for other labels."""
    predicted, true = np.asarray(predictions), np.asarray(references)
    if predicted.size == 0 or predicted.shape != true.shape:
        raise ValueError(f"{predicted.size} predictions for {true.size} references: need as many, at least one")
    return SentimentMetrics().compute(predictions=predicted, references=true, clusters=clusters)


def compute_log_loss(probabilities: ArrayLike, references: ArrayLike) -> float:
    """Mean cross-entropy in nats, from the probabilities of the positive class and the true labels (0 or 1)."""
    positive = np.asarray(probabilities, dtype=np.float64)
    of_true_class = np.where(np.asarray(references) == 1, positive, 1.0 - positive)
    return float(-np.log(np.clip(of_true_class, SMALLEST_PROBABILITY, 1.0)).mean())


def choose_labels(probabilities: np.ndarray) -> np.ndarray:
    """1 where the probability of the positive class is above 0.5, else 0; same shape."""
    return (probabilities > 0.5).astype(int)


def evaluate_probabilities(
    probabilities: np.ndarray, labels: ArrayLike, clusters: ArrayLike | None = None
) -> dict[str, Any]:
    """`loss` (mean cross-entropy in nats) and the metrics of `compute_metrics` for the more probable label."""
    metrics = compute_metrics(choose_labels(probabilities), labels, clusters)
    return {"loss": compute_log_loss(probabilities, labels)} | metrics
