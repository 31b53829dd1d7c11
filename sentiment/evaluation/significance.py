"""Paired tests, B minus A, for classifiers on the same test rows, which may be clustered (id per row)."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from sentiment.evaluation.intervals import Z, compute_design_effect, compute_paired_interval, number_clusters

RESAMPLES = 10_000
RESAMPLES_AT_ONCE = 1_000  # bounds memory with many classes
SIGNIFICANCE = 0.05
POWER = 0.80
ONE_POINT = 0.01
# A model has collapsed if this share of its answers is one class, and fewer rows than the second share are of it.
COLLAPSED_SHARE, FREQUENT_SHARE = 0.99, 0.97
# With fewer discordant rows no p-value is below 0.05: 2 * 0.5 ** 5 is 0.0625.
FEWEST_DISCORDANT = 6


def compare_predictions(
    labels: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    num_classes: int | None = None,
    metric: str = "accuracy",
) -> dict[str, Any]:
    """Scores of A and B with 95% intervals, fixes and regressions of B, McNemar's p-value, and which is better.

    A fix is a row that only B classifies correctly, a regression one that only A does. `needed_rows` is for the
    observed difference, `needed_rows_for_one_point` for one percentage point. `num_classes` is by default the largest
    label plus one. `metric` decides which is better; McNemar's test, which is on accuracy, has a say in that one only.
    Neither is better if one has `collapsed` ("a", "b"), or if under `FEWEST_DISCORDANT` rows differ, of which there are
    no intervals of differences but that of accuracy.
    """
    true, first, second = (np.asarray(values, dtype=np.int64) for values in (labels, predicted_a, predicted_b))
    ids = number_clusters(clusters, len(true))
    groups = int(ids.max()) + 1
    num_classes = num_classes or int(max(values.max() for values in (true, first, second))) + 1
    metrics = compare_scores(np.stack([true, first, second]), ids, num_classes, resamples)
    changes = (second == true).astype(int) - (first == true)
    p_value = compute_mcnemar_p(np.rint(np.bincount(ids, weights=changes)).astype(int))
    difference, discordance = float(changes.mean()), float(np.abs(changes).mean())
    design_effect = compute_design_effect(changes, ids)
    fixes, regressions = int((changes > 0).sum()), int((changes < 0).sum())
    metrics["accuracy"]["difference_ci95"] = compute_paired_interval(
        fixes / design_effect, regressions / design_effect, len(true) / design_effect
    )
    cells = (np.bincount(true * num_classes + found, minlength=num_classes**2) for found in (first, second))
    matrices = (counts.reshape(num_classes, num_classes) for counts in cells)
    collapsed = [key for key, matrix in zip("ab", matrices, strict=True) if find_collapsed_class(matrix) is not None]
    better = None
    if fixes + regressions >= FEWEST_DISCORDANT:
        better = choose_better(metrics[metric]["difference_ci95"], p_value if metric == "accuracy" else 0.0)
    else:  # resamples of so few differences say nothing
        for name in metrics.keys() - {"accuracy"}:
            del metrics[name]["difference_ci95"]
    return {
        "test_rows": len(true),
        "test_clusters": groups,
        "metric": metric,
        "collapsed": collapsed,
        "better": None if collapsed else better,
        "fixes": fixes,
        "regressions": regressions,
        "mcnemar_p": p_value,
        "needed_rows": compute_needed_rows(difference, discordance, design_effect),
        "needed_rows_for_one_point": compute_needed_rows(ONE_POINT, max(ONE_POINT, discordance), design_effect),
        "metrics": metrics,
    }


def find_collapsed_class(confusion_matrix: ArrayLike) -> int | None:
    """The class that a model answers (nearly) always, though other classes are true; None if it has not collapsed.

    >>> find_collapsed_class([[90, 0], [10, 0]]), find_collapsed_class([[80, 1], [10, 9]])
    (0, None)
    """
    counts = np.asarray(confusion_matrix)
    shares, rows = counts.sum(axis=0) / counts.sum(), counts.sum(axis=1)
    answer = int(shares.argmax())
    is_constant = shares[answer] == 1 and rows[answer] < rows.sum()
    is_nearly = shares[answer] >= COLLAPSED_SHARE and rows[answer] < FREQUENT_SHARE * rows.sum()
    return answer if is_constant or is_nearly else None


def compare_scores(labels: np.ndarray, ids: np.ndarray, num_classes: int, resamples: int) -> dict[str, dict[str, Any]]:
    """Each score for `a`, `b` and their `difference`, with 95% intervals from a paired cluster bootstrap.

    `labels` are the true ones, those by A and by B, shape (3, rows); `ids` the clusters. The intervals are percentiles
    (Efron & Tibshirani 1993, chapter 13) over whole clusters (Field & Welsh 2007, JRSS B 69, 369-390).
    """
    # Rows with equal labels are exchangeable: count by kind of row, and draw how often each pattern of counts occurs
    # among clusters, not each cluster.
    kinds, kind_of_row = np.unique(labels, axis=1, return_inverse=True)
    patterns, occurrences = count_patterns(kind_of_row.ravel(), ids, kinds.shape[1])
    generator, shares = np.random.default_rng(0), occurrences / occurrences.sum()
    totals = [count_by_class(kinds[0], kinds[run], num_classes) for run in (1, 2)]
    parts: list[list[dict[str, np.ndarray]]] = [[], []]
    # The first entry holds the observed counts, the others are resamples.
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - start)
        drawn = generator.multinomial(occurrences.sum(), shares, size=size)
        counts = (drawn if start else np.concatenate([occurrences[np.newaxis], drawn])) @ patterns
        for part, by_class in zip(parts, totals, strict=True):
            part.append(compute_scores(np.moveaxis(np.tensordot(counts, by_class, axes=(1, 1)), 1, 0)))
    scores_a, scores_b = (
        {name: np.concatenate([scores[name] for scores in part]) for name in part[0]} for part in parts
    )
    compared: dict[str, dict[str, Any]] = {name: {} for name in scores_a}
    for name in compared:
        values = {"a": scores_a[name], "b": scores_b[name], "difference": scores_b[name] - scores_a[name]}
        for key, scores in values.items():
            interval = np.percentile(scores[1:], [2.5, 97.5]).tolist()
            compared[name] |= {key: float(scores[0]), f"{key}_ci95": interval}
    return compared


def compute_row_scores(
    labels: ArrayLike, predicted: ArrayLike, num_classes: int, metric: str = "accuracy"
) -> np.ndarray:
    """A value of each row whose mean is the metric, for intervals and tests on means; shape (rows,).

    Pseudo-values of the jackknife (Efron & Tibshirani 1993, chapter 11), with their mean moved to the metric. Of
    accuracy they are whether the row is right.
    """
    cells = np.asarray(labels, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    kinds, kind_of_row, counts = np.unique(cells, return_inverse=True, return_counts=True)
    by_class = count_by_class(kinds // num_classes, kinds % num_classes, num_classes)
    left_out = counts - np.eye(len(kinds))  # without one row of each kind
    totals = np.moveaxis(np.tensordot(np.vstack([counts, left_out]), by_class, axes=(1, 1)), 1, 0)
    score, *others = compute_scores(totals)[metric]
    values = (len(cells) * score - (len(cells) - 1) * np.array(others))[kind_of_row]
    return values + score - values.mean()


def count_patterns(kind_of_row: np.ndarray, ids: np.ndarray, num_kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """The different counts of kinds in a cluster, shape (patterns, kinds), and in how many clusters each occurs."""
    order = np.lexsort((kind_of_row, ids))
    members = np.split(kind_of_row[order], np.flatnonzero(np.diff(ids[order])) + 1)
    found = Counter(found.tobytes() for found in members)
    counts = np.stack([np.bincount(np.frombuffer(key, kind_of_row.dtype), minlength=num_kinds) for key in found])
    order = np.lexsort(counts.T[::-1])[::-1]  # rows in descending order
    return counts[order].astype(float), np.array([*found.values()])[order]  # products of floats are far faster


def count_by_class(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Correct rows, predictions and references of each class in one row of each kind; shape (3, kinds, classes)."""
    classes = np.arange(num_classes)
    is_true, is_predicted = (values[:, np.newaxis] == classes for values in (true, predicted))
    return np.stack([is_true & is_predicted, is_predicted, is_true]).astype(float)


