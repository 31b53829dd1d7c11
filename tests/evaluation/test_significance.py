"""The statistics of a comparison against known values, analytic intervals, scikit-learn and simulations."""

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import matthews_corrcoef

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.intervals import (
    compute_design_effect,
    compute_paired_interval,
    compute_proportion_interval,
    compute_wilson_interval,
)
from sentiment.evaluation.metrics import compute_metrics
from sentiment.evaluation.significance import (
    choose_better,
    compare_predictions,
    compute_mcnemar_p,
    compute_needed_rows,
    find_collapsed_class,
)
from sentiment.reporting.verdicts import describe_comparison

Predictions = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_predictions(both: int, fixes: int, regressions: int, neither: int) -> Predictions:
    """Labels and the predictions of A and B, with as many rows that both, only B, only A and neither get right."""
    labels = np.resize([0, 1, 1], both + fixes + regressions + neither)
    right_a = np.repeat([True, False, True, False], [both, fixes, regressions, neither])
    right_b = np.repeat([True, True, False, False], [both, fixes, regressions, neither])
    return labels, np.where(right_a, labels, 1 - labels), np.where(right_b, labels, 1 - labels)


@pytest.mark.parametrize(("fixes", "regressions"), [(10, 2), (2, 10), (0, 0), (3, 3), (5, 0), (80, 51), (700, 600)])
def test_with_one_row_per_cluster_the_p_value_is_that_of_the_exact_mcnemar_test(fixes: int, regressions: int) -> None:
    expected = binomtest(fixes, fixes + regressions).pvalue if fixes + regressions else 1.0
    assert compute_mcnemar_p([1] * fixes + [0] * 7 + [-1] * regressions) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("differences", [[3, -1, 2, 2, 0, -1], [4], [2, 2, 2, -1], [5, -5], [1, -2, 3, -4, 5, 1, 1]])
def test_the_p_value_of_clusters_counts_all_sign_assignments(differences: list[int]) -> None:
    sums = [abs(np.dot(signs, differences)) for signs in product([-1, 1], repeat=len(differences))]
    expected = np.mean([value >= abs(sum(differences)) for value in sums])
    assert compute_mcnemar_p(differences) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("both", "fixes", "regressions", "neither"), [(800, 80, 50, 70), (300, 20, 60, 20)])
def test_the_interval_agrees_with_the_analytic_one_of_paired_proportions(
    both: int, fixes: int, regressions: int, neither: int
) -> None:
    accuracy = compare_predictions(*make_predictions(both, fixes, regressions, neither))["metrics"]["accuracy"]
    rows = both + fixes + regressions + neither
    difference = (fixes - regressions) / rows
    half = 1.96 * math.sqrt((fixes + regressions) / rows - difference**2) / math.sqrt(rows)
    assert accuracy["difference"] == pytest.approx(difference)
    assert accuracy["difference_ci95"] == pytest.approx([difference - half, difference + half], abs=0.05 * half)


def test_pairing_narrows_the_interval_of_the_difference() -> None:
    """Runs that mostly agree are compared more precisely than their own intervals suggest."""
    accuracy = compare_predictions(*make_predictions(900, 12, 3, 85))["metrics"]["accuracy"]
    own = accuracy["a_ci95"][1] - accuracy["a_ci95"][0]
    assert accuracy["difference_ci95"][1] - accuracy["difference_ci95"][0] < own / 2


def test_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    labels, *answers = (generator.integers(0, 2, 200) for _ in range(3))
    compared = compare_predictions(labels, *answers)["metrics"]
    for key, predicted in zip("ab", answers, strict=True):
        expected = compute_metrics(predicted, labels, LABEL_NAMES)
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


def test_the_result_is_deterministic_and_mirrored_when_a_and_b_are_swapped() -> None:
    labels, first, second = make_predictions(800, 90, 40, 70)
    result, again = (compare_predictions(labels, first, second) for _ in range(2))
    assert result == again
    swapped = compare_predictions(labels, second, first)
    assert (result["better"], swapped["better"]) == ("b", "a")
    assert (result["fixes"], result["regressions"]) == (swapped["regressions"], swapped["fixes"]) == (90, 40)
    assert result["needed_rows"] == swapped["needed_rows"]
    low, high = result["metrics"]["accuracy"]["difference_ci95"]
    assert swapped["metrics"]["accuracy"]["difference_ci95"] == pytest.approx([-high, -low], abs=0.003)


