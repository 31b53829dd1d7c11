"""What reports, cards and the terminal say of metrics: names of scores, rows of tables, and sentences."""

from collections.abc import Mapping
from typing import Any

from sentiment.config.data_arguments import BINARY_METRICS
from sentiment.data.labels import name_positive_class, shorten
from sentiment.data.languages import UNDETERMINED, has_spaces, is_english
from sentiment.reporting.formatting import format_change, format_percent, format_points

JsonObject = Mapping[str, Any]
# Scores of a classifier of two classes (of the second one, if of one) and of more, in the order of plots and tables.
BINARY_SCORES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "macro_f1": "macro F1",
}
SCORES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "top2_accuracy": "top-2 accuracy",
}
METRIC_NAMES = BINARY_SCORES | SCORES | {"balanced_accuracy": "balanced accuracy", "mcc": "MCC"}
BASELINE_NAMES = {
    "majority": "always answering the most frequent class",
    "tfidf": "logistic regression on TF-IDF",
    "embeddings": "logistic regression on frozen embeddings",
}
DROP_REASONS = {
    "empty": "no text left after cleaning",
    "unlabelled": "no label",
    "left_out_by_mapping": "label left out by --label_mapping",
    "over_max_rows": "beyond --max_rows",
    "both_labels": "same text with several labels",
    "duplicates": "duplicate text",
    "in_test": "same text in a labelled validation or test split",
    "overlaps": "part of a validation or test text of four words or more, or holds one",
    "in_several_splits": "phrase of sentences in different splits",
}
SHOWN_CLASSES = 12  # in tables of counts; the others are summed up
WAY_OUT_OF_COLLAPSE = "train with more epochs, smaller batches or a higher learning rate"


def list_scores(metrics: JsonObject) -> dict[str, str]:
    """The scores among these metrics and their names: those of a classifier of two classes, or of more.

    Names of scores of a class other than positive say which.
    """
    scores = BINARY_SCORES if "precision" in metrics else SCORES
    of_class = name_positive_class([*metrics["per_class"]]) if "per_class" in metrics else ""
    return {key: name + of_class * (key in BINARY_METRICS) for key, name in scores.items() if key in metrics}


def list_headline_metrics(metrics: JsonObject) -> dict[str, str]:
    """`list_scores`, and the loss."""
    return list_scores(metrics) | {"loss": "loss"}


def list_class_counts(splits: Mapping[str, JsonObject]) -> dict[str, list[int]]:
    """Rows of each class in each audited split; of many classes the largest, and the sum of the others."""
    names = list(dict.fromkeys(name for part in splits.values() for name in part["labels"] if name != "unlabelled"))
    counts = {name: [part["labels"].get(name, 0) for part in splits.values()] for name in names}
    shown = sorted(names, key=lambda name: -sum(counts[name]))[:SHOWN_CLASSES]
    if len(names) <= SHOWN_CLASSES + 1:
        return counts
    others = [counts[name] for name in names if name not in shown]
    return {name: counts[name] for name in names if name in shown} | {
        f"{len(others)} other classes": [sum(column) for column in zip(*others, strict=True)]
    }


def list_confused_pairs(metrics: JsonObject, limit: int = 10) -> list[tuple[str, str, int, float]]:
    """The most frequent errors: true class, predicted class, rows, and their share of the true class's rows."""
    names, matrix = list(metrics["per_class"]), metrics["confusion_matrix"]
    pairs = [
        (names[true], names[predicted], rows, rows / sum(counts))
        for true, counts in enumerate(matrix)
        for predicted, rows in enumerate(counts)
        if rows and true != predicted
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:limit]


def describe_baseline(metrics: JsonObject) -> str:
    """The accuracy of always answering with the most frequent label, and whether the model does little else."""
    majority = metrics["majority_baseline"]
    baseline = f"always answering '{majority['label']}' would reach {majority['accuracy']:.1%} accuracy"
    if answer := metrics.get("collapsed"):
        place, matrix = list(metrics["per_class"]).index(answer), metrics["confusion_matrix"]
        answered = sum(counts[place] for counts in matrix) / sum(map(sum, matrix))
        share = f"{answered:.1%} of its answers are '{answer}'"
        return f"{baseline}; the model has collapsed, {share}: {WAY_OUT_OF_COLLAPSE}"
    if metrics["accuracy_ci95"][0] <= majority["accuracy"]:
        return f"{baseline}: the model is not shown to be better than that"
    return baseline


def describe_absent_classes(metrics: JsonObject) -> list[str]:
    """That the rows lack classes which the model answers, which count as F1 of 0; empty if there are none."""
    names = list(metrics["per_class"])
    answered = (sum(column) for column in zip(*metrics["confusion_matrix"], strict=True))
    absent = [
        name for name, count in zip(names, answered, strict=True) if count and not metrics["per_class"][name]["support"]
    ]
    if not absent:
        return []
    return [f"no row is of {shorten(', '.join(map(repr, absent)))}, which the model answers: macro F1 counts it as 0."]


