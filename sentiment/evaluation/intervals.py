"""95% intervals of means, shares and paired differences, for rows that may be clustered (an id for each row)."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student_t

CONFIDENCE = 0.95
Z = float(norm.ppf((1 + CONFIDENCE) / 2))


def number_clusters(clusters: ArrayLike | None, rows: int) -> np.ndarray:
    """Cluster ids from 0 without gaps, shape (rows,); without `clusters`, each row is its own cluster."""
    return np.arange(rows) if clusters is None else np.unique(clusters, return_inverse=True)[1]


def compute_mean_interval(values: ArrayLike) -> list[float]:
    """Student's 95% t-interval of the mean of two values or more.

    >>> [round(end, 2) for end in compute_mean_interval([0.0, 1.0, 2.0])]
    [-1.48, 3.48]
    """
    found = np.asarray(values, dtype=float)
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, len(found) - 1))
    reach = quantile * found.std(ddof=1) / np.sqrt(len(found))
    return [float(found.mean() - reach), float(found.mean() + reach)]


def compute_proportion_interval(flags: ArrayLike, clusters: ArrayLike | None = None) -> list[float]:
    """Wilson's 95% interval of the share of true flags, within 0 and 1, for the effective sample size."""
    values = np.asarray(flags, dtype=float)
    ids, rows = number_clusters(clusters, len(values)), float(len(values))
    if (groups := int(ids.max()) + 1) < rows:
        # Korn & Graubard 1998, Survey Methodology 24, 193-201.
        quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, max(1, groups - 1)))
        rows *= (Z / quantile) ** 2 / compute_design_effect(values, ids)
    return compute_wilson_interval(float(values.mean()) * rows, rows)


def compute_paired_interval(fixes: float, regressions: float, rows: float) -> list[float]:
    """95% interval of the difference of two accuracies on the same rows, from the rows that only one has right.

    The adjusted Wald interval for paired proportions (Bonett & Price 2012, Journal of Educational and Behavioral
    Statistics 37, 479-488). The percentiles of a bootstrap cover 16% instead of 95% if only few rows differ.
    """
    gain, loss = (fixes + 1) / (rows + 2), (regressions + 1) / (rows + 2)
    difference = gain - loss
    reach = Z * math.sqrt((gain + loss - difference**2) / (rows + 2))
    return [max(-1.0, difference - reach), min(1.0, difference + reach)]


def compute_wilson_interval(count: float, rows: float) -> list[float]:
    """95% interval of the proportion `count / rows`, which may be fractions, by the score method (Wilson 1927)."""
    share, weight = count / rows, Z**2 / rows
    center = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return [max(0.0, center - reach), min(1.0, center + reach)]


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