def compute_scores(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of shape (...) by scikit-learn's definitions; 0 for 0 / 0.

    `totals` of shape (3, ..., classes) counts correct rows, predictions and references by class. Precision, recall and
    F1 are those of the second of two classes; macro F1 is over the classes that are predicted or true.
    """
    correct, predicted, true = totals
    rows, right = true.sum(axis=-1), correct.sum(axis=-1)
    f1 = _divide(2 * correct, predicted + true)
    scores = {"accuracy": _divide(right, rows)}
    if totals.shape[-1] == 2:
        scores |= {
            "precision": _divide(correct[..., 1], predicted[..., 1]),
            "recall": _divide(correct[..., 1], true[..., 1]),
            "f1": f1[..., 1],
        }
    spread = np.sqrt((rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (true**2).sum(axis=-1)))
    return scores | {
        "macro_f1": _divide(f1.sum(axis=-1), (predicted + true > 0).sum(axis=-1)),
        "weighted_f1": (f1 * _divide(true, rows[..., np.newaxis])).sum(axis=-1),
        "balanced_accuracy": _divide(_divide(correct, true).sum(axis=-1), (true > 0).sum(axis=-1)),
        # Gorodkin 2004, Computational Biology and Chemistry 28, 367-374.
        "mcc": _divide(right * rows - (predicted * true).sum(axis=-1), spread),
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


def compute_holm_p(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for several tests: below 0.05, a difference holds at 5% for all tests together (Holm 1979).

    >>> compute_holm_p([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
