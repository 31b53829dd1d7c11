"""Metrics of a two-class sentiment classifier, computed offline through `evaluate` and scikit-learn."""

from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.significance import compute_wilson_interval

# A probability of exactly 0 for the true class would make the mean loss infinite.
SMALLEST_PROBABILITY = 1e-12


class SentimentMetrics(evaluate.Metric):  # type: ignore[misc]
    """Accuracy with its interval, precision, recall and F1 of the positive class, macro F1, and each class.

    Labels are 0 (negative) and 1 (positive); the confusion matrix has rows true, columns predicted.
    Everything stays in memory: no cache file, no lock, so any number of processes may compute at once.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Metrics of a two-class sentiment classifier.",
            citation="",
            inputs_description="predictions, references: 0 for negative, 1 for positive.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _build_data_dir(self) -> str:
        # The base class makes this folder even for a metric that writes nothing.
        return str(Path(self._data_dir_root, self.name, self.config_name))

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        if not np.isin([predictions, references], [0, 1]).all():
            raise ValueError("predictions and references must be 0 (negative) or 1 (positive)")
        matrix = confusion_matrix(references, predictions, labels=[0, 1])
        precision, recall, f1, support = precision_recall_fscore_support(
            references, predictions, labels=[0, 1], zero_division=0
        )
        correct, rows = int(matrix.trace()), int(matrix.sum())
        return {
            "accuracy": correct / rows,
            "accuracy_ci95": compute_wilson_interval(correct, rows),
            "precision": float(precision[1]),
            "recall": float(recall[1]),
            "f1": float(f1[1]),
            "macro_f1": float(f1.mean()),
            "per_class": {
                name: {
                    "precision": float(precision[index]),
                    "recall": float(recall[index]),
                    "f1": float(f1[index]),
                    "support": int(support[index]),
                }
                for index, name in enumerate(LABEL_NAMES)
            },
            "confusion_matrix": matrix.tolist(),
        }


def compute_metrics(predictions: ArrayLike, references: ArrayLike) -> dict[str, Any]:
    """The figures of `SentimentMetrics` for predicted and true labels (0 or 1), as plain numbers and lists.

    Raises ValueError when there are no rows, when the lengths differ, or for a label other than 0 and 1.

    >>> compute_metrics(predictions=[1, 1, 0, 1], references=[1, 0, 0, 1])["confusion_matrix"]
    [[1, 1], [0, 2]]
    """
    predicted, true = np.asarray(predictions), np.asarray(references)
    if predicted.size == 0 or predicted.shape != true.shape:
        raise ValueError(f"{predicted.size} predictions for {true.size} references: need as many, at least one")
    result: dict[str, Any] = SentimentMetrics().compute(predictions=predicted, references=true)
    return result


def compute_log_loss(probabilities: ArrayLike, references: ArrayLike) -> float:
    """Mean cross-entropy in nats of the probabilities of positive against the true labels (0 or 1).

    Probabilities are clipped away from 0 and 1, so that one certain error leaves the mean finite.

    >>> round(compute_log_loss([0.5, 0.5], [0, 1]), 4)
    0.6931
    """
    positive = np.asarray(probabilities, dtype=np.float64)
    of_true_class = np.where(np.asarray(references) == 1, positive, 1.0 - positive)
    return float(-np.log(np.clip(of_true_class, SMALLEST_PROBABILITY, 1.0)).mean())


def choose_labels(probabilities: np.ndarray) -> np.ndarray:
    """1 where `positive` is the likelier label, else 0; shape as given."""
    return (probabilities > 0.5).astype(int)


def evaluate_probabilities(probabilities: np.ndarray, labels: ArrayLike) -> dict[str, Any]:
    """The `loss` (mean cross-entropy in nats) and the figures of `compute_metrics` for the likelier label."""
    return {"loss": compute_log_loss(probabilities, labels)} | compute_metrics(choose_labels(probabilities), labels)
