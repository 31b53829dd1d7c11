"""The statistics of a comparison against known values, an analytic interval, scikit-learn and a simulation."""

import math
from typing import Any

import numpy as np
import pytest

from sentiment.evaluation.metrics import compute_metrics
from sentiment.evaluation.significance import (
    choose_better,
    compare_predictions,
    compute_mcnemar_p,
    compute_needed_rows,
    describe_verdict,
)


def make_predictions(
    both: int, fixes: int, regressions: int, neither: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and the answers of A and B, with so many rows that both get right, only B, only A, and neither."""
    labels = np.resize([0, 1, 1], both + fixes + regressions + neither)
    right_a = np.repeat([True, False, True, False], [both, fixes, regressions, neither])
    right_b = np.repeat([True, True, False, False], [both, fixes, regressions, neither])
    return labels, np.where(right_a, labels, 1 - labels), np.where(right_b, labels, 1 - labels)


@pytest.mark.parametrize(
    ("fixes", "regressions", "p_value"),
    [(10, 2, 0.03857421875), (2, 10, 0.03857421875), (0, 0, 1), (3, 3, 1), (5, 0, 0.0625)],
)
def test_mcnemar_is_the_exact_two_sided_test(fixes: int, regressions: int, p_value: float) -> None:
    assert compute_mcnemar_p(fixes, regressions) == pytest.approx(p_value, abs=1e-12)


@pytest.mark.parametrize(("both", "fixes", "regressions", "neither"), [(800, 80, 50, 70), (300, 20, 60, 20)])
def test_interval_agrees_with_the_analytic_one_of_paired_shares(
    both: int, fixes: int, regressions: int, neither: int
) -> None:
    accuracy = compare_predictions(*make_predictions(both, fixes, regressions, neither))["metrics"]["accuracy"]
    rows = both + fixes + regressions + neither
    difference = (fixes - regressions) / rows
    half = 1.96 * math.sqrt((fixes + regressions) / rows - difference**2) / math.sqrt(rows)
    assert accuracy["difference"] == pytest.approx(difference)
    assert accuracy["difference_ci95"] == pytest.approx([difference - half, difference + half], abs=0.05 * half)


def test_pairing_counts() -> None:
    """Runs that mostly agree are compared more sharply than their own intervals say."""
    accuracy = compare_predictions(*make_predictions(900, 12, 3, 85))["metrics"]["accuracy"]
    own = accuracy["a_ci95"][1] - accuracy["a_ci95"][0]
    assert accuracy["difference_ci95"][1] - accuracy["difference_ci95"][0] < own / 2


def test_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    labels, *answers = (generator.integers(0, 2, 200) for _ in range(3))
    compared = compare_predictions(labels, *answers)["metrics"]
    for key, predicted in zip("ab", answers, strict=True):
        expected = compute_metrics(predicted, labels)
        assert {name: scores[key] for name, scores in compared.items()} == pytest.approx(
            {name: expected[name] for name in compared}
        )
    for scores in compared.values():
        assert scores["difference"] == pytest.approx(scores["b"] - scores["a"])
        for key in ("a", "b", "difference"):
            assert scores[f"{key}_ci95"][0] < scores[key] < scores[f"{key}_ci95"][1]


def test_scores_without_one_class() -> None:
    compared = compare_predictions([0, 0, 0], [0, 0, 0], [0, 0, 1])["metrics"]
    assert [compared[name]["a"] for name in ("accuracy", "precision", "recall", "f1")] == [1, 0, 0, 0]


def test_the_same_every_time_and_mirrored_when_swapped() -> None:
    labels, first, second = make_predictions(800, 90, 40, 70)
    there, again = (compare_predictions(labels, first, second) for _ in range(2))
    assert there == again
    back = compare_predictions(labels, second, first)
    assert (there["better"], back["better"]) == ("b", "a")
    assert (there["fixes"], there["regressions"]) == (back["regressions"], back["fixes"]) == (90, 40)
    assert there["needed_rows"] == back["needed_rows"]
    low, high = there["metrics"]["accuracy"]["difference_ci95"]
    assert back["metrics"]["accuracy"]["difference_ci95"] == pytest.approx([-high, -low], abs=0.003)


def test_identical_runs() -> None:
    labels, first, _ = make_predictions(90, 0, 0, 10)
    outcome = compare_predictions(labels, first, first)
    assert (outcome["better"], outcome["mcnemar_p"], outcome["needed_rows"]) == (None, 1.0, None)
    assert outcome["metrics"]["f1"]["difference_ci95"] == [0, 0]
    assert describe_verdict("e2e", "finetune", outcome) == (
        "Cannot tell at this size: finetune and e2e are right and wrong on the same rows."
    )


@pytest.mark.parametrize(
    ("interval", "p_value", "better"),
    [([0.001, 0.03], 0.04, "b"), ([-0.03, -0.001], 0.04, "a"), ([0.001, 0.03], 0.05, None),
     ([0.0, 0.03], 0.04, None), ([-0.01, 0.03], 0.3, None)],
)  # fmt: skip
def test_better_needs_both_tests(interval: list[float], p_value: float, better: str | None) -> None:
    assert choose_better(interval, p_value) == better


@pytest.mark.parametrize(("fixes", "regressions"), [(40, 20), (90, 60), (12, 1)])
def test_needed_rows_give_the_power_that_they_promise(fixes: int, regressions: int) -> None:
    """Simulated with McNemar's test at the share of rows that only one gets right."""
    rows = compute_needed_rows((fixes - regressions) / 1000, (fixes + regressions) / 1000)
    assert rows is not None
    generator = np.random.default_rng(0)
    rest = 1 - (fixes + regressions) / 1000
    drawn = generator.multinomial(rows, [fixes / 1000, regressions / 1000, rest], size=4000)[:, :2]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    significant = [compute_mcnemar_p(*map(int, pair)) < 0.05 for pair in found]
    # The exact test is a little weaker than the one that the formula is for.
    assert 0.74 < counts[significant].sum() / 4000 < 0.84


def test_needed_rows_of_no_difference_and_of_opposite_ones() -> None:
    assert compute_needed_rows(0.0, 0.1) is None
    assert compute_needed_rows(-0.02, 0.1) == compute_needed_rows(0.02, 0.1)
    assert compute_needed_rows(0.1, 0.1) is not None  # B breaks nothing: a root of 0, whatever rounding says


def test_who_cannot_tell_is_never_sent_for_fewer_rows_than_there_are() -> None:
    for fixes in range(9):
        for regressions in range(9):
            for others in (0, 1, 20):
                if fixes + regressions + others:
                    outcome = compare_predictions(*make_predictions(others, fixes, regressions, 0), resamples=200)
                    if not outcome["better"] and fixes != regressions:
                        assert outcome["needed_rows"] > outcome["test_rows"], (fixes, regressions, others)


def outcome_of(both: int, fixes: int, regressions: int, neither: int) -> dict[str, Any]:
    return compare_predictions(*make_predictions(both, fixes, regressions, neither))


def test_the_verdict_names_the_one_ahead_first_with_its_own_sign() -> None:
    there = describe_verdict("e2e", "finetune", outcome_of(840, 80, 40, 40))
    assert there == "finetune is better than e2e by 4.0 points (95% interval 1.9 to 6.2)."
    back = describe_verdict("e2e", "finetune", outcome_of(840, 40, 80, 40))
    assert back.startswith("e2e is better than finetune by 4.0 points (95% interval 1.")


def test_the_verdict_that_cannot_tell() -> None:
    sentence = describe_verdict("e2e", "finetune", outcome_of(900, 30, 34, 36))
    assert sentence.startswith("Cannot tell at this size: e2e is ahead of finetune by 0.4 points (95% interval -1.")
    assert sentence.endswith(
        "; about 31,000 test rows would be needed to see a difference of that size four times out of five."
    )


def test_the_verdict_on_a_tie() -> None:
    sentence = describe_verdict("e2e", "finetune", outcome_of(900, 30, 30, 40))
    assert sentence.startswith(
        "Cannot tell at this size: finetune and e2e are right on equally many rows (95% interval"
    )
    assert sentence.endswith(
        "; about 4,700 test rows would be needed to see a difference of one point four times out of five."
    )
    many = describe_verdict("e2e", "finetune", outcome_of(9000, 30, 30, 940))
    assert many.endswith("where a difference of one point would be seen four times out of five.")
