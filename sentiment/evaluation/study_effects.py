"""What a study shows: accuracy by label budget for each arm, the effect of each change, and where adaptation pays.

A study trains arms (ways of training) with several label budgets (training rows) and seeds, and tests every run on the
same rows. Runs of one budget and one seed have the same training rows, so that arms are compared in pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from sentiment.reporting.rendering import format_points

CONFIDENCE = 0.95
# What each comparison is of, and its arms: the effect is the second's accuracy minus the first's.
EFFECTS = {
    "both changes": ("e2e", "mlm+decay"),
    "adaptation, without decay": ("e2e", "mlm"),
    "adaptation, with decay": ("e2e+decay", "mlm+decay"),
    "decay, without adaptation": ("e2e", "e2e+decay"),
    "decay, with adaptation": ("mlm", "mlm+decay"),
    "the domain of the text": ("placebo+decay", "mlm+decay"),
    "steps on other text": ("e2e+decay", "placebo+decay"),
}
STRATEGIES = "both changes"  # strategy A against strategy B


def summarize_study(runs: Sequence[Mapping[str, Any]], right: Sequence[ArrayLike]) -> dict[str, Any]:
    """The `accuracy` of each arm at each budget, the `effects` of each change, and the verdict in a `sentence`.

    Args:
        runs: one for each arm, budget and seed, as in results.parquet.
        right: for each of these runs, whether each test row got its label; the same rows in the same order.
    """
    arms, budgets, seeds = (list(dict.fromkeys(run[key] for run in runs)) for key in ("arm", "budget", "seed"))
    budgets.sort()
    answers = {(run["arm"], run["budget"], run["seed"]): np.asarray(row) for run, row in zip(runs, right, strict=True)}
    effects = []
    for name, (first, second) in EFFECTS.items():
        if first not in arms or second not in arms:
            continue
        for budget in budgets:
            pairs = [np.stack([answers[arm, budget, seed] for seed in seeds]) for arm in (first, second)]
            effects.append({"effect": name, "budget": budget} | compare_arms(*pairs))
    paying = find_paying_budget([effect for effect in effects if effect["effect"] == STRATEGIES])
    return {
        "sentence": describe_verdict(effects, paying),
        "effects_in_words": [
            describe_effect([one for one in effects if one["effect"] == name])
            for name in dict.fromkeys(one["effect"] for one in effects)
        ],
        "arms": arms,
        "budgets": budgets,
        "seeds": seeds,
        "accuracy": [
            summarize_cell([run for run in runs if (run["arm"], run["budget"]) == (arm, budget)])
            for arm in arms
            for budget in budgets
        ],
        "effects": effects,
        "adaptation_pays": paying,
    }


def summarize_cell(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean accuracy of the runs of one arm and budget with its interval over seeds, and mean seconds of a run.

    `seconds` holds the fine-tuning alone (`alone`), with the adaptation that it started from in full (`full`), and
    with that shared out among all runs of the study that started from it (`shared`).
    """
    accuracies = [run["accuracy"] for run in runs]
    kinds = {"alone": "train_seconds", "full": "total_seconds", "shared": "shared_seconds"}
    return {
        "arm": runs[0]["arm"],
        "budget": runs[0]["budget"],
        "accuracy": float(np.mean(accuracies)),
        "ci95": compute_seed_interval(accuracies),
        "per_seed": accuracies,
        "seconds": {kind: float(np.mean([run[column] for run in runs])) for kind, column in kinds.items()},
    }


def compute_seed_interval(accuracies: Sequence[float]) -> list[float] | None:
    """Student's t-interval (95%) of the mean over seeds, within 0 and 1; None for a single seed.

    It speaks of other seeds on the same test rows. With few seeds it is wide, and rightly so: for three the
    quantile is 4.30 in place of 1.96.

    >>> [round(end, 4) for end in compute_seed_interval([0.80, 0.82, 0.84])]
    [0.7703, 0.8697]
    """
    if len(accuracies) < 2:
        return None
    values = np.asarray(accuracies)
    reach = student_t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return np.clip([values.mean() - reach, values.mean() + reach], 0, 1).tolist()


def compare_arms(right_a: ArrayLike, right_b: ArrayLike) -> dict[str, Any]:
    """The `difference` of the accuracies, B minus A, of `per_seed`, and `ci95` by `compute_paired_interval`.

    Both have shape (seeds, test rows) and say whether the run of a seed is right on a row.
    """
    differences = np.asarray(right_b, dtype=float) - np.asarray(right_a, dtype=float)
    return {
        "difference": float(differences.mean()),
        "ci95": compute_paired_interval(differences),
        "per_seed": differences.mean(axis=1).tolist(),
    }


