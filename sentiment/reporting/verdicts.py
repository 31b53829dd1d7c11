"""Results in sentences: which of two runs is better, and what a study shows."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sentiment.evaluation.study_effects import STRATEGIES, classify_effect, group_by, select_effects
from sentiment.reporting.formatting import describe_test_rows, format_duration, format_points, round_for_reading
from sentiment.reporting.summaries import BASELINE_NAMES, METRIC_NAMES, WAY_OUT_OF_COLLAPSE, JsonObject

RULE = (
    "One run is called better only if both tests agree: the 95% interval of the accuracy difference excludes 0, and "
    "the exact McNemar p-value is below 0.05."
)


def describe_rule(metric: str) -> str:
    """When one run is called better, for the metric that decides."""
    if metric == "accuracy":
        return RULE
    name = METRIC_NAMES[metric]
    return f"One run is called better if the 95% interval of the difference in {name} excludes 0 (paired bootstrap)."


def describe_comparison(name_a: str, name_b: str, outcome: JsonObject) -> str:
    """The verdict on the result of `compare_predictions` in one sentence, with the run that is ahead first."""
    metric, rows = outcome["metric"], outcome["test_rows"]
    compared, unit = outcome["metrics"][metric], f" of {METRIC_NAMES[metric]}" if metric != "accuracy" else ""
    if outcome["collapsed"]:
        names = " and ".join({"a": name_a, "b": name_b}[run] for run in outcome["collapsed"])
        have = "have collapsed, they answer" if len(outcome["collapsed"]) > 1 else "has collapsed, it answers"
        return f"No verdict: {names} {have} nearly always the same class; {WAY_OUT_OF_COLLAPSE}."
    if "difference_ci95" not in compared:
        return f"Inconclusive: only {outcome['fixes'] + outcome['regressions']} rows are right in one run alone."
    ahead, behind, sign = (name_b, name_a, 1) if compared["difference"] >= 0 else (name_a, name_b, -1)
    interval = sorted(sign * end for end in compared["difference_ci95"])
    points, low, high = format_points(sign * compared["difference"], *interval)
    clusters = f"; {describe_test_rows(rows, outcome['test_clusters'])}" if outcome["test_clusters"] < rows else ""
    interval_in_words = f"(95% interval {low} to {high}{clusters})"
    if outcome["better"]:
        return f"{ahead} is better than {behind} by {points} points{unit} {interval_in_words}."
    if not outcome["fixes"] + outcome["regressions"]:
        return f"Inconclusive: {name_b} and {name_a} classify the same rows correctly."
    if metric != "accuracy":
        return f"Inconclusive: {ahead} is ahead of {behind} by {points} points{unit} {interval_in_words}."
    if compared["difference"]:
        needed, size = outcome["needed_rows"], "that size"
        found = f"{ahead} is ahead of {behind} by {points} points {interval_in_words}"
    else:
        needed, size = outcome["needed_rows_for_one_point"], "one point"
        found = f"{name_b} and {name_a} classify equally many rows correctly {interval_in_words}"
    hint = f"about {round_for_reading(needed)} test rows are needed to detect a difference of {size}"
    if needed <= rows:
        hint = f"a difference of {size} would be detected"
    return f"Inconclusive: {found}; {hint} with 80% power."


def describe_study(summary: JsonObject) -> dict[str, Any]:
    """The verdict of `summarize_study` as a `sentence`, `effects_in_words`, and a `recommendation` in sentences."""
    effects, metric = summary["effects"], summary["metric"]
    sentences = [
        describe_strategies(effects, summary["adaptation_pays"], summary["strategies"]),
        describe_baselines(summary),
        describe_collapsed(summary),
        f"All scores are {METRIC_NAMES[metric]}." if metric != "accuracy" else "",
    ]
    return {
        "sentence": " ".join(filter(None, sentences)),
        "recommendation": list_recommendations(summary),
        "effects_in_words": [describe_effect(own) for own in group_by(effects, "effect").values()],
    }


def describe_baselines(summary: JsonObject) -> str:
    """The budgets at which a baseline is at least as good, on average over seeds, as every arm."""
    sentences = []
    for budget, cells in sorted(group_by(summary["scores"], "budget").items()):
        arm = max(cells, key=lambda cell: float(cell["score"]))
        best = choose_best_baseline(cells)
        if best and best["score"] >= arm["score"]:
            against = f"{best['score']:.1%} against {arm['score']:.1%} of {arm['arm']}"
            sentences.append(f"At {name_budgets([budget])}, no arm beats {BASELINE_NAMES[best['name']]}: {against}.")
    return " ".join(sentences)


def describe_collapsed(summary: JsonObject) -> str:
    """How many runs answer one class only, and what to try; empty if none does."""
    collapsed = sum(cell.get("collapsed", 0) for cell in summary["scores"])
    runs = sum(len(cell["per_seed"]) for cell in summary["scores"])
    return f"{collapsed} of {runs} runs have collapsed to one class: {WAY_OUT_OF_COLLAPSE}." if collapsed else ""


def choose_best_baseline(cells: Sequence[JsonObject]) -> dict[str, Any] | None:
    """The best of the baselines beside the arms; None if there are none."""
    baselines = [cell["baseline"] for cell in cells if cell.get("baseline")]
    return max(baselines, key=lambda baseline: float(baseline["score"]), default=None)


def list_recommendations(summary: JsonObject) -> list[str]:
    """What to do, what it costs, and what more labels would give, in a sentence each; empty without both strategies."""
    paying, cells = summary["adaptation_pays"], group_by(summary["scores"], "budget")
    if paying is None:
        return []
    if not set(paying["by_budget"].values()) - {"withheld"}:
        return [f"No recommendation: runs of every budget have collapsed; {WAY_OUT_OF_COLLAPSE}."]
    largest, is_baseline_best = max(cells), bool(describe_baselines(summary))
    arms, (a, b) = {cell["arm"]: cell for cell in cells[largest]}, summary["strategies"]
    use_a, use_b, cost_b = "fine-tune end to end", "adapt first, then fine-tune,", f"{b} with its adaptation"
    if (a in summary["adapting"], b in summary["adapting"]) != (False, True):
        use_a, use_b, cost_b = f"take {a}", f"take {b}", b
    by_verdict = defaultdict(list)
    for size, verdict in paying["by_budget"].items():
        by_verdict[verdict].append(size)
    better, others = by_verdict["better"], sorted(by_verdict["inconclusive"] + by_verdict["worse"])
    if better and others:
        sentences = [f"{use_b} with {name_budgets(better)}; {use_a} with {name_budgets(others)}."]
    elif better:
        tried = "that has a verdict" if by_verdict["withheld"] else "tried"
        sentences = [f"{use_b.rstrip(',')}: it pays at every budget {tried} ({name_budgets(better)})."]
    else:
        sentences = [f"{use_a}: on these reviews, {b} is not shown to pay."]
    sentences = [sentences[0][0].upper() + sentences[0][1:]]
    if is_baseline_best:
        sentences[0] += " Where a baseline is as good, take the baseline, which is trained in seconds."
    seconds_a, seconds_b = (arms[arm]["seconds"]["total"] for arm in (a, b))
    sentences.append(
        f"At {largest:,} labels, training takes {format_duration(seconds_a)} for {a}, and {format_duration(seconds_b)} "
        f"for {cost_b} ({seconds_b / seconds_a:.1f} times as long)."
    )
    sentences += describe_worth(summary["label_worth"], b) + describe_chosen(summary)
    second = sorted(cells)[-2] if len(cells) > 1 else None
    compared = [cell for size in (second, largest) if size for cell in cells[size]]
    if second and not any(cell.get("collapsed") for cell in compared):
        best = {size: float(find_best(cells[size])["score"]) for size in (second, largest)}
        (gain,) = format_points(best[largest] - best[second])
        found = f"gains {gain} points: label more if that is worth it"
        if best[largest] <= best[second]:
            found = "does not gain: more labels are not shown to help"
        sentences.append(f"From {second:,} to {largest:,} labels, the best arm {found}.")
    return sentences


def find_best(cells: Sequence[JsonObject]) -> JsonObject:
    """The arm with the best validation score, or else the best test score."""
    return max(cells, key=lambda cell: float(cell["score" if cell.get("validation") is None else "validation"]))


def describe_chosen(summary: JsonObject) -> list[str]:
    """How the best arm that adapts compares with the best one that does not, each chosen on validation.

    A sentence for each budget; none where there is one arm of each kind.
    """
    sentences = []
    for found in summary.get("chosen_by_validation", []) if len(summary["arms"]) > 2 else []:
        a, b = found["arms"]
        words = {
            "better": f"{b} beats {a} by {_format_difference(found)}",
            "worse": f"{b} loses to {a} by {_format_difference(found, -1)}",
            "inconclusive": f"between {b} and {a} no difference is shown: {_format_difference(found)}",
            "withheld": f"{b} and {a} have no verdict, since runs have collapsed",
        }
        lead = (
            f"At {name_budgets([found['budget']])}, of the arms that are best on validation with and without adaptation"
        )
        sentences.append(f"{lead}, {words[classify_effect(found)]}.")
    return sentences


def describe_worth(worth: JsonObject | None, b: str = STRATEGIES[1]) -> list[str]:
    """What strategy B is worth in labels, in a sentence for each budget at which it is seen, and one for the others."""
    if worth is None:
        return []
    sentences, unseen = [], []
    for found in worth["budgets"]:
        budget, (low, high) = found["budget"], found["ci95"]
        if low is not None and low <= 0 and (high is None or high >= 0):
            unseen.append(budget)
            continue
        is_loss = low is not None and low < 0
        ends = [None if end is None else abs(end) for end in (found["labels"], low, high)]
        labels, *interval = (name_labels(end, worth["largest"]) for end in ends)
        low_end, high_end = reversed(interval) if is_loss else interval
        about = "" if found["labels"] is None else "about "
        found_worth = f"costs {about}{labels} labels" if is_loss else f"is worth {about}{labels} more labels"
        interval_words = f"{low_end} to {high_end}" if low is not None else low_end
        sentences.append(f"At {name_budgets([budget])}, {b} {found_worth} (95% interval {interval_words}).")
    if unseen:
        sentences.append(f"At {name_budgets(unseen)}, {b} is worth no number of labels that can be seen.")
    return sentences


def name_labels(labels: float | None, largest: float) -> str:
    """A number of labels for reading, of which None is more than `largest`.

    >>> name_labels(-123.4, 10_000), name_labels(None, 10_000)
    ('-120', 'more than 10,000')
    """
    return f"more than {round_for_reading(largest)}" if labels is None else round_for_reading(labels)


def describe_strategies(
    effects: Sequence[JsonObject], paying: JsonObject | None, strategies: Sequence[str] = STRATEGIES
) -> str:
    """The budgets at which strategy B beats strategy A and at which it loses to it; arms by their names."""
    a, b = strategies
    if paying is None:
        return f"The study does not have both {a} and {b}, so it does not compare the two strategies."
    found = {effect["budget"]: effect for effect in select_effects(effects, strategies)}
    budget, sentences = paying["budget"], []
    if budget is None:
        tried = [size for size, verdict in paying["by_budget"].items() if verdict != "withheld"]
        if tried:
            sentences.append(f"{b} is not shown to beat {a} at any budget tried ({name_budgets(tried)}).")
    else:
        lead = f"The largest budget at which {b} is shown to beat {a} is {budget:,} labels"
        if budget == max(found):
            lead = f"{b} beats {a} at {budget:,} labels, the largest budget tried"
        sentences.append(f"{lead}, by {_format_difference(found[budget])}.")
        if paying["exceptions"]:
            sentences.append(f"It is not shown to beat {a} at {name_budgets(paying['exceptions'])}.")
        elif budget > min(found):
            sentences.append(f"It also beats {a} at every smaller budget tried.")
    withheld = [size for size, verdict in paying["by_budget"].items() if verdict == "withheld"]
    if withheld:
        runs = sum(found[size]["collapsed"] for size in withheld)
        what = f"{runs} {'run has' if runs == 1 else 'runs have'} collapsed to one class"
        sentences.append(f"No verdict at {name_budgets(withheld)}: {what}.")
    worse = [size for size, verdict in paying["by_budget"].items() if verdict == "worse"]
    if worse:
        sizes = " and ".join(f"by {_format_difference(found[size], -1)} at {size:,} labels" for size in worse)
        sentences.append(f"It loses to {a} {sizes}.")
    return " ".join(sentences)


def describe_effect(effects: Sequence[JsonObject]) -> str:
    """One sentence about one effect at all budgets."""
    name, (first, second) = effects[0]["effect"], effects[0]["arms"]
    parts = []
    for verdict, words in (
        ("better", "helps"),
        ("worse", "hurts"),
        ("inconclusive", "inconclusive"),
        ("withheld", "no verdict, since runs have collapsed,"),
    ):
        if budgets := [effect["budget"] for effect in effects if classify_effect(effect) == verdict]:
            is_every = len(budgets) == len(effects) > 1
            parts.append(f"{words} at {'every budget tried' if is_every else name_budgets(budgets)}")
    return f"{name[0].upper()}{name[1:]} ({second} against {first}): {'; '.join(parts)}."


def name_budgets(budgets: Sequence[int]) -> str:
    """Label budgets in words: "100 and 1,000 labels"."""
    *most, last = (f"{budget:,}" for budget in budgets)
    return f"{', '.join(most)} and {last} labels" if most else f"{last} labels"


def _format_difference(effect: JsonObject, sign: int = 1) -> str:
    points, low, high = format_points(sign * effect["difference"], *sorted(sign * end for end in effect["ci95"]))
    return f"{points} points (95% interval {low} to {high})"