def test_runs_with_the_same_predictions() -> None:
    labels, first, _ = make_predictions(90, 0, 0, 10)
    outcome = compare_predictions(labels, first, first)
    assert (outcome["better"], outcome["mcnemar_p"], outcome["needed_rows"]) == (None, 1.0, None)
    assert "difference_ci95" not in outcome["metrics"]["f1"]  # resamples of no difference say nothing


@pytest.mark.parametrize(
    ("interval", "p_value", "better"),
    [([0.001, 0.03], 0.04, "b"), ([-0.03, -0.001], 0.04, "a"), ([0.001, 0.03], 0.05, None),
     ([0.0, 0.03], 0.04, None), ([-0.01, 0.03], 0.3, None)],
)  # fmt: skip
def test_better_requires_both_tests(interval: list[float], p_value: float, better: str | None) -> None:
    assert choose_better(interval, p_value) == better


@pytest.mark.parametrize(("fixes", "regressions"), [(40, 20), (90, 60), (12, 1)])
def test_needed_rows_have_the_power_that_they_promise(fixes: int, regressions: int) -> None:
    """Simulated with McNemar's test at the same share of discordant rows."""
    rows = compute_needed_rows((fixes - regressions) / 1000, (fixes + regressions) / 1000)
    assert rows is not None
    generator = np.random.default_rng(0)
    rest = 1 - (fixes + regressions) / 1000
    drawn = generator.multinomial(rows, [fixes / 1000, regressions / 1000, rest], size=4000)[:, :2]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    significant = [compute_mcnemar_p([1] * fixed + [-1] * broken) < 0.05 for fixed, broken in found]
    # The exact test is slightly less powerful than the one that the formula is for.
    assert 0.74 < counts[significant].sum() / 4000 < 0.84


def test_needed_rows_of_no_difference_of_opposite_ones_and_of_clusters() -> None:
    assert compute_needed_rows(0.0, 0.1) is None
    assert compute_needed_rows(-0.02, 0.1) == compute_needed_rows(0.02, 0.1)
    assert compute_needed_rows(0.1, 0.1) is not None  # no regressions: the root of 0, whatever rounding does
    assert compute_needed_rows(0.4, 0.5, design_effect=2.0) == 45  # 22.4 * 2


def test_an_inconclusive_result_never_needs_fewer_rows_than_there_are() -> None:
    for fixes in range(9):
        for regressions in range(9):
            for others in (0, 1, 20):
                if fixes + regressions + others:
                    outcome = compare_predictions(*make_predictions(others, fixes, regressions, 0), resamples=200)
                    if not outcome["better"] and fixes != regressions:
                        assert outcome["needed_rows"] > outcome["test_rows"], (fixes, regressions, others)


# --- clusters ---


def test_wilson_interval_of_fractional_counts() -> None:
    assert compute_wilson_interval(0, 7.5)[0] == 0.0
    assert compute_wilson_interval(7.5, 7.5)[1] == 1.0
    low, high = compute_wilson_interval(6.3, 7.9)
    assert compute_wilson_interval(6, 8)[0] < low < 6.3 / 7.9 < high < 1


def test_one_row_per_cluster_changes_nothing() -> None:
    labels, first, second = make_predictions(300, 40, 22, 38)
    ids = np.random.default_rng(0).permutation(400) * 3  # any ids
    assert compare_predictions(labels, first, second, ids) == compare_predictions(labels, first, second)
    assert compute_proportion_interval(first == labels, ids) == compute_proportion_interval(first == labels)


def test_copies_of_rows_count_once() -> None:
    """Three copies of every row, in clusters: the estimates and tests of the rows without copies."""
    predictions = make_predictions(150, 30, 14, 6)
    copies = [np.repeat(values, 3) for values in predictions]
    ids = np.repeat(np.arange(200), 3)
    single, clustered, naive = (
        compare_predictions(*predictions), compare_predictions(*copies, ids), compare_predictions(*copies),
    )  # fmt: skip
    assert (clustered["test_rows"], clustered["test_clusters"], clustered["fixes"]) == (600, 200, 90)
    assert clustered["mcnemar_p"] == single["mcnemar_p"] > 100 * naive["mcnemar_p"]
    for name, scores in single["metrics"].items():  # the same clusters are drawn
        for key, value in scores.items():
            assert clustered["metrics"][name][key] == pytest.approx(value, abs=1e-3)
    assert clustered["needed_rows"] == pytest.approx(3 * single["needed_rows"], rel=0.01)
    correct = predictions[1] == predictions[0]
    interval = compute_proportion_interval(np.repeat(correct, 3), ids)
    assert interval == pytest.approx(compute_proportion_interval(correct), abs=1e-3)


