"""The worth of a strategy in labels: known curves, intervals that cover, and what cannot be told."""

from typing import Any

import numpy as np
import pytest

from sentiment.evaluation.label_worth import count_worth, estimate_label_worth, fit_power_law
from sentiment.evaluation.study_effects import classify_effect, compare_arms

BUDGETS = (100, 300, 1000)


def draw_scores(seed: int, worth: float, seeds: int = 4, rows: int = 800) -> tuple[dict[int, np.ndarray], ...]:
    """Right answers of A and B, which is as good as A with `worth` labels more; seeds differ, and rows are shared."""
    generator = np.random.default_rng(seed)
    found: tuple[dict[int, np.ndarray], ...] = ({}, {})
    for budget in BUDGETS:
        difficulty = generator.uniform(size=rows)
        for scores, labels in zip(found, (budget, budget + worth), strict=True):
            errors = 1.2 * labels**-0.28 + generator.normal(0, 0.01, size=(seeds, 1))
            own = np.where(
                generator.uniform(size=(seeds, rows)) < 0.7, difficulty, generator.uniform(size=(seeds, rows))
            )
            scores[budget] = (own > errors).astype(float)
    return found


def estimate(scores_a: dict[int, np.ndarray], scores_b: dict[int, np.ndarray]) -> Any:
    """The worth of B from right answers of both."""
    effects = {budget: compare_arms(scores_a[budget], scores_b[budget]) for budget in scores_a}
    return estimate_label_worth({budget: rows.mean(axis=1) for budget, rows in scores_a.items()}, effects)


def test_a_gain_on_a_power_law_is_its_labels() -> None:
    curve = fit_power_law(BUDGETS, [1.2 * budget**-0.28 for budget in BUDGETS])
    gain = 1.2 * 300**-0.28 - 1.2 * 450**-0.28
    assert float(count_worth(curve, 300, gain)) == pytest.approx(150)
    assert float(count_worth(curve, 300, 0.0)) == pytest.approx(0)
    assert float(count_worth(curve, 300, -gain)) < 0


def test_a_curve_that_does_not_fall_gives_no_number() -> None:
    flat = fit_power_law(BUDGETS, [0.3, 0.3, 0.31])
    assert float(count_worth(flat, 300, 0.01)) == np.inf
    assert float(count_worth(flat, 300, -0.01)) == -300


def test_a_gain_of_more_than_the_whole_error_is_worth_more_than_any_labels() -> None:
    curve = fit_power_law(BUDGETS, [0.4, 0.3, 0.2])
    assert float(count_worth(curve, 100, 0.9)) == np.inf


def test_the_interval_covers_the_worth() -> None:
    covered = np.zeros(len(BUDGETS))
    studies = 60
    for study in range(studies):
        found_worth = estimate(*draw_scores(study, worth=80))
        for place, found in enumerate(found_worth["budgets"]):
            low, high = found["ci95"]
            covered[place] += low <= 80 <= (np.inf if high is None else high)
    assert (covered / studies > 0.85).all()


def test_a_large_worth_is_seen_and_equal_arms_are_worth_nothing() -> None:
    found = estimate(*draw_scores(1, worth=400, seeds=5, rows=3000))
    assert found["budgets"][0]["ci95"][0] > 0
    scores, _ = draw_scores(2, worth=0)
    same = estimate(scores, scores)
    assert [one["labels"] for one in same["budgets"]] == pytest.approx([0, 0, 0], abs=1e-6)
    assert [one["ci95"] for one in same["budgets"]] == [pytest.approx([0, 0], abs=1e-6)] * 3


def test_two_budgets_or_one_seed_are_not_enough() -> None:
    a, b = draw_scores(1, worth=80)
    assert estimate({100: a[100], 300: a[300]}, {100: b[100], 300: b[300]}) is None
    one_seed = ({budget: rows[:1] for budget, rows in scores.items()} for scores in (a, b))
    assert estimate(*one_seed) is None


def test_no_worth_is_shown_where_no_effect_is_shown() -> None:
    for study in range(20):
        a, b = draw_scores(study, worth=0, seeds=3)
        for budget, found in zip(a, estimate(a, b)["budgets"], strict=True):
            low, high = found["ci95"]
            is_open = low is not None and low <= 0 and (high is None or high >= 0)
            assert is_open == (classify_effect(compare_arms(a[budget], b[budget])) == "inconclusive")
