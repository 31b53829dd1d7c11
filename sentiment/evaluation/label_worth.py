"""What a change of the strategy is worth in labels, from the learning curve of the strategy without it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sentiment.evaluation.intervals import compute_mean_interval

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
    scores: Mapping[int, Sequence[float]], effects: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """How many labels more A would need, at each budget, for the score that B has with it.

    A's error 1 - score is taken for a power law in the labels (`fit_power_law`). At a budget n, B is worth the labels
    at which A's curve has A's own error there less B's gain, minus n: so what the curve fits badly does not count as a
    gain. The ends of the 95% interval are those of the gain's interval on the same curve: B is worth labels where its
    gain is shown, and nowhere else. How well the curve is known is not part of it.

    Args:
        scores: A's score of each seed, by budget.
        effects: `compare_arms` of A and B, by budget.

    Returns:
        `curve` (factor, exponent, the t-interval of the exponent over seeds, fitted errors) and `budgets`: for each
        budget, `labels` with `ci95`, from -n on and None for more than `largest`; None in place of all with fewer than
        three budgets or with one seed.
    """
    budgets = sorted(scores)
    errors = 1 - np.array([scores[budget] for budget in budgets], dtype=float)  # (budgets, seeds)
    if len(budgets) < MIN_BUDGETS or errors.shape[1] < 2:
        return None
    curve, largest = fit_power_law(budgets, errors.mean(axis=1)), MAX_FACTOR * budgets[-1]
    exponents = fit_power_law(budgets, errors.T).exponent
    found = []
    for budget in budgets:
        effect = effects[budget]
        worth = count_worth(curve, budget, [effect["difference"], *effect["ci95"]])
        labels, *ends = (float(value) if value <= largest else None for value in worth)
        found.append({"budget": budget, "labels": labels, "ci95": ends})
    return {
        "curve": {
            "factor": float(curve.factor),
            "exponent": float(curve.exponent),
            "exponent_ci95": compute_mean_interval(exponents),
            "fitted_errors": curve.predict_error(budgets).tolist(),
        },
        "largest": largest,
        "budgets": found,
    }


def count_worth(curve: PowerLaw, budget: int, gain: ArrayLike) -> Any:
    """The labels beyond a budget at which a curve has its error there less the gain."""
    error = curve.predict_error(budget)
    left = error - gain
    with np.errstate(invalid="ignore", divide="ignore"):
        labels = curve.count_labels(np.where(left > 0, left, np.nan))
    # A gain beyond the whole error is worth more than any labels, and so is one where labels do not help.
    labels = np.where((left > 0) & (np.asarray(curve.exponent) > 0), labels, np.where(np.asarray(gain) > 0, np.inf, 0))
    return labels - budget
