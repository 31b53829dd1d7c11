"""Failures of behaviour tests: which cases a classifier fails, failure rates, and the difference of two classifiers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sentiment.data.behaviour_cases import Case
from sentiment.evaluation.intervals import compute_paired_interval, compute_wilson_interval
from sentiment.evaluation.significance import COLLAPSED_SHARE, SIGNIFICANCE, compute_holm_p, compute_mcnemar_p


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to cases, each of shape (cases,).

    `label` and `original_label` are numbers of its classes (-1: no original). `probability` is that of the class that
    the case is about: the expected one, for invariance that of the answer to the original; `original_probability` is
    the same one for the original (NaN: no original). `severity` is by how much probability a case is failed.
    """

    label: np.ndarray
    probability: np.ndarray
    original_label: np.ndarray
    original_probability: np.ndarray
    failed: np.ndarray
    severity: np.ndarray


def judge_answers(
    cases: Sequence[Case], expected: Sequence[int], probabilities: np.ndarray, original_probabilities: np.ndarray
) -> Answers:
    """Which cases are failed, from the probabilities of texts and originals, each of shape (cases, classes).

    A case fails if the label is not the expected one (minimum functionality), is not that of the original (invariance),
    or if the probability of the expected class falls by more than the tolerance (must not fall) or does not rise by
    more than it (must rise). `expected` are numbers of classes, -1 without one; originals that are missing are NaN.
    """
    kinds, tolerances = np.array([case.kind for case in cases]), np.array([case.tolerance for case in cases])
    has_original = np.array([case.original is not None for case in cases])
    labels, originals = probabilities.argmax(axis=1), np.full(len(cases), -1)
    originals[has_original] = original_probabilities[has_original].argmax(axis=1)
    classes = np.where(kinds == "invariance", originals, expected)[:, np.newaxis]
    chosen, before = (
        np.take_along_axis(found, classes, axis=1)[:, 0] for found in (probabilities, original_probabilities)
    )
    change = chosen - before
    failed = np.select(
        [kinds == "must_not_fall", kinds == "must_rise"],
        [change < -tolerances, change <= tolerances],
        labels != classes[:, 0],
    )
    severity = np.where(kinds == "minimum_functionality", 1 - chosen, -change)
    return Answers(labels, chosen, originals, before, failed, severity)


def summarize_failures(failed: ArrayLike) -> dict[str, Any]:
    """Cases, failures and failure rate, with Wilson's 95% interval.

    >>> summarize_failures([True, False, False, False])["failure_rate"]
    0.25
    """
    flags = np.asarray(failed, dtype=bool)
    failures, rows = int(flags.sum()), len(flags)
    interval = compute_wilson_interval(failures, rows)
    return {"failures": failures, "failure_rate": failures / rows, "failure_rate_ci95": interval}


def compare_failures(failed_a: ArrayLike, failed_b: ArrayLike) -> dict[str, Any]:
    """The failure rate of B minus that of A on the same cases, its 95% interval, and McNemar's exact p-value."""
    changes = np.asarray(failed_b, dtype=int) - np.asarray(failed_a, dtype=int)
    only_a, only_b = int((changes < 0).sum()), int((changes > 0).sum())
    return {
        "only_a": only_a,
        "only_b": only_b,
        "difference": float(changes.mean()),
        "difference_ci95": compute_paired_interval(only_b, only_a, len(changes)),
        "mcnemar_p": compute_mcnemar_p(changes),
    }


def summarize_capabilities(cases: Sequence[Case], failed: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Kinds, cases and each model's failures by capability; of two models also their `difference`.

    `failed` has shape (models, cases). `better` is "a" or "b" where McNemar's p-value, adjusted by Holm's method for
    the number of capabilities, is below 0.05.
    """
    names = np.array([case.capability for case in cases])
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(names.tolist()):
        mask = names == name
        kinds = list(dict.fromkeys(case.kind for case in cases if case.capability == name))
        summary: dict[str, Any] = {"name": name, "kinds": kinds, "cases": int(mask.sum())}
        summary["models"] = [summarize_failures(flags[mask]) for flags in failed]
        if len(failed) == 2:
            summary["difference"] = compare_failures(failed[0][mask], failed[1][mask])
        found.append(summary)
    if len(failed) == 2:
        adjusted = compute_holm_p([summary["difference"]["mcnemar_p"] for summary in found])
        for summary, p_value in zip(found, adjusted, strict=True):
            difference = summary["difference"]
            better = "b" if difference["difference"] < 0 else "a"
            difference |= {"holm_p": p_value, "better": better if p_value < SIGNIFICANCE else None}
    return found


def find_worst_failures(
    cases: Sequence[Case], answers: Sequence[Answers], capability: str, limit: int = 5
) -> list[int]:
    """The places of cases of a capability that any model fails: the worst of each template, then the others."""
    severity = np.max([np.where(found.failed, found.severity, -np.inf) for found in answers], axis=0)
    places = [place for place, case in enumerate(cases) if case.capability == capability and severity[place] > -np.inf]
    places.sort(key=lambda place: (-severity[place], place))
    worst = {cases[place].template: place for place in reversed(places)}.values()
    return [*sorted(worst, key=places.index), *(place for place in places if place not in worst)][:limit]


def find_constant_answer(labels: np.ndarray) -> int | None:
    """The class that (nearly) all texts get, for which invariance says nothing; None if there is none."""
    counts = np.bincount(labels)
    return int(counts.argmax()) if counts.max() >= COLLAPSED_SHARE * len(labels) else None
