"""Intervals and paired tests, B minus A, for classifiers on the same test rows, which may be clustered (id per row)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student_t

RESAMPLES = 10_000
CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
POWER = 0.80
ONE_POINT = 0.01
Z = float(norm.ppf((1 + CONFIDENCE) / 2))
# With fewer discordant rows no p-value is below 0.05: 2 * 0.5 ** 5 is 0.0625.
FEWEST_DISCORDANT = 6


def compare_predictions(
    labels: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Scores of A and B with 95% intervals, fixes and regressions of B, McNemar's p-value, and which is better.

    A fix is a row that only B classifies correctly, a regression one that only A does. `needed_rows` is for the
    observed difference, `needed_rows_for_one_point` for one percentage point.
    """
    true, first, second = (np.asarray(values, dtype=np.int64) for values in (labels, predicted_a, predicted_b))
    ids = number_clusters(clusters, len(true))
    groups = int(ids.max()) + 1
    # Axes: cluster, true label, label by A, label by B.
    cells = np.bincount(8 * ids + 4 * true + 2 * first + second, minlength=8 * groups).reshape(groups, 2, 2, 2)
    metrics = compare_scores(cells, resamples)
    changes = (second == true).astype(int) - (first == true)
    p_value = compute_mcnemar_p(np.rint(np.bincount(ids, weights=changes)).astype(int))
    difference, discordance = float(changes.mean()), float(np.abs(changes).mean())
    design_effect = compute_design_effect(changes, ids)
    return {
        "test_rows": len(true),
        "test_clusters": groups,
        "better": choose_better(metrics["accuracy"]["difference_ci95"], p_value),
        "fixes": int((changes > 0).sum()),
        "regressions": int((changes < 0).sum()),
        "mcnemar_p": p_value,
        "needed_rows": compute_needed_rows(difference, discordance, design_effect),
        "needed_rows_for_one_point": compute_needed_rows(ONE_POINT, max(ONE_POINT, discordance), design_effect),
        "metrics": metrics,
    }


def number_clusters(clusters: ArrayLike | None, rows: int) -> np.ndarray:
    """Cluster ids from 0 without gaps, shape (rows,); without `clusters`, each row is its own cluster."""
    return np.arange(rows) if clusters is None else np.unique(clusters, return_inverse=True)[1]


def compare_scores(cells: np.ndarray, resamples: int) -> dict[str, dict[str, Any]]:
    """Each score for `a`, `b` and their `difference`, with 95% intervals from a paired cluster bootstrap.

    `cells` counts rows by cluster, true label, label by A and label by B. The intervals are percentiles (Efron &
    Tibshirani 1993, chapter 13) over whole clusters (Field & Welsh 2007, JRSS B 69, 369-390).
    """
    # Clusters with equal counts are exchangeable: draw how often each pattern of counts occurs, and not each cluster.
    patterns, occurrences = np.unique(cells.reshape(-1, 8), axis=0, return_counts=True)
    patterns, occurrences = patterns[::-1], occurrences[::-1]
    drawn = np.random.default_rng(0).multinomial(len(cells), occurrences / len(cells), size=resamples) @ patterns
    # The first entry holds the observed counts, the others are resamples.
    counts = np.concatenate([cells.sum(axis=0)[np.newaxis], drawn.reshape(-1, 2, 2, 2)])
    scores_a, scores_b = compute_scores(counts.sum(axis=3)), compute_scores(counts.sum(axis=2))
    compared: dict[str, dict[str, Any]] = {name: {} for name in scores_a}
    for name in compared:
        values = {"a": scores_a[name], "b": scores_b[name], "difference": scores_b[name] - scores_a[name]}
        for key, scores in values.items():
            interval = np.percentile(scores[1:], [2.5, 97.5]).tolist()
            compared[name] |= {key: float(scores[0]), f"{key}_ci95": interval}
    return compared