def test_the_order_and_the_names_of_clusters_do_not_matter() -> None:
    generator = np.random.default_rng(5)
    labels, first, second, ids = (generator.integers(0, high, 300) for high in (2, 2, 2, 90))
    order = generator.permutation(300)
    shuffled = compare_predictions(labels[order], first[order], second[order], 1000 - 7 * ids[order])
    assert shuffled == compare_predictions(labels, first, second, ids)


@pytest.mark.parametrize("correct", [[True] * 12, [False] * 12, [True] * 6 + [False] * 6])
def test_few_clusters_give_wide_intervals_within_0_and_1(correct: list[bool]) -> None:
    independent = compute_proportion_interval(correct)
    for ids in ([0] * 12, [0] * 6 + [1] * 6, np.arange(12) // 3):
        low, high = compute_proportion_interval(correct, ids)
        assert 0 <= low <= np.mean(correct) <= high <= 1
        assert high - low > independent[1] - independent[0]


def test_the_design_effect_of_copies_and_of_opposites() -> None:
    values, ids = np.array([1.0, 0.0, 1.0, 1.0] * 25), np.arange(100)
    assert compute_design_effect(values, ids) == 1.0
    copies = compute_design_effect(np.repeat(values, 4), np.repeat(ids, 4))
    assert copies == pytest.approx(4, rel=0.02)
    assert compute_design_effect(np.array([0.0, 1.0] * 50), np.arange(100) // 2) == 1.0  # never below


def simulate(generator: np.random.Generator, clusters: int = 150) -> tuple[Predictions, np.ndarray]:
    """Labels and predictions of two equally good models whose errors are shared by the rows of a cluster."""
    ids = np.repeat(np.arange(clusters), generator.integers(1, 8, clusters))
    labels = generator.integers(0, 2, len(ids))
    difficulty = generator.beta(0.5, 2.0, clusters)[ids]  # the error rate in a cluster; on average 0.2
    answers = [np.where(generator.random(len(ids)) < difficulty, 1 - labels, labels) for _ in "ab"]
    for answer in answers:  # and each model misclassifies some clusters completely
        wrong = (generator.random(clusters) < 0.05)[ids]
        answer[wrong] = 1 - labels[wrong]
    return (labels, *answers), ids


def test_intervals_and_tests_of_correlated_rows_hold_their_level_only_with_clusters() -> None:
    """400 simulated test sets of about 600 rows in 150 clusters."""
    generator, accuracy = np.random.default_rng(11), 0.95 * 0.8
    hits = {kind: np.zeros(3) for kind in ("clusters", "rows")}
    for _ in range(400):
        (labels, first, second), ids = simulate(generator)
        for kind, clusters in (("clusters", ids), ("rows", None)):
            outcome = compare_predictions(labels, first, second, clusters, resamples=400)
            low, high = outcome["metrics"]["accuracy"]["difference_ci95"]
            own_low, own_high = compute_proportion_interval(first == labels, clusters)
            hits[kind] += [low <= 0 <= high, outcome["mcnemar_p"] >= 0.05, own_low <= accuracy <= own_high]
    difference, test, own = hits["clusters"] / 400
    assert difference >= 0.93
    assert test >= 0.94
    assert own >= 0.93
    assert max(hits["rows"] / 400) < 0.88


def test_published_examples() -> None:
    assert (compute_mcnemar_p([1] * 10 + [-1] * 2), compute_mcnemar_p([])) == (0.03857421875, 1.0)
    assert compute_needed_rows(0.45 - 0.05, 0.45 + 0.05) == 23  # Connor 1987
    assert compute_wilson_interval(90, 100) == pytest.approx([0.8256, 0.9448], abs=1e-4)


def test_scores_of_five_classes_are_those_of_the_metrics_and_their_intervals_contain_them() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 5, 400)
    first, second = (
        np.where(generator.random(400) < share, labels, generator.integers(0, 5, 400)) for share in (0.5, 0.7)
    )
    compared = compare_predictions(labels, first, second, num_classes=5)["metrics"]
    assert compared.keys() == {"accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc"}
    for key, predicted in (("a", first), ("b", second)):
        expected = compute_metrics(predicted, labels, [*"12345"])
        for name, scores in compared.items():
            assert scores[key] == pytest.approx(expected[name])
            low, high = scores[f"{key}_ci95"]
            assert low < scores[key] < high
    assert compared["macro_f1"]["difference_ci95"][0] > 0


def test_seventy_seven_classes_are_compared_in_seconds_and_little_memory() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 77, 3_000)
    answers = [np.where(generator.random(3_000) < 0.8, labels, generator.integers(0, 77, 3_000)) for _ in "ab"]
    tracemalloc.start()
    outcome = compare_predictions(labels, *answers, np.arange(3_000) // 2, num_classes=77)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e9
    assert outcome["test_clusters"] == 1_500


def test_another_metric_decides() -> None:
    """B gives up accuracy on the frequent class for the rare one."""
    labels = np.array([0] * 900 + [1] * 100)
    first = np.array([0] * 900 + [1] * 20 + [0] * 80)
    second = np.array([1] * 120 + [0] * 780 + [1] * 90 + [0] * 10)
    by_accuracy, by_recall = (
        compare_predictions(labels, first, second, metric=metric) for metric in ("accuracy", "balanced_accuracy")
    )
    assert (by_accuracy["better"], by_recall["better"]) == ("a", "b")
    found = by_recall["metrics"]["balanced_accuracy"]
    assert (found["a"], found["b"]) == (pytest.approx(0.6), pytest.approx((780 / 900 + 0.9) / 2))
    for key, predicted in (("a", first), ("b", second)):
        assert by_recall["metrics"]["mcc"][key] == pytest.approx(matthews_corrcoef(labels, predicted))


@pytest.mark.parametrize(
    ("matrix", "collapsed"),
    [
        ([[50, 0], [50, 0]], 0),
        ([[0, 50], [0, 50]], 1),
        ([[90, 0], [9, 1]], 0),
        ([[980, 0], [15, 5]], None),  # hardly any row is of the other class, and it answers both
        ([[100, 0], [0, 0]], None),  # no row is
        ([[70, 10], [10, 10]], None),
        ([[10, 0, 0], [10, 0, 0], [10, 0, 0]], 0),
    ],
)
def test_a_model_that_answers_one_class_has_collapsed(matrix: list[list[int]], collapsed: int | None) -> None:
    assert find_collapsed_class(matrix) == collapsed


def test_no_model_is_better_than_a_collapsed_one() -> None:
    labels = np.array([0, 1] * 200)
    outcome = compare_predictions(labels, np.zeros(400, int), labels)
    assert outcome["metrics"]["accuracy"]["difference"] == 0.5
    assert (outcome["collapsed"], outcome["better"]) == (["a"], None)
    assert "No verdict: e2e has collapsed" in describe_comparison("e2e", "finetune", outcome)


@pytest.mark.parametrize(
    ("rows", "accuracy_a", "accuracy_b", "discordance"),
    [
        (10, 0.8, 0.85, 0.15),
        (20, 0.97, 0.98, 0.03),
        (50, 0.9, 0.92, 0.06),
        (200, 0.5, 0.55, 0.3),
        (1000, 0.97, 0.98, 0.03),
    ],
)
def test_the_paired_interval_has_its_coverage_at_the_edges(
    rows: int, accuracy_a: float, accuracy_b: float, discordance: float
) -> None:
    """Few rows, accuracies near 1, few discordant rows: where percentiles of a bootstrap cover 16 to 86%."""
    difference = accuracy_b - accuracy_a
    gain, loss = (discordance + difference) / 2, (discordance - difference) / 2
    counts = np.random.default_rng(0).multinomial(rows, [gain, loss, 1 - discordance], size=2_000)
    intervals = np.array([compute_paired_interval(fixes, regressions, rows) for fixes, regressions, _ in counts])
    covered = (intervals[:, 0] <= difference) & (difference <= intervals[:, 1])
    assert covered.mean() > 0.93


@pytest.mark.parametrize(("rows", "share"), [(10, 0.5), (10, 0.95), (30, 0.99), (100, 0.02), (1000, 0.9)])
def test_the_interval_of_an_accuracy_has_its_coverage_at_the_edges(rows: int, share: float) -> None:
    """On average over nearby accuracies: at a single one, coverage jumps with the whole numbers of rows."""
    generator = np.random.default_rng(0)
    shares = np.clip(share + generator.uniform(-0.02, 0.02, 3_000), 0.001, 0.999)
    intervals = np.array([compute_wilson_interval(count, rows) for count in generator.binomial(rows, shares)])
    assert ((intervals[:, 0] <= shares) & (shares <= intervals[:, 1])).mean() > 0.93
