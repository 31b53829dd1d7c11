"""What a change of the strategy is worth in labels, from the learning curve of the strategy without it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sentiment.evaluation.significance import number_clusters

RESAMPLES = 2_000
TAILS = (2.5, 97.5)  # percentiles
MIN_BUDGETS = 3  # two points are on every power law
MAX_FACTOR = 10.0  # times the largest budget: beyond that, the curve says nothing
MIN_ERROR = 1e-3


class PowerLaw(NamedTuple):
    """A learning curve: the error at n labels is `factor * n ** -exponent`; arrays for several curves."""

    factor: Any
    exponent: Any

    def predict_error(self, labels: ArrayLike) -> Any:
        """The error at a number of labels."""
        return self.factor * np.asarray(labels, dtype=float) ** -self.exponent

    def count_labels(self, error: ArrayLike) -> Any:
        """The labels at which the curve has this error; infinite where it does not fall."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            labels = np.exp((np.log(self.factor) - np.log(error)) / self.exponent)
        return np.where(np.asarray(self.exponent) > 0, labels, np.inf)


def fit_power_law(budgets: ArrayLike, errors: ArrayLike) -> PowerLaw:
    """The power law through errors of shape (..., budgets), by least squares of their logarithms.

    Learning curves are close to power laws between the sizes at which a model guesses and at which it cannot improve:
    Hestness et al. 2017 (arXiv:1712.00409), section 5.

    >>> curve = fit_power_law([100, 400, 1600], [0.4, 0.2, 0.1])
    >>> round(float(curve.exponent), 3), round(float(curve.count_labels(0.05)))
    (0.5, 6400)
    """
    sizes, logs = np.log(np.asarray(budgets, dtype=float)), np.log(np.maximum(errors, MIN_ERROR))
    centred = sizes - sizes.mean()
    slope = (logs * centred).sum(-1) / (centred**2).sum()
    return PowerLaw(np.exp(logs.mean(-1) - slope * sizes.mean()), -slope)


def estimate_label_worth(
    scores_a: Mapping[int, np.ndarray],
    scores_b: Mapping[int, np.ndarray],
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """How many labels more A would need, at each budget, for the score that B has with it.

    A's error 1 - score is taken for a power law in the labels (`fit_power_law`). At a budget n, B is worth the labels
    at which A's curve has A's own error there less B's gain, minus n: so what the curve fits badly does not count as a
    gain. The 95% intervals are of a bootstrap (`resample_means`).

    Args:
        scores_a: of each budget, `compute_row_scores` of shape (seeds, test rows).
        scores_b: those of B at the same budgets, seeds and rows.
        clusters: an id for each test row; rows of a cluster are not independent.
        seed: of the bootstrap.

    Returns:
        `curve` (factor, exponent, the interval of the exponent, fitted errors) and `budgets`: for each budget, `labels`
        with `ci95`, from -n on and None for more than `largest`; None in place of all with fewer than three budgets or
        with one seed.
    """
    budgets = sorted(scores_a)
    seeds = len(scores_a[budgets[0]])
    if len(budgets) < MIN_BUDGETS or seeds < 2:
        return None
    stacked = np.stack([[scores[budget] for budget in budgets] for scores in (scores_a, scores_b)]).astype(float)
    means, draws = stacked.mean(axis=(2, 3)), resample_means(stacked, clusters, seed)
    curve, curves = fit_power_law(budgets, 1 - means[0]), fit_power_law(budgets, 1 - draws[:, 0])
    found, largest = [], MAX_FACTOR * budgets[-1]
    for place, budget in enumerate(budgets):
        worth = [
            count_worth(law, budget, scores[..., 1, place] - scores[..., 0, place])
            for law, scores in ((curve, means), (curves, draws))
        ]
        interval = np.percentile(worth[1], TAILS, method="closest_observation")
        labels, *ends = (float(value) if value <= largest else None for value in (worth[0], *interval))
        found.append({"budget": budget, "labels": labels, "ci95": ends})
    return {
        "curve": {
            "factor": float(curve.factor),
            "exponent": float(curve.exponent),
            "exponent_ci95": np.percentile(curves.exponent, TAILS).tolist(),
            "fitted_errors": curve.predict_error(budgets).tolist(),
        },
        "largest": largest,
        "budgets": found,
    }


def resample_means(scores: np.ndarray, clusters: ArrayLike | None, seed: int) -> np.ndarray:
    """Bootstrap means, shape (resamples, strategies, budgets), over seeds and clusters of test rows together.

    The spread over seeds is widened by sqrt(k / (k - 1)), since k resampled seeds vary less than k new ones.

    Args:
        scores: of rows, shape (strategies, budgets, seeds, test rows), with two seeds or more.
        clusters: an id for each test row.
        seed: of the bootstrap.
    """
    seeds, ids = scores.shape[2], number_clusters(clusters, scores.shape[-1])
    sizes = np.bincount(ids)
    sums = np.apply_along_axis(lambda row: np.bincount(ids, weights=row), -1, scores)
    means = scores.mean(axis=-1)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=RESAMPLES)
    resampled = np.einsum("abkg,rg->rabk", sums, weights) / (weights @ sizes)[:, None, None, None]
    drawn = generator.integers(seeds, size=(RESAMPLES, seeds))
    of_seeds = np.stack([means[:, :, numbers].mean(-1) for numbers in drawn]) - means.mean(-1)
    draws: np.ndarray = resampled.mean(-1) + of_seeds * np.sqrt(seeds / (seeds - 1))
    return draws


def count_worth(curve: PowerLaw, budget: int, gain: ArrayLike) -> Any:
    """The labels beyond a budget at which a curve has its error there less the gain."""
    error = curve.predict_error(budget)
    left = error - gain
    with np.errstate(invalid="ignore", divide="ignore"):
        labels = curve.count_labels(np.where(left > 0, left, np.nan))
    # A gain beyond the whole error is worth more than any labels, and so is one where labels do not help.
    labels = np.where((left > 0) & (np.asarray(curve.exponent) > 0), labels, np.where(np.asarray(gain) > 0, np.inf, 0))
    return labels - budget