def compute_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of shape (...) by scikit-learn's definitions from confusion matrices of shape (..., 2, 2); 0 for 0 / 0."""
    (true_negative, false_positive), (false_negative, true_positive) = np.moveaxis(confusion, (-2, -1), (0, 1))
    errors = false_positive + false_negative
    f1 = _divide(2 * true_positive, 2 * true_positive + errors)
    return {
        "accuracy": _divide(true_negative + true_positive, confusion.sum(axis=(-2, -1))),
        "precision": _divide(true_positive, true_positive + false_positive),
        "recall": _divide(true_positive, true_positive + false_negative),
        "f1": f1,
        "macro_f1": (f1 + _divide(2 * true_negative, 2 * true_negative + errors)) / 2,
    }


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)


def compute_mcnemar_p(differences: ArrayLike) -> float:
    """Exact two-sided p-value of McNemar's test on clusters, from fixes minus regressions of each cluster.

    If A and B are equally good, swapping their answers to a cluster is as probable as not (Durkalski et al. 2003,
    Statistics in Medicine 22, 2417-2428): p is the share of sign assignments whose sum is at least as far from 0 as the
    observed one. For clusters of one row this is the exact test of McNemar 1947.
    """
    values = np.asarray(differences, dtype=int)
    sizes = np.abs(values[values != 0])
    ones, total = int((sizes == 1).sum()), int(sizes.sum())
    # Assignments by the total size of the flipped clusters, as exact integers; each larger cluster is one convolution.
    counts = np.array([math.comb(ones, flipped) for flipped in range(ones + 1)] + [0] * (total - ones), dtype=object)
    for size in sizes[sizes > 1]:
        counts[size:] = counts[size:] + counts[:-size]
    extreme = np.abs(total - 2 * np.arange(total + 1)) >= abs(values.sum())
    return float(counts[extreme].sum() / 2 ** len(sizes))


def choose_better(interval: Sequence[float], p_value: float) -> str | None:
    """The better one, "a" or "b", if the 95% interval of B minus A excludes 0 and p is below 0.05; else None."""
    low, high = interval
    if p_value >= SIGNIFICANCE or low <= 0 <= high:
        return None
    return "b" if low > 0 else "a"


def compute_needed_rows(difference: float, discordance: float, design_effect: float = 1.0) -> int | None:
    """Test rows with which McNemar's test detects a difference with 80% power at the 5% level; None for 0.

    `discordance` is the share of rows that only one classifies correctly (Connor 1987, Biometrics 43, 207-211).
    """
    if difference == 0:
        return None
    spread = math.sqrt(max(0.0, discordance - difference**2))  # rounding may make it negative
    rows = ((Z * math.sqrt(discordance) + float(norm.ppf(POWER)) * spread) / difference) ** 2
    return math.ceil(design_effect * max(rows, FEWEST_DISCORDANT / discordance))


def compute_proportion_interval(flags: ArrayLike, clusters: ArrayLike | None = None) -> list[float]:
    """Wilson's 95% interval of the share of true flags, within 0 and 1, for the effective sample size."""
    values = np.asarray(flags, dtype=float)
    ids, rows = number_clusters(clusters, len(values)), float(len(values))
    if (groups := int(ids.max()) + 1) < rows:
        # Korn & Graubard 1998, Survey Methodology 24, 193-201.
        quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, max(1, groups - 1)))
        rows *= (Z / quantile) ** 2 / compute_design_effect(values, ids)
    return compute_wilson_interval(float(values.mean()) * rows, rows)


def compute_design_effect(values: np.ndarray, ids: np.ndarray) -> float:
    """Cluster-robust variance of a mean over its variance for independent rows (Kish 1965), at least 1."""
    sizes, deviations = np.bincount(ids), values - values.mean()
    rows, groups = len(ids), len(sizes)
    if groups == rows:
        return 1.0
    # Without variance it cannot be estimated: the rows of a cluster count as copies of each other.
    if groups == 1 or not deviations.any():
        return float(sizes @ sizes / rows)
    sums = np.bincount(ids, weights=deviations)
    ratio = (sums @ sums) / (deviations @ deviations)
    return max(1.0, float(ratio * groups / (groups - 1) * (rows - 1) / rows))


def compute_wilson_interval(count: float, rows: float) -> list[float]:
    """95% interval of the proportion `count / rows`, which may be fractions, by the score method (Wilson 1927)."""
    share, weight = count / rows, Z**2 / rows
    center = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return [max(0.0, center - reach), min(1.0, center + reach)]
