"""What adaptation changes: effects in a study by arm and label budget, and training costs with and without it."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from sentiment.evaluation.intervals import CONFIDENCE, compute_mean_interval, number_clusters
from sentiment.evaluation.label_worth import estimate_label_worth

STRATEGIES = ("e2e", "mlm+decay")  # strategy A and strategy B
ADAPTING = ("mlm", "mlm+decay", "placebo+decay")  # of the ready-made arms, those that start from an adapted model
# The two arms of each effect, which is the second's score minus the first's.
EFFECTS = {
    "both changes": STRATEGIES,
    "adaptation, without decay": ("e2e", "mlm"),
    "adaptation, with decay": ("e2e+decay", "mlm+decay"),
    "decay, without adaptation": ("e2e", "e2e+decay"),
    "decay, with adaptation": ("mlm", "mlm+decay"),
    "the domain of the text": ("placebo+decay", "mlm+decay"),
    "steps on other text": ("e2e+decay", "placebo+decay"),
}
FINETUNING_COUNTS = (1, 2, 5, 10, 100)
TARGET_RATIO = 1.1
SECONDS = {"finetuning": "train_seconds", "total": "total_seconds", "amortized": "amortized_seconds"}


def summarize_study(
    runs: Sequence[Mapping[str, Any]],
    row_scores: Sequence[np.ndarray],
    clusters: ArrayLike | None = None,
    metric: str = "accuracy",
    named_effects: Mapping[str, tuple[str, str]] = EFFECTS,
    strategies: tuple[str, str] = STRATEGIES,
    adapting: Collection[str] = ADAPTING,
) -> dict[str, Any]:
    """Scores, effects and where adaptation pays, from rows of results.parquet and the `compute_row_scores` of each.

    Args:
        runs: rows of results.parquet.
        row_scores: of each run, an array of shape (test rows,).
        clusters: an id for each test row; rows of a cluster are not independent.
        metric: of the row scores.
        named_effects: the two arms of each effect, which is the second's score minus the first's.
        strategies: the arms of strategies A and B.
        adapting: the arms that start from an adapted model.
    """
    arms, budgets, seeds = (list(dict.fromkeys(run[key] for run in runs)) for key in ("arm", "budget", "seed"))
    budgets.sort()
    keys = [(run["arm"], run["budget"], run["seed"]) for run in runs]
    values, cells = dict(zip(keys, row_scores, strict=True)), list(product(arms, budgets))
    by_cell = {(arm, budget): np.stack([values[arm, budget, seed] for seed in seeds]) for arm, budget in cells}
    effects = []
    for name, (first, second) in named_effects.items():
        for budget in budgets if {first, second} <= {*arms} else ():
            collapsed = [run for run in runs if run.get("collapsed") and run["budget"] == budget]
            effects.append(
                {"effect": name, "arms": [first, second], "budget": budget}
                | compare_arms(by_cell[first, budget], by_cell[second, budget], clusters)
                | {"collapsed": sum(run["arm"] in (first, second) for run in collapsed)}
            )
    scores = [summarize_cell([run for run in runs if (run["arm"], run["budget"]) == cell], metric) for cell in cells]
    worth = None
    if {*strategies} <= {*arms} and not any(run.get("collapsed") for run in runs if run["arm"] in strategies):
        of_a = {cell["budget"]: cell["per_seed"] for cell in scores if cell["arm"] == strategies[0]}
        worth = estimate_label_worth(of_a, {one["budget"]: one for one in select_effects(effects, strategies)})
    chosen = [
        {"arms": pair, "budget": budget}
        | compare_arms(by_cell[pair[0], budget], by_cell[pair[1], budget], clusters)
        | {"collapsed": sum(cell["collapsed"] for cell in scores if cell["budget"] == budget and cell["arm"] in pair)}
        for budget, pair in choose_by_validation(scores, adapting).items()
    ]
    return {
        "metric": metric,
        "arms": arms,
        "strategies": list(strategies),
        "budgets": budgets,
        "seeds": seeds,
        "test_clusters": len(np.unique(number_clusters(clusters, len(row_scores[0])))),
        "adapting": [arm for arm in arms if arm in adapting],
        "scores": scores,
        "effects": effects,
        "chosen_by_validation": chosen,
        "adaptation_pays": find_paying_budget(select_effects(effects, strategies)),
        "label_worth": worth,
    }


def summarize_cell(runs: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Mean score of the runs of one arm and budget with its interval over seeds, and mean seconds per run."""
    scores = [run[metric] for run in runs]
    validation = [run["validation_score"] for run in runs if "validation_score" in run]
    return {
        "arm": runs[0]["arm"],
        "budget": runs[0]["budget"],
        "validation": float(np.mean(validation)) if len(validation) == len(runs) else None,
        "score": float(np.mean(scores)),
        "ci95": compute_seed_interval(scores, -1.0 if metric == "mcc" else 0.0),
        "per_seed": scores,
        "collapsed": sum(bool(run.get("collapsed")) for run in runs),
        "baseline": summarize_baseline(runs),
        "seconds": {kind: float(np.mean([run[column] for run in runs])) for kind, column in SECONDS.items()},
    }


