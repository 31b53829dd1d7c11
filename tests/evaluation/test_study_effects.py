"""Intervals over seeds and test rows against known values and simulations, and the summary of a study."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from sentiment.evaluation.metrics import compute_metrics
from sentiment.evaluation.significance import compute_row_scores
from sentiment.evaluation.study_effects import (
    compare_arms,
    compute_seed_interval,
    compute_study_interval,
    find_paying_budget,
    summarize_study,
)


def test_the_interval_over_seeds_is_a_t_interval() -> None:
    accuracies = [0.81, 0.84, 0.835, 0.82]
    expected = ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert compute_seed_interval(accuracies) == pytest.approx(list(expected))
    assert compute_seed_interval([0.9]) is None
    assert compute_seed_interval([0.7, 1.0]) == pytest.approx([0, 1])  # clipped


def test_the_paired_interval_by_hand() -> None:
    """Two seeds, four rows: mean squares of a two-way layout, worked out on paper.

    Means: 0.375; of seeds 0.5 and 0.25; of rows 1, 0.5, 0, 0. Sums of squares: seeds 0.125, rows 1.375, all 1.875,
    hence rest 0.375. Mean squares: seeds 0.125 (1), rows 0.4583 (3), rest 0.125 (3).
    Sum: 0.125 + 0.3333 = 0.4583; variance / 8; freedom (0.4583 / 0.125) ** 2 = 13.44; quantile 2.1532.
    """
    differences = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    reach = 2.1532 * (0.458333 / 8) ** 0.5
    assert compute_study_interval(differences) == pytest.approx([0.375 - reach, 0.375 + reach], abs=1e-3)


def test_if_only_seeds_vary_it_is_the_t_interval_over_seeds() -> None:
    differences = np.repeat([[0.01], [0.03], [0.08]], 500, axis=1)
    expected = ttest_1samp([0.01, 0.03, 0.08], 0).confidence_interval(0.95)
    assert compute_study_interval(differences) == pytest.approx(list(expected))


@pytest.mark.parametrize("seeds", [1, 3])
def test_if_only_rows_vary_it_is_the_t_interval_over_rows(seeds: int) -> None:
    """Three equal trainings are no more informative than one."""
    row = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=400, p=[0.05, 0.85, 0.1])
    expected = ttest_1samp(row, 0).confidence_interval(0.95)
    assert compute_study_interval(np.tile(row, (seeds, 1))) == pytest.approx(list(expected), abs=1e-3)


def test_the_paired_interval_has_its_nominal_coverage() -> None:
    """95% of studies with three seeds, in which seeds and rows both vary; a few more or fewer by chance."""
    generator, hits = np.random.default_rng(7), 0
    for _ in range(400):
        seeds = generator.normal(0, 0.02, size=(3, 1))
        rows = generator.normal(0, 0.3, size=(1, 300))
        low, high = compute_study_interval(0.05 + seeds + rows + generator.normal(0, 0.3, size=(3, 300)))
        hits += low <= 0.05 <= high
    assert 0.91 <= hits / 400 <= 0.98


def simulate_differences(generator: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of shape (seeds, rows) with mean 0.05, and the clusters whose rows share most of the variance."""
    ids = np.repeat(np.arange(120), generator.integers(1, 8, 120))
    by_seed, by_cluster = generator.normal(0, 0.005, size=(seeds, 1)), generator.normal(0, 0.3, size=120)[ids]
    both = generator.normal(0, 0.2, size=(seeds, 120))[:, ids]
    return 0.05 + by_seed + by_cluster + both + generator.normal(0, 0.1, size=(seeds, len(ids))), ids


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_paired_interval_of_correlated_rows_has_its_coverage_only_with_clusters(seeds: int) -> None:
    generator, hits = np.random.default_rng(3), np.zeros(2)
    for _ in range(400):
        differences, ids = simulate_differences(generator, seeds)
        intervals = compute_study_interval(differences, ids), compute_study_interval(differences)
        hits += [low <= 0.05 <= high for low, high in intervals]
    clustered, independent = hits / 400
    assert clustered >= 0.93
    assert independent < 0.85


def test_copies_of_rows_in_clusters_count_once_in_the_paired_interval() -> None:
    differences = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(3, 100))
    ids = np.repeat(np.arange(100), 4)
    copies = compute_study_interval(np.repeat(differences, 4, axis=1), ids)
    assert copies == pytest.approx(compute_study_interval(differences))
    assert compute_study_interval(differences, np.arange(100) + 5) == compute_study_interval(differences)
    assert compute_study_interval(differences, np.zeros(100)) == [-1, 1]  # one cluster has no variance


def test_arms_with_the_same_predictions_do_not_differ() -> None:
    right = np.array([[True, False, True], [True, True, False]])
    assert compare_arms(right, right) == {"difference": 0, "ci95": [0, 0], "per_seed": [0, 0]}
    better = compare_arms(np.zeros((2, 50)), np.ones((2, 50)))
    assert (better["difference"], better["ci95"], better["per_seed"]) == (1, [1, 1], [1, 1])


def effect(budget: int, low: float, high: float, name: str = "both changes") -> dict[str, Any]:
    return {"effect": name, "budget": budget, "difference": (low + high) / 2, "ci95": [low, high]}


BETTER, OPEN, WORSE = (0.01, 0.03), (-0.01, 0.01), (-0.03, -0.01)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [([OPEN, OPEN], None), ([BETTER, OPEN], 100), ([BETTER, BETTER], 300), ([OPEN, BETTER], 300),
     ([BETTER, WORSE], 100), ([WORSE, WORSE], None)],
)  # fmt: skip
def test_the_largest_budget_at_which_adaptation_pays(outcomes: list[tuple[float, float]], expected: int | None) -> None:
    paying = find_paying_budget([effect(budget, *ends) for budget, ends in zip((100, 300), outcomes, strict=True)])
    assert paying is not None
    assert paying["budget"] == expected


