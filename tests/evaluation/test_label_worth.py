"""The worth of a strategy in labels: known curves, intervals that cover, and what cannot be told."""

import numpy as np
import pytest

from sentiment.evaluation.label_worth import count_worth, estimate_label_worth, fit_power_law

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
        estimate = estimate_label_worth(*draw_scores(study, worth=80))
        assert estimate is not None
        for place, found in enumerate(estimate["budgets"]):
            low, high = found["ci95"]
            covered[place] += low <= 80 <= (np.inf if high is None else high)
    assert (covered / studies > 0.85).all()


def test_a_large_worth_is_seen_and_equal_arms_are_worth_nothing() -> None:
    found = estimate_label_worth(*draw_scores(1, worth=400, seeds=5, rows=3000))
    assert found is not None
    assert found["budgets"][0]["ci95"][0] > 0
    scores, _ = draw_scores(2, worth=0)
    same = estimate_label_worth(scores, scores)
    assert same is not None
    assert [one["labels"] for one in same["budgets"]] == pytest.approx([0, 0, 0], abs=1e-6)
    assert [one["ci95"] for one in same["budgets"]] == [pytest.approx([0, 0], abs=1e-6)] * 3


def test_two_budgets_or_one_seed_are_not_enough() -> None:
    a, b = draw_scores(1, worth=80)
    assert estimate_label_worth({100: a[100], 300: a[300]}, {100: b[100], 300: b[300]}) is None
    one_seed = ({budget: rows[:1] for budget, rows in scores.items()} for scores in (a, b))
    assert estimate_label_worth(*one_seed) is None


def test_clusters_of_rows_widen_the_interval() -> None:
    a, b = draw_scores(3, worth=80, rows=400)
    repeated = [{budget: np.repeat(rows, 5, axis=1) for budget, rows in scores.items()} for scores in (a, b)]
    alone, clustered = (estimate_label_worth(*repeated, clusters) for clusters in (None, np.repeat(np.arange(400), 5)))
    assert alone is not None
    assert clustered is not None
    widths = [np.diff(one["budgets"][1]["ci95"])[0] for one in (alone, clustered)]
    assert widths[1] > widths[0]