def choose_by_validation(cells: Sequence[Mapping[str, Any]], adapting: Collection[str]) -> dict[int, list[str]]:
    """By budget, the arms with the best mean validation score without and with an adaptation, where both exist."""
    chosen = {}
    for budget, own in group_by(cells, "budget").items():
        kinds = [[cell for cell in own if (cell["arm"] in adapting) == adapts] for adapts in (False, True)]
        if all(kinds) and all(cell["validation"] is not None for cell in own):
            chosen[budget] = [max(kind, key=lambda cell: float(cell["validation"]))["arm"] for kind in kinds]
    return chosen


def summarize_baseline(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean score of the best baseline beside each run, and its name in most of them; None if runs have none."""
    found = [(run["baseline"], run["baseline_score"]) for run in runs if run.get("baseline")]
    if len(found) < len(runs):
        return None
    names = [name for name, _ in found]
    return {"name": max(names, key=names.count), "score": float(np.mean([score for _, score in found]))}


def compute_seed_interval(scores: Sequence[float], lowest: float = 0.0) -> list[float] | None:
    """Student's 95% t-interval of the mean over seeds on the same test rows, from `lowest` to 1; None for one seed."""
    return None if len(scores) < 2 else np.clip(compute_mean_interval(scores), lowest, 1).tolist()


def compare_arms(scores_a: ArrayLike, scores_b: ArrayLike, clusters: ArrayLike | None = None) -> dict[str, Any]:
    """The difference of the mean scores, B minus A, with its interval; both arrays have shape (seeds, test rows)."""
    differences = np.asarray(scores_b, dtype=float) - np.asarray(scores_a, dtype=float)
    return {
        "difference": float(differences.mean()),
        "ci95": compute_study_interval(differences, clusters),
        "per_seed": differences.mean(axis=1).tolist(),
    }


def compute_study_interval(differences: np.ndarray, clusters: ArrayLike | None = None) -> list[float]:
    """95% interval of the mean of (seeds, rows) values, for other seeds and other test rows of the same kind.

    Seeds and clusters of rows are both samples, as in studies with several readers and cases: variance by the mean
    squares of a two-way layout (Dorfman, Berbaum & Metz 1992), degrees of freedom by Hillis 2007 (Statistics in
    Medicine 26, 596-619). A bootstrap over few seeds would be too narrow. One seed gives an interval for one training.
    A mean square of seeds below that of the residuals, which few seeds have by chance, counts as the latter. By
    simulation (tests/benchmarks/study_coverage.py), 93 to 96% of the intervals of three to five seeds hold the true
    difference, and more where rows do not agree between seeds; of two seeds 89 to 98%.
    """
    seeds, rows = differences.shape
    ids = number_clusters(clusters, rows)
    groups, mean = int(ids.max()) + 1, differences.mean()
    if groups == 1:
        return [-1.0, 1.0]
    # One value per seed and cluster, whose mean over clusters is the seed's mean over rows: the linearised ratio.
    values = mean + groups / rows * np.stack([np.bincount(ids, weights=row) for row in differences - mean])
    by_cluster, by_seed = values.mean(axis=0), values.mean(axis=1)
    if seeds == 1:
        variance, freedom = by_cluster.var(ddof=1) / groups, groups - 1.0
    else:
        residuals = values - by_cluster - by_seed[:, np.newaxis] + mean
        square_residuals = float((residuals**2).sum() / ((seeds - 1) * (groups - 1)))
        square_seeds = max(groups * float(by_seed.var(ddof=1)), square_residuals)
        total = square_seeds + max(seeds * float(by_cluster.var(ddof=1)) - square_residuals, 0.0)
        variance = total / (seeds * groups)
        freedom = (seeds - 1) * (total / square_seeds) ** 2 if square_seeds else np.inf
    reach = student_t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance)
    return [float(mean - reach), float(mean + reach)]


