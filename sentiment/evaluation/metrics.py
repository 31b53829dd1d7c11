"""Metrics of a classifier, computed offline through `evaluate` and scikit-learn."""

import tempfile
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from sentiment.evaluation.intervals import compute_proportion_interval
from sentiment.evaluation.significance import find_collapsed_class

# Keeps the mean log loss finite if the probability of the true class is 0.
SMALLEST_PROBABILITY = 1e-12
CLASS_SCORES = ("precision", "recall", "f1", "support")


class SentimentMetrics(evaluate.Metric):  # type: ignore[misc]
    """Accuracy with its 95% interval, precision, recall and F1 of each class, and means over the classes.

    With two classes, precision, recall and F1 of the second one as well. Macro F1 is the mean over the classes that are
    true or predicted, balanced accuracy the mean recall of those that are true, `mcc` the correlation coefficient of
    Matthews, as scikit-learn's. The confusion matrix has true labels in rows; with `clusters` (an id per row),
    the interval is cluster-robust.
    """

    def __init__(self) -> None:
        # In memory, without a lock, for concurrent processes; the default cache folder, created even so, may be
        # read-only.
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Metrics of a classifier, whose labels are the numbers of its classes.",
            citation="",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(
        self,
        predictions: list[int],
        references: list[int],
        class_names: Sequence[str],
        clusters: ArrayLike | None = None,
    ) -> dict[str, Any]:
        predicted, true, ids = np.asarray(predictions), np.asarray(references), range(len(class_names))
        if not np.isin([predicted, true], ids).all():
            raise ValueError(f"predictions and references must be from 0 to {len(ids) - 1}")
        columns = precision_recall_fscore_support(true, predicted, labels=ids, zero_division=0)
        classes = zip(class_names, zip(*(column.tolist() for column in columns), strict=True), strict=True)
        per_class = {name: dict(zip(CLASS_SCORES, scores, strict=True)) for name, scores in classes}
        second = per_class[class_names[1]]
        support, occurring = columns[3], np.union1d(true, predicted)
        matrix = confusion_matrix(true, predicted, labels=ids)
        collapsed = find_collapsed_class(matrix)
        counts = {} if clusters is None else {"test_rows": len(true), "test_clusters": len(np.unique(clusters))}
        return {
            **counts,
            "accuracy": float((predicted == true).mean()),
            "accuracy_ci95": compute_proportion_interval(predicted == true, clusters),
            **({name: second[name] for name in ("precision", "recall", "f1")} if len(ids) == 2 else {}),
            "macro_f1": float(columns[2][occurring].mean()),
            "weighted_f1": float(np.average(columns[2], weights=support)),
            "balanced_accuracy": float(columns[1][support > 0].mean()),
            "mcc": float(matthews_corrcoef(true, predicted)) if len(occurring) > 1 else 0.0,
            "majority_baseline": {
                "label": class_names[int(support.argmax())],
                "accuracy": float(support.max() / support.sum()),
            },
            "per_class": per_class,
            "confusion_matrix": matrix.tolist(),
            "collapsed": None if collapsed is None else class_names[collapsed],
        }


def compute_metrics(
    predictions: ArrayLike, references: ArrayLike, class_names: Sequence[str], clusters: ArrayLike | None = None
) -> dict[str, Any]:
    """The metrics of `SentimentMetrics`; raises ValueError without rows, for different lengths and for other labels."""
    predicted, true = np.asarray(predictions), np.asarray(references)
    if predicted.size == 0 or predicted.shape != true.shape:
        raise ValueError(f"{predicted.size} predictions for {true.size} references: need as many, at least one")
    return SentimentMetrics().compute(
        predictions=predicted, references=true, class_names=class_names, clusters=clusters
    )


def compute_log_loss(probabilities: ArrayLike, references: ArrayLike) -> float:
    """Mean cross-entropy in nats, from probabilities of shape (rows, classes) and the true labels."""
    true = np.asarray(references, dtype=np.int64)
    of_true_class = np.asarray(probabilities, dtype=np.float64)[np.arange(len(true)), true]
    return float(-np.log(np.clip(of_true_class, SMALLEST_PROBABILITY, 1.0)).mean())


def choose_labels(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class of each row, the first of equal ones; shape (rows,) from (rows, classes)."""
    labels: np.ndarray = probabilities.argmax(axis=-1)
    return labels


def evaluate_probabilities(
    probabilities: np.ndarray, labels: ArrayLike, class_names: Sequence[str], clusters: ArrayLike | None = None
) -> dict[str, Any]:
    """`loss` (mean cross-entropy in nats) and the metrics of `compute_metrics` for the most probable label.

    With more than two classes also `top2_accuracy`, how often the true label is among the two most probable ones.
    """
    metrics = {"loss": compute_log_loss(probabilities, labels)}
    metrics |= compute_metrics(choose_labels(probabilities), labels, class_names, clusters)
    if len(class_names) > 2:
        top2 = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        metrics["top2_accuracy"] = float((top2 == np.asarray(labels)[:, np.newaxis]).any(axis=1).mean())
    return metrics
