"""Rows whose label is most likely wrong, by confident learning (Northcutt et al. 2021, arXiv:1911.00068)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sentiment.exceptions import InputError

EXTRA = "pip install 'adapt-or-finetune[labels]'"


@dataclass(frozen=True)
class LabelIssues:
    """The rows with a suspected label, the least likely label first; the suggested class of each; estimated shares.

    `shares` is, for each class, the estimated share of the rows with this label whose label is wrong; `share` that of
    all rows. They are estimates of how many there are, and not the share of the suspected rows.
    """

    rows: np.ndarray
    suggested: np.ndarray
    shares: dict[str, float]
    share: float


def check_cleanlab() -> None:
    """Raises InputError unless cleanlab is installed."""
    try:
        import cleanlab  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"label issues need cleanlab: {EXTRA}") from error


def find_label_issues(labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]) -> LabelIssues:
    """The label issues that cleanlab finds, from labels of shape (rows,) and probabilities of shape (rows, classes).

    The probabilities must be out of sample: of models that were not trained on the row. A row is suspected if it is
    off the diagonal of the confident joint: the probability of another class reaches the mean that it has among the
    rows labelled so. Suspected rows are in the order of the probability of their label, lowest first.
    """
    from cleanlab.count import estimate_joint
    from cleanlab.filter import find_label_issues as find_ranked

    given, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    scores = scores / scores.sum(axis=1, keepdims=True)
    rows = find_ranked(
        given, scores, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    joint = estimate_joint(given, scores)
    right, totals = np.diag(joint), joint.sum(axis=1)
    wrong = 1 - np.divide(right, totals, out=np.ones_like(right), where=totals > 0)
    others = scores[rows].copy()
    others[np.arange(len(rows)), given[rows]] = -1
    shares = {name: float(share) for name, share in zip(class_names, wrong, strict=True)}
    return LabelIssues(rows, others.argmax(axis=1), shares, float(1 - right.sum()))
