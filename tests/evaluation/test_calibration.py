"""Calibration against known values, scikit-learn and simulations."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from sentiment.evaluation.calibration import (
    bin_confidences,
    compare_calibration,
    compute_calibration_error,
    evaluate_calibration,
    fit_temperature,
    scale_probabilities,
)


def simulate(rows: int, temperature: float, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities that they have at a temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, classes)) * 3
    probabilities = softmax(logits / temperature, axis=1)
    labels = (probabilities.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_of_scaled_logits_is_found(temperature: float, classes: int) -> None:
    assert fit_temperature(*simulate(20_000, temperature, classes)) == pytest.approx(temperature, rel=0.05)


def test_a_constant_added_to_logits_changes_nothing() -> None:
    logits, labels = simulate(500, 2.0)
    expected = fit_temperature(logits, labels)
    assert fit_temperature(logits - logits.max(axis=1, keepdims=True), labels) == pytest.approx(expected, abs=1e-4)
    assert fit_temperature(np.log(softmax(logits, axis=1)), labels) == pytest.approx(expected, abs=1e-4)


def test_rows_that_are_all_right_do_not_make_a_model_certain() -> None:
    logits = np.eye(2)[[0, 1] * 15] * 4.0
    temperature = fit_temperature(logits, [0, 1] * 15)
    assert 0.3 < temperature < 2
    assert 0.9 < softmax(logits[0] / temperature).max() < 0.99


def test_calibration_error_by_hand() -> None:
    # Two bins of twenty: confidence 0.6 with 14 right, confidence 0.9 with 16 right.
    confidences = np.array([0.6] * 20 + [0.9] * 20)
    correct = np.array([1] * 14 + [0] * 6 + [1] * 16 + [0] * 4, dtype=float)
    assert compute_calibration_error(confidences, correct) == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    labels = np.where(correct, 0, 1)
    bins = bin_confidences(probabilities, labels)
    assert [(point["confidence"], point["accuracy"], point["rows"]) for point in bins] == [
        (pytest.approx(0.6), pytest.approx(0.7), 20),
        (pytest.approx(0.9), pytest.approx(0.8), 20),
    ]


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = simulate(300, 1.0, classes)
    probabilities = softmax(logits, axis=1)
    found = evaluate_calibration(probabilities, labels)
    assert found["nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(classes)))
    onehot = np.eye(classes)[labels]
    assert found["brier"] == pytest.approx(((probabilities - onehot) ** 2).sum(axis=1).mean())
    if classes == 2:
        assert found["brier"] == pytest.approx(2 * brier_score_loss(labels, probabilities[:, 1]))


def test_a_calibrated_model_has_the_error_of_chance() -> None:
    logits, labels = simulate(3_000, 1.0)
    found = evaluate_calibration(softmax(logits, axis=1), labels)
    assert found["ece"] == pytest.approx(found["ece_if_calibrated"], abs=0.01)
    overconfident = evaluate_calibration(softmax(logits * 3, axis=1), labels)
    assert overconfident["ece"] > 5 * overconfident["ece_if_calibrated"]


def test_scaling_corrects_and_keeps_labels() -> None:
    logits, labels = simulate(4_000, 2.5)
    probabilities = softmax(logits, axis=1)
    compared = compare_calibration(probabilities, labels, fit_temperature(logits, labels))
    for name in ("ece", "brier", "nll"):
        assert compared["after"][name] < compared["before"][name]
    scaled = scale_probabilities(probabilities, 2.5)
    assert np.allclose(scaled, softmax(logits / 2.5, axis=1), atol=1e-12)
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert np.allclose(scale_probabilities(scaled, 1 / 2.5), probabilities, atol=1e-9)
    assert scale_probabilities(np.array([[1.0, 0.0]]), 2.0).tolist() == [[1.0, 0.0]]