def test_an_exception_is_named() -> None:
    paying = find_paying_budget([effect(100, *OPEN), effect(300, *BETTER), effect(1000, *BETTER), effect(3000, *OPEN)])
    assert paying == {
        "budget": 1000,
        "consistent": False,
        "exceptions": [100],
        "by_budget": {100: "inconclusive", 300: "better", 1000: "better", 3000: "inconclusive"},
    }


def make_runs(arms: dict[str, float]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Two budgets, two seeds, 200 test rows; each arm has its accuracy and its seconds."""
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
                        "total_seconds": 10.0 * seed + adaptation, "amortized_seconds": 10.0 * seed + adaptation / 4,
                    }
                )  # fmt: skip
                right.append(answers)
    return runs, right


def test_a_summary_pairs_runs_by_budget_and_seed_in_any_order() -> None:
    summary = summarize_study(*make_runs({"e2e": 0.8, "mlm+decay": 0.9}))
    assert (summary["arms"], summary["budgets"], summary["seeds"]) == (["e2e", "mlm+decay"], [100, 300], [2, 1])
    cells = [(cell["arm"], cell["budget"], cell["score"]) for cell in summary["scores"]]
    assert cells == [("e2e", 100, 0.8), ("e2e", 300, 0.8), ("mlm+decay", 100, 0.9), ("mlm+decay", 300, 0.9)]
    assert summary["scores"][2]["seconds"] == {"finetuning": 15.0, "total": 75.0, "amortized": 30.0}
    assert [(one["effect"], one["budget"]) for one in summary["effects"]] == [
        ("both changes", 100),
        ("both changes", 300),
    ]
    assert summary["effects"][0]["difference"] == pytest.approx(0.1)
    assert summary["adaptation_pays"]["budget"] == 300


def test_effects_are_those_of_the_arms_of_the_study() -> None:
    arms = dict.fromkeys(["e2e", "e2e+decay", "mlm", "mlm+decay", "placebo+decay"], 0.8)
    found = {one["effect"] for one in summarize_study(*make_runs(arms))["effects"]}
    assert len(found) == 7
    summary = summarize_study(*make_runs({"e2e": 0.8, "mlm": 0.8}))
    assert {one["effect"] for one in summary["effects"]} == {"adaptation, without decay"}
    assert summary["adaptation_pays"] is None


def test_a_summary_counts_clusters_and_widens_intervals_by_them() -> None:
    runs, correct = make_runs({"e2e": 0.8, "mlm+decay": 0.9})
    single, clustered = summarize_study(runs, correct), summarize_study(runs, correct, np.arange(200) // 10)
    assert (single["test_clusters"], clustered["test_clusters"]) == (200, 20)
    for wide, narrow in zip(clustered["effects"], single["effects"], strict=True):
        assert wide["difference"] == narrow["difference"]
        assert wide["ci95"][0] < narrow["ci95"][0] < narrow["ci95"][1] < wide["ci95"][1]
    assert clustered["scores"] == single["scores"]


def test_interval_of_three_seeds() -> None:
    assert compute_seed_interval([0.80, 0.82, 0.84]) == pytest.approx([0.7703, 0.8697], abs=1e-4)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "balanced_accuracy", "mcc", "f1"])
def test_row_scores_have_the_metric_as_mean_and_the_spread_of_a_bootstrap(metric: str) -> None:
    generator = np.random.default_rng(5)
    labels = (generator.random(800) < 0.2).astype(int)
    predicted = np.where(generator.random(800) < 0.85, labels, 1 - labels)
    values = compute_row_scores(labels, predicted, 2, metric)
    names = ["negative", "positive"]
    assert values.mean() == pytest.approx(compute_metrics(predicted, labels, names)[metric])
    if metric == "accuracy":
        assert values == pytest.approx((labels == predicted).astype(float))
    resamples = []
    for _ in range(400):
        drawn = generator.integers(0, 800, 800)
        resamples.append(compute_metrics(predicted[drawn], labels[drawn], names)[metric])
    assert values.std() / np.sqrt(800) == pytest.approx(np.std(resamples), rel=0.15)


def test_an_effect_on_another_metric_has_its_difference_and_an_interval_that_covers() -> None:
    """B always answers the frequent class: ahead in accuracy, far behind in macro F1."""
    generator = np.random.default_rng(6)
    labels = (generator.random(1_000) < 0.1).astype(int)
    answers_a = [np.where(generator.random(1_000) < 0.88, labels, 1 - labels) for _ in range(3)]
    answers_b = [np.zeros(1_000, dtype=int)] * 3
    found = {}
    for metric in ("accuracy", "macro_f1"):
        scores = [
            np.stack([compute_row_scores(labels, one, 2, metric) for one in own]) for own in (answers_a, answers_b)
        ]
        found[metric] = compare_arms(*scores)
        expected = [
            compute_metrics(second, labels, ["n", "p"])[metric] - compute_metrics(first, labels, ["n", "p"])[metric]
            for first, second in zip(answers_a, answers_b, strict=True)
        ]
        assert found[metric]["per_seed"] == pytest.approx(expected)
        assert found[metric]["ci95"][0] < np.mean(expected) < found[metric]["ci95"][1]
    assert found["accuracy"]["difference"] > 0 > found["macro_f1"]["ci95"][1]
