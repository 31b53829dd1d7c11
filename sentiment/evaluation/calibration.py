"""Calibration: how far a probability can be trusted, and a temperature that corrects it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
MIN_ROWS_PER_BIN = 20
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
RESAMPLES = 200


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature by which logits of shape (rows, classes) are divided for the lowest cross-entropy.

    Guo et al. 2017 (arXiv:1706.04599), section 4.2. The labels are smoothed as by Platt 1999, as if each class had been
    seen once more: on rows that are all classified correctly, the temperature would fall to 0 otherwise.
    """
    scores, true = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    rows, classes = scores.shape
    targets = np.full((rows, classes), 1 / (rows + classes))
    targets[np.arange(rows), true] = (rows + 1) / (rows + classes)

    def compute_loss(log_temperature: float) -> float:
        return float(-(targets * log_softmax(scores / np.exp(log_temperature), axis=1)).sum() / rows)

    bounds = np.log([LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE])
    return float(np.exp(minimize_scalar(compute_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def count_bins(rows: int) -> int:
    """The number of bins: `BINS`, or fewer if they would have under `MIN_ROWS_PER_BIN` rows."""
    return max(1, min(BINS, rows // MIN_ROWS_PER_BIN))


def bin_confidences(probabilities: np.ndarray, labels: ArrayLike) -> list[dict[str, float]]:
    """Bins of equal mass by confidence: mean `confidence` and `accuracy` of the answers, and `rows`."""
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(labels)
    order = np.argsort(confidences, kind="stable")
    return [
        {"confidence": float(confidences[part].mean()), "accuracy": float(correct[part].mean()), "rows": len(part)}
        for part in np.array_split(order, count_bins(len(order)))
    ]


def compute_calibration_error(confidences: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Expected calibration error in bins of equal mass (Nixon et al. 2019, arXiv:1904.01685), by row of `correct`.

    `confidences` of shape (rows,), `correct` of shape (..., rows); the result has shape (...).
    """
    order = np.argsort(confidences, kind="stable")
    starts = [part[0] for part in np.array_split(np.arange(len(order)), count_bins(len(order)))]
    gaps = np.add.reduceat(correct[..., order] - confidences[order], starts, axis=-1)
    error: np.ndarray = np.abs(gaps).sum(axis=-1) / len(order)
    return error


def evaluate_calibration(probabilities: np.ndarray, labels: ArrayLike) -> dict[str, float]:
    """How well the probabilities, shape (rows, classes), fit the true labels.

    - `ece`: expected calibration error, in bins of equal mass.
    - `ece_if_calibrated`: its mean for a perfectly calibrated model with these confidences, above 0 by chance.
    - `brier`: mean squared distance to the true label over all classes (Brier 1950), from 0 to 2.
    - `nll`: negative log-likelihood, in nats per row.
    """
    true = np.asarray(labels, dtype=np.int64)
    confidences, rows = probabilities.max(axis=1), np.arange(len(true))
    of_true_class = probabilities[rows, true]
    drawn = np.random.default_rng(0).random((RESAMPLES, len(true))) < confidences
    return {
        "ece": float(compute_calibration_error(confidences, (probabilities.argmax(axis=1) == true).astype(float))),
        "ece_if_calibrated": float(compute_calibration_error(confidences, drawn.astype(float)).mean()),
        "brier": float(((probabilities**2).sum(axis=1) - 2 * of_true_class + 1).mean()),
        "nll": float(-np.log(np.clip(of_true_class, 1e-12, 1)).mean()),
    }


def scale_probabilities(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities that the logits behind these have at a temperature; both of shape (rows, classes)."""
    with np.errstate(divide="ignore"):
        powers = np.exp(log_softmax(np.log(probabilities) / temperature, axis=1))
    scaled: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def compare_calibration(probabilities: np.ndarray, labels: ArrayLike, temperature: float) -> dict[str, Any]:
    """`evaluate_calibration` and bins `before` and `after` scaling of uncalibrated probabilities by a temperature."""
    versions = {"before": probabilities, "after": scale_probabilities(probabilities, temperature)}
    return {"temperature": temperature} | {
        name: evaluate_calibration(found, labels) | {"bins": bin_confidences(found, labels)}
        for name, found in versions.items()
    }
