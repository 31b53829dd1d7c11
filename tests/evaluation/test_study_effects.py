"""Intervals over seeds and test rows against known values, and the verdict's words for every outcome."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from sentiment.evaluation.study_effects import (
    compare_arms,
    compute_paired_interval,
    compute_seed_interval,
    describe_effect,
    describe_verdict,
    find_paying_budget,
    name_budgets,
    summarize_study,
)


def test_the_interval_over_seeds_is_students() -> None:
    accuracies = [0.81, 0.84, 0.835, 0.82]
    expected = ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert compute_seed_interval(accuracies) == pytest.approx(list(expected))
    assert compute_seed_interval([0.9]) is None
    assert compute_seed_interval([0.7, 1.0]) == pytest.approx([0, 1])  # and no accuracy is outside


def test_the_paired_interval_by_hand() -> None:
    """Two seeds, four rows: mean squares of a two-way layout, worked out on paper.

    Means: 0.375; of seeds 0.5 and 0.25; of rows 1, 0.5, 0, 0. Sums of squares: seeds 0.125, rows 1.375, all 1.875,
    hence rest 0.375. Mean squares: seeds 0.125 (1), rows 0.4583 (3), rest 0.125 (3).
    Sum: 0.125 + 0.3333 = 0.4583; variance / 8; freedom (0.4583 / 0.125) ** 2 = 13.44; quantile 2.1532.
    """
    differences = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    reach = 2.1532 * (0.458333 / 8) ** 0.5
    assert compute_paired_interval(differences) == pytest.approx([0.375 - reach, 0.375 + reach], abs=1e-3)


def test_where_seeds_alone_vary_it_is_the_t_interval_over_seeds() -> None:
    differences = np.repeat([[0.01], [0.03], [0.08]], 500, axis=1)
    expected = ttest_1samp([0.01, 0.03, 0.08], 0).confidence_interval(0.95)
    assert compute_paired_interval(differences) == pytest.approx(list(expected))


@pytest.mark.parametrize("seeds", [1, 3])
def test_where_rows_alone_vary_it_is_the_t_interval_over_rows(seeds: int) -> None:
    """Three times the same training tells no more than one."""
    row = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=400, p=[0.05, 0.85, 0.1])
    expected = ttest_1samp(row, 0).confidence_interval(0.95)
    assert compute_paired_interval(np.tile(row, (seeds, 1))) == pytest.approx(list(expected), abs=1e-3)


def test_the_paired_interval_covers_as_often_as_it_says() -> None:
    """95 of 100 studies of three seeds, where seeds and rows both matter; a few less or more by chance."""
    generator, hits = np.random.default_rng(7), 0
    for _ in range(400):
        seeds = generator.normal(0, 0.02, size=(3, 1))
        rows = generator.normal(0, 0.3, size=(1, 300))
        low, high = compute_paired_interval(0.05 + seeds + rows + generator.normal(0, 0.3, size=(3, 300)))
        hits += low <= 0.05 <= high
    assert 0.91 <= hits / 400 <= 0.98


def test_arms_that_answer_alike_differ_by_nothing() -> None:
    right = np.array([[True, False, True], [True, True, False]])
    assert compare_arms(right, right) == {"difference": 0, "ci95": [0, 0], "per_seed": [0, 0]}
    better = compare_arms(np.zeros((2, 50)), np.ones((2, 50)))
    assert (better["difference"], better["ci95"], better["per_seed"]) == (1, [1, 1], [1, 1])


def effect(budget: int, low: float, high: float, name: str = "both changes") -> dict[str, Any]:
    return {"effect": name, "budget": budget, "difference": (low + high) / 2, "ci95": [low, high]}


BETTER, OPEN, WORSE = (0.01, 0.03), (-0.01, 0.01), (-0.03, -0.01)


@pytest.mark.parametrize(
    ("outcomes", "expected", "words"),
    [
        ([OPEN, OPEN], None, ["At none of the budgets tried (100 and 300 labels) is mlm+decay shown to beat e2e."]),
        ([BETTER, OPEN], 100, ["Of the budgets tried, 100 labels is the largest", "by 2.0 points (95% interval 1.0"]),
        ([BETTER, BETTER], 300, ["beats e2e with up to 300 labels, the most that were tried", "every smaller budget."]),
        ([OPEN, BETTER], 300, ["But not at every smaller budget: it is not shown at 100 labels."]),
        ([BETTER, WORSE], 100, ["is the largest", "It loses to e2e by 2.0 points (95% interval 1.0 to 3.0) at 300"]),
        ([WORSE, WORSE], None, ["At none of the budgets", "at 100 labels and by 2.0 points", "at 300 labels."]),
    ],
)  # fmt: skip
def test_the_budget_up_to_which_adapting_first_pays(
    outcomes: list[tuple[float, float]], expected: int | None, words: list[str]
) -> None:
    effects = [effect(budget, *ends) for budget, ends in zip((100, 300), outcomes, strict=True)]
    paying = find_paying_budget(effects)
    assert paying is not None
    assert paying["budget"] == expected
    sentence = describe_verdict(effects, paying)
    assert [word for word in words if word not in sentence] == []


def test_an_exception_is_named() -> None:
    paying = find_paying_budget([effect(100, *OPEN), effect(300, *BETTER), effect(1000, *BETTER), effect(3000, *OPEN)])
    assert paying == {
        "budget": 1000,
        "consistent": False,
        "exceptions": [100],
        "by_budget": {100: "open", 300: "better", 1000: "better", 3000: "open"},
    }


def test_an_effect_in_one_sentence() -> None:
    name = "decay, with adaptation"
    effects = [effect(100, *BETTER, name), effect(300, *OPEN, name), effect(1000, *WORSE, name)]
    assert describe_effect(effects) == (
        "Decay, with adaptation (mlm+decay against mlm): helps at 100 labels; hurts at 1,000 labels; "
        "cannot be told from no effect at 300 labels."
    )


def test_budgets_in_words() -> None:
    assert [name_budgets(budgets) for budgets in ([100], [100, 300], [100, 300, 1000])] == [
        "100 labels", "100 and 300 labels", "100, 300 and 1,000 labels",
    ]  # fmt: skip


def make_runs(arms: dict[str, float]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Two budgets, two seeds, 200 test rows; each arm is right on its share of them, and takes its seconds."""
    runs, right = [], []
    for seed in (2, 1):
        for budget in (300, 100):
            for arm, share in arms.items():
                adaptation = 60.0 if arm.startswith("mlm") else 0.0
                answers = np.arange(200) < 200 * share
                runs.append(
                    {
                        "arm": arm, "budget": budget, "seed": seed, "accuracy": float(answers.mean()),
                        "train_seconds": 10.0 * seed, "adaptation_seconds": adaptation,
                        "total_seconds": 10.0 * seed + adaptation, "shared_seconds": 10.0 * seed + adaptation / 4,
                    }
                )  # fmt: skip
                right.append(answers)
    return runs, right