def compute_paired_interval(differences: np.ndarray) -> list[float]:
    """95% interval of the mean of (seeds, rows) values, for other seeds and other test rows of the same kind.

    Seeds and rows are both samples, and every seed met every row: the setting of radiology's studies with several
    readers and cases. The variance comes from the mean squares of a two-way layout, degrees of freedom from Hillis
    2007 (Statistics in Medicine 26, 596-619), after Dorfman, Berbaum & Metz 1992. A bootstrap over so few seeds is too
    narrow: three seeds hold two thirds of the variance between seeds, and resampling knows no t-quantile.

    With one seed only the rows are sampled, and the interval speaks of that one training.
    """
    seeds, rows = differences.shape
    mean, by_row, by_seed = differences.mean(), differences.mean(axis=0), differences.mean(axis=1)
    if seeds == 1:
        variance, freedom = by_row.var(ddof=1) / rows, rows - 1.0
    else:
        rest = differences - by_row - by_seed[:, np.newaxis] + mean
        square_rest = float((rest**2).sum() / ((seeds - 1) * (rows - 1)))
        square_seeds = rows * float(by_seed.var(ddof=1))
        total = square_seeds + max(seeds * float(by_row.var(ddof=1)) - square_rest, 0.0)
        variance = total / (seeds * rows)
        freedom = (seeds - 1) * (total / square_seeds) ** 2 if square_seeds else np.inf
    reach = student_t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance)
    return [float(mean - reach), float(mean + reach)]


def classify_effect(effect: Mapping[str, Any]) -> str:
    """`better`, `worse`, or `open` where the interval holds 0."""
    low, high = effect["ci95"]
    return "better" if low > 0 else "worse" if high < 0 else "open"


def find_paying_budget(effects: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The largest `budget` at which B is better, or None, and the `smaller` budgets at which that is `open` or worse.

    `effects` are those of both changes together, one a budget, by budget; None where there are none.
    """
    if not effects:
        return None
    verdicts = {effect["budget"]: classify_effect(effect) for effect in effects}
    paying = max((budget for budget, verdict in verdicts.items() if verdict == "better"), default=None)
    exceptions = [budget for budget in verdicts if paying and budget < paying and verdicts[budget] != "better"]
    return {"budget": paying, "consistent": not exceptions, "exceptions": exceptions, "by_budget": verdicts}


def describe_verdict(effects: Sequence[Mapping[str, Any]], paying: Mapping[str, Any] | None) -> str:
    """At which budgets adapting first and decaying rates beat e2e, and at which they lose to it."""
    if paying is None:
        return "The study has not both of e2e and mlm+decay, so it cannot say which of the two strategies is better."
    found = {effect["budget"]: effect for effect in effects if effect["effect"] == STRATEGIES}
    budget, sentences = paying["budget"], []
    if budget is None:
        sentences.append(f"At none of the budgets tried ({name_budgets([*found])}) is mlm+decay shown to beat e2e.")
    else:
        reach = f"mlm+decay beats e2e with up to {budget:,} labels, the most that were tried"
        if budget < max(found):
            reach = f"Of the budgets tried, {budget:,} labels is the largest at which mlm+decay is shown to beat e2e"
        sentences.append(f"{reach}: there it is ahead by {show_size(found[budget])}.")
        if paying["exceptions"]:
            exceptions = name_budgets(paying["exceptions"])
            sentences.append(f"But not at every smaller budget: it is not shown at {exceptions}.")
        elif budget > min(found):
            sentences.append("So it does at every smaller budget.")
    worse = [size for size, verdict in paying["by_budget"].items() if verdict == "worse"]
    if worse:
        sizes = " and ".join(f"by {show_size(found[size], -1)} at {size:,} labels" for size in worse)
        sentences.append(f"It loses to e2e {sizes}.")
    return " ".join(sentences)


def describe_effect(effects: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on one effect over all budgets."""
    first, second = EFFECTS[effects[0]["effect"]]
    parts = []
    for verdict, words in (("better", "helps"), ("worse", "hurts"), ("open", "cannot be told from no effect")):
        if budgets := [effect["budget"] for effect in effects if classify_effect(effect) == verdict]:
            place = name_budgets(budgets)
            if len(budgets) == len(effects) > 1:
                place = f"{'any' if verdict == 'open' else 'every'} budget tried"
            parts.append(f"{words} at {place}")
    name = effects[0]["effect"]
    return f"{name[0].upper()}{name[1:]} ({second} against {first}): {'; '.join(parts)}."


def name_budgets(budgets: Sequence[int]) -> str:
    """Label budgets in words.

    >>> name_budgets([100, 1000])
    '100 and 1,000 labels'
    """
    *most, last = (f"{budget:,}" for budget in budgets)
    return f"{', '.join(most)} and {last} labels" if most else f"{last} labels"


def show_size(effect: Mapping[str, Any], sign: int = 1) -> str:
    """A difference in points with its interval, from the side of the arm that is ahead."""
    points, low, high = format_points(sign * effect["difference"], *sorted(sign * end for end in effect["ci95"]))
    return f"{points} points (95% interval {low} to {high})"