def describe_unanswered_classes(metrics: JsonObject) -> list[str]:
    """That the model never answers classes which the rows have; empty if there are none, or it has collapsed to one."""
    answered = [sum(column) for column in zip(*metrics["confusion_matrix"], strict=True)]
    missing = [
        f"{name!r} ({metrics['per_class'][name]['support']:,} rows)"
        for name, count in zip(metrics["per_class"], answered, strict=True)
        if not count and metrics["per_class"][name]["support"]
    ]
    if not missing or metrics.get("collapsed"):
        return []
    return [f"the model never answers {shorten(', '.join(missing))}: train longer, or with --class_weights balanced"]


def describe_label_issues(issues: JsonObject) -> str:
    """How many labels are suspected to be wrong, and what share is by estimate, in a sentence."""
    splits = ", ".join(f"{count:,} {name}" for name, count in issues["suspected_by_split"].items())
    suspected = f"{issues['suspected']:,} of {issues['rows']:,} labels are suspected to be wrong"
    estimate = f"by an estimate that counts hard texts too, {format_percent(issues['estimated_share'])} are wrong"
    return f"{suspected}{f' ({splits})' if splits else ''}; {estimate}"


def list_baselines(baselines: JsonObject) -> list[tuple[str, JsonObject]]:
    """Name and scores of each baseline, the best last."""
    scores, metric = baselines["scores"], baselines["metric"]
    return [
        (BASELINE_NAMES[name], scores[name]) for name in sorted(scores, key=lambda name: float(scores[name][metric]))
    ]


def describe_best_baseline(baselines: JsonObject) -> str:
    """Whether the model is better than the best baseline, in a sentence."""
    metric, outcome = baselines["metric"], baselines["outcome"]
    unit = f" of {METRIC_NAMES[metric]}" if metric != "accuracy" else ""
    name, score = BASELINE_NAMES[baselines["best"]], baselines["scores"][baselines["best"]][metric]
    if baselines["difference_ci95"] is None:
        return f"the model is not shown to beat {name} ({score:.1%}{unit}): they answer almost alike"
    sign = -1 if outcome == "worse" else 1
    interval = sorted(sign * end for end in baselines["difference_ci95"])
    points, low, high = format_points(sign * baselines["difference"], *interval)
    words = {"better": "beats", "worse": "loses to", "inconclusive": "is not shown to beat"}[outcome]
    by = f"difference {points} points{unit}" if outcome == "inconclusive" else f"by {points} points{unit}"
    bounds = baselines["difference_ci95"]
    disagrees = "; the exact McNemar test disagrees" if outcome == "inconclusive" and bounds[0] * bounds[1] > 0 else ""
    return f"the model {words} {name} ({score:.1%}{unit}), {by} (95% interval {low} to {high}{disagrees})"


def compare_before_after(
    metrics: JsonObject, names: Mapping[str, str], formats: Mapping[str, str] | None = None
) -> list[list[str]]:
    """Name, value before, value after and change of each metric in `names`, with a dash for a missing value.

    Metrics without an entry in `formats` have 4 decimals.
    """
    rows = []
    for key, name in names.items():
        form = (formats or {}).get(key, ".4f")
        before, after = (metrics.get("before") or {}).get(key), metrics["after"].get(key)
        values = ["-" if value is None else f"{value:{form}}" for value in (before, after)]
        change = "-" if before is None or after is None else f"{after - before:+{form}}"
        rows.append([name, *values, change])
    return rows


def compare_side_by_side(metrics: Mapping[str, JsonObject], metric: str = "accuracy") -> list[list[str]]:
    """Name, value of A and of B, difference and its 95% interval of each headline metric, and of the one that decides.

    A dash stands for no interval.
    """
    rows = []
    for key, name in (list_scores(metrics) | {metric: METRIC_NAMES[metric], "loss": "loss"}).items():
        compared = metrics[key]
        interval = " to ".join(map(format_change, compared.get("difference_ci95", []))) or "-"
        rows.append([name, *(f"{compared[run]:.4f}" for run in "ab"), format_change(compared["difference"]), interval])
    return rows


def describe_slices(language: str) -> str:
    """How the slices of an error analysis depend on the language, in a sentence."""
    name = "not determined" if language == UNDETERMINED else language
    if not has_spaces(language):
        return f"Language of the texts: {name}, without spaces between words, so lengths are in letters and digits."
    if is_english(language):
        return f"Language of the texts: {name}. Negation and contrast are found by lists of English words."
    return f"Language of the texts: {name}. Negation and contrast are left out: their lists of words are English."
