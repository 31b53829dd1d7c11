"""Coverage, thresholds and what they give on other rows."""

import numpy as np
import pytest

from sentiment.evaluation.abstention import (
    choose_threshold,
    compute_accuracy_at,
    compute_coverage_curve,
    evaluate_abstention,
    evaluate_threshold,
)

CONFIDENCES = [0.9, 0.9, 0.8, 0.7, 0.6]
CORRECT = [1, 1, 1, 0, 1]


def test_the_curve_by_hand() -> None:
    assert compute_coverage_curve(CONFIDENCES, CORRECT) == [
        {"coverage": 0.4, "accuracy": 1.0, "threshold": 0.9},  # equal confidences go together
        {"coverage": 0.6, "accuracy": 1.0, "threshold": 0.8},
        {"coverage": 0.8, "accuracy": 0.75, "threshold": 0.7},
        {"coverage": 1.0, "accuracy": 0.8, "threshold": 0.6},
    ]


@pytest.mark.parametrize(("target", "threshold"), [(1.0, 0.8), (0.8, 0.6), (0.5, 0.6), (0.95, 0.8)])
def test_the_threshold_answers_as_many_as_the_target_allows(target: float, threshold: float) -> None:
    assert choose_threshold(CONFIDENCES, CORRECT, target) == threshold


def test_a_target_out_of_reach_has_no_threshold() -> None:
    assert choose_threshold([0.9, 0.9, 0.8], [1, 0, 0], 0.9) is None  # the two most confident are not told apart
    found = evaluate_abstention([0.9], [1], None, 0.9)
    assert (found["threshold"], found["at_threshold"]) == (None, None)


def test_a_threshold_on_other_rows() -> None:
    found = evaluate_threshold([0.95, 0.85, 0.8, 0.4], [1, 0, 1, 0], 0.8)
    assert (found["coverage"], found["accuracy"]) == (0.75, pytest.approx(2 / 3))
    low, high = found["accuracy_ci95"]
    assert low < 2 / 3 < high
    assert evaluate_threshold([0.5], [1], 0.9)["coverage"] == 0
    assert "accuracy" not in evaluate_threshold([0.5], [1], 0.9)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.random(5_000)
    correct = generator.random(5_000) < confidences
    curve = compute_coverage_curve(confidences, correct)
    assert len(curve) <= 50
    assert curve[-1]["coverage"] == 1
    assert curve[-1]["accuracy"] == pytest.approx(correct.mean())
    assert compute_accuracy_at(confidences, correct, 0.1) > 0.9 > compute_accuracy_at(confidences, correct, 1.0)