def test_a_summary_pairs_runs_by_budget_and_seed_whatever_their_order() -> None:
    summary = summarize_study(*make_runs({"e2e": 0.8, "mlm+decay": 0.9}))
    assert (summary["arms"], summary["budgets"], summary["seeds"]) == (["e2e", "mlm+decay"], [100, 300], [2, 1])
    cells = [(cell["arm"], cell["budget"], cell["accuracy"]) for cell in summary["accuracy"]]
    assert cells == [("e2e", 100, 0.8), ("e2e", 300, 0.8), ("mlm+decay", 100, 0.9), ("mlm+decay", 300, 0.9)]
    assert summary["accuracy"][2]["seconds"] == {"alone": 15.0, "full": 75.0, "shared": 30.0}
    assert [(one["effect"], one["budget"]) for one in summary["effects"]] == [
        ("both changes", 100),
        ("both changes", 300),
    ]
    assert summary["effects"][0]["difference"] == pytest.approx(0.1)
    assert summary["adaptation_pays"]["budget"] == 300


def test_effects_are_those_of_the_arms_that_are_there() -> None:
    arms = dict.fromkeys(["e2e", "e2e+decay", "mlm", "mlm+decay", "placebo+decay"], 0.8)
    found = {one["effect"] for one in summarize_study(*make_runs(arms))["effects"]}
    assert len(found) == 7
    summary = summarize_study(*make_runs({"e2e": 0.8, "mlm": 0.8}))
    assert {one["effect"] for one in summary["effects"]} == {"adaptation, without decay"}
    assert summary["adaptation_pays"] is None
    assert "has not both of e2e and mlm+decay" in summary["sentence"]