def group_by(rows: Iterable[Mapping[str, Any]], key: str) -> dict[Any, list[Any]]:
    """The rows of each value of a key, in order of first occurrence."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def select_effects(effects: Iterable[Mapping[str, Any]], arms: Sequence[str]) -> list[Any]:
    """The effects between two arms, one for each budget; empty if they are not compared."""
    found = [effect for effect in effects if effect["arms"] == list(arms)]
    return [effect for effect in found if effect["effect"] == found[0]["effect"]]


def classify_effect(effect: Mapping[str, Any]) -> str:
    """`better`, `worse`, `inconclusive` if the interval contains 0, or `withheld` if one of its runs has collapsed."""
    if effect.get("collapsed"):
        return "withheld"
    low, high = effect["ci95"]
    return "better" if low > 0 else "worse" if high < 0 else "inconclusive"


def find_paying_budget(effects: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The largest `budget` at which B is better, or None, and smaller `exceptions`; None without any effects."""
    if not effects:
        return None
    verdicts = {effect["budget"]: classify_effect(effect) for effect in effects}
    largest = max((budget for budget, verdict in verdicts.items() if verdict == "better"), default=None)
    exceptions = [budget for budget in verdicts if largest and budget < largest and verdicts[budget] != "better"]
    return {"budget": largest, "consistent": not exceptions, "exceptions": exceptions, "by_budget": verdicts}


def compare_costs(
    train_a: float, train_b: float, adaptation_a: float = 0.0, adaptation_b: float = 0.0
) -> dict[str, Any]:
    """Training seconds of A and B with and without adaptation, and per fine-tuning if several share one adaptation."""
    return {
        "a": {"train_seconds": train_a, "adaptation_seconds": adaptation_a, "seconds": train_a + adaptation_a},
        "b": {"train_seconds": train_b, "adaptation_seconds": adaptation_b, "seconds": train_b + adaptation_b},
        "ratio": (train_b + adaptation_b) / (train_a + adaptation_a),
        "amortized": [
            {"finetunings": count, "a": each_a, "b": each_b, "ratio": each_b / each_a}
            for count in FINETUNING_COUNTS
            for each_a, each_b in [(train_a + adaptation_a / count, train_b + adaptation_b / count)]
        ],
        "target_ratio": TARGET_RATIO,
        "finetunings_to_target": count_finetunings_to_target(train_a, train_b, adaptation_a, adaptation_b),
    }


def count_finetunings_to_target(train_a: float, train_b: float, adaptation_a: float, adaptation_b: float) -> int | None:
    """Fewest fine-tunings per adaptation at which B costs at most `TARGET_RATIO` times what A does, if any."""
    # Solve train_b + adaptation_b / n <= TARGET_RATIO * (train_a + adaptation_a / n) for n.
    extra = adaptation_b - TARGET_RATIO * adaptation_a
    margin = TARGET_RATIO * train_a - train_b
    if extra <= margin:
        return 1
    return math.ceil(extra / margin) if margin > 0 else None
