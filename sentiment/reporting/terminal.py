"""Plain-text tables for the terminal."""

from collections.abc import Iterable, Sequence

from sentiment.reporting import formatting, summaries
from sentiment.reporting.rendering import build_environment
from sentiment.reporting.summaries import JsonObject, compare_before_after, list_class_counts, list_headline_metrics

AUDIT_COUNTS = {"empty": "empty texts", "duplicates": "duplicates", "both_labels": "texts with several labels"}
TOKEN_STATISTICS = ("mean", "median", "p95", "max")


def render_table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as aligned lines: the first column left-aligned, the others right-aligned."""
    table = list(rows)
    first, *others = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for name, *cells in table:
        aligned = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        lines.append("  ".join([name.ljust(first), *aligned]).rstrip())
    return "\n".join(lines)


def render_before_after(metrics: JsonObject) -> str:
    """The test metrics of a fine-tuning before and after training, the accuracy's interval, and a baseline for it."""
    after = metrics["test"]["after"]
    compared = compare_before_after(metrics["test"], list_headline_metrics(after))
    rows = [["test", "before", "after", "change"], *compared]
    interval, baseline = describe_interval(after), summaries.describe_baseline(after)
    lines = [render_table(rows), f"accuracy after training, {interval}", baseline]
    lines += summaries.describe_unanswered_classes(after)
    if baselines := metrics.get("baselines"):
        metric = baselines["metric"]
        found = [f"{name} {scores[metric]:.4f}" for name, scores in summaries.list_baselines(baselines)]
        lines += [
            f"baselines, {summaries.METRIC_NAMES[metric]}: {', '.join(found)}",
            summaries.describe_best_baseline(baselines),
        ]
    if calibration := metrics.get("calibration"):
        errors = [calibration[moment]["ece"] for moment in ("before", "after")]
        before, calibrated, chance = map(
            formatting.format_percent, (*errors, calibration["after"]["ece_if_calibrated"])
        )
        temperature = f"at temperature {calibration['temperature']:.2f} {calibrated}"
        lines.append(f"expected calibration error {before}, {temperature} (a calibrated model by chance: {chance})")
        if errors[1] > max(errors[0], calibration["after"]["ece_if_calibrated"]):
            lines.append("the temperature, fitted on the validation split, makes it worse here: do not rely on scores")
    return "\n".join(lines)


def describe_interval(metrics: JsonObject) -> str:
    """The interval of the accuracy, with the number of clusters if there are fewer than test rows."""
    low, high = metrics["accuracy_ci95"]
    rows, clusters = metrics.get("test_rows", 0), metrics.get("test_clusters", 0)
    suffix = f" ({formatting.describe_test_rows(rows, clusters)})" if clusters < rows else ""
    return f"95% interval: {low:.4f} to {high:.4f}{suffix}"


def render_adaptation(metrics: JsonObject) -> str:
    """The validation metrics before and after an adaptation, and the number of tokens that they are over."""
    validation = metrics["validation"]
    # Earlier versions did not record the objective.
    objective = metrics.get("objective") or {"metrics": {name: name for name in validation["after"]}}
    compared = compare_before_after(validation, objective["metrics"], objective.get("formats"))
    table = render_table([["validation", "before", "after", "change"], *compared])
    counted = objective.get("counted")
    return f"{table}\n{counted.replace('_', ' ')}: {validation['after'][counted]:,}" if counted else table


def render_new_texts(new: JsonObject) -> str:
    """The accuracy on the texts that a model was neither trained, validated nor tested on."""
    if not new["rows"]:
        return "every text is one that the model was trained, validated or tested on: this is no test"
    low, high = new["accuracy_ci95"]
    interval = f"95% interval: {low:.4f} to {high:.4f}"
    return f"accuracy on the {new['rows']:,} texts that are new to the model: {new['accuracy']:.4f}, {interval}"


def render_metrics(metrics: JsonObject) -> str:
    """The headline metrics, the interval of the accuracy, the scores of each class, and the confusion matrix.

    Of many classes, the pairs that are confused most stand in place of the matrix.
    """
    headline = [[name, f"{metrics[key]:.4f}"] for key, name in list_headline_metrics(metrics).items()]
    names = list(metrics["per_class"])
    classes = [["class", "precision", "recall", "F1", "rows"]]
    matrix = [["true", *(f"predicted {name}" for name in names)]]
    for (name, scores), counts in zip(metrics["per_class"].items(), metrics["confusion_matrix"], strict=True):
        values = [f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")]
        classes.append([name, *values, f"{scores['support']:,}"])
        matrix.append([name, *(f"{count:,}" for count in counts)])
    if len(names) > summaries.SHOWN_CLASSES:
        pairs = summaries.list_confused_pairs(metrics)
        matrix = [["true", "predicted", "rows"], *([true, other, f"{rows:,}"] for true, other, rows, _ in pairs)]
    interval, baseline = describe_interval(metrics), summaries.describe_baseline(metrics)
    summary = f"{render_table(headline)}\naccuracy, {interval}\n{baseline}"
    return "\n\n".join([summary, render_table(classes), render_table(matrix)])


def render_label_issues(issues: JsonObject) -> str:
    """How many labels are suspected, and by class the estimated share of wrong ones."""
    rows = [["label", "rows", "suspected", "wrong, high estimate"]]
    for name, found in issues["classes"].items():
        counts = [f"{found[key]:,}" for key in ("rows", "suspected")]
        rows.append([name, *counts, formatting.format_percent(found["estimated_share"])])
    return f"{summaries.describe_label_issues(issues)}\n\n{render_table(rows)}"


def render_comparison(comparison: JsonObject) -> str:
    """The verdict on two runs, warnings, their test metrics side by side, and their training time."""
    template = build_environment("markdown.j2").get_template("comparison_summary.j2")
    return template.render(comparison, table=render_table)


def describe_count(count: int, rows: int) -> str:
    """A count, and its share of the rows."""
    return f"{count:,} ({count / rows:.1%})" if rows else f"{count:,}"


def render_audit(audit: JsonObject, title: str) -> str:
    """The result of `audit_splits`: a column for each split, then leaks between splits and dropped rows."""
    splits = audit["splits"].values()
    labelled = [part["rows"] - part["labels"]["unlabelled"] for part in splits]
    left_out = [part["left_out_by_mapping"] for part in splits]
    rows = [
        [title, *audit["splits"]],
        ["rows", *(f"{part['rows']:,}" for part in splits)],
        *(
            [name, *(describe_count(count, rows) for count, rows in zip(counts, labelled, strict=True))]
            for name, counts in list_class_counts(audit["splits"]).items()
        ),
        ["unlabelled", *(f"{part['labels']['unlabelled'] - part['left_out_by_mapping']:,}" for part in splits)],
        *([["left out by --label_mapping", *map("{:,}".format, left_out)]] if any(left_out) else []),
        *([name, *(f"{part[key]:,}" for part in splits)] for key, name in AUDIT_COUNTS.items()),
        *([f"tokens, {key}", *(f"{part['tokens'][key]:,.1f}" for part in splits)] for key in TOKEN_STATISTICS),
        ["unknown tokens", *(f"{part['share_unknown']:.2%}" for part in splits)],
        [f"truncated to {audit['max_seq_length']} tokens", *(f"{part['share_cut']:.2%}" for part in splits)],
        *(
            [f"truncated, {name}", *(f"{part['share_cut_by_class'].get(name, 0):.2%}" for part in splits)]
            for name in list_class_counts(audit["splits"])
            if any(part["share_cut_by_class"].get(name) for part in splits)
        ),
    ]
    lines = [render_table(rows), ""]
    for pair, count in audit["across"].items():
        first, second = pair.split(" & ")
        lines.append(f"{second} rows whose text is also in {first}: {count:,}")
    if contained := audit.get("test_contained_in_train"):
        share = f"{contained['rows']:,} ({formatting.format_percent(contained['share'])})"
        lines.append(f"test rows contained in a training text: {share}")
    for reason, count in audit.get("dropped", {}).items():
        lines.append(f"dropped rows, {summaries.DROP_REASONS.get(reason, reason.replace('_', ' '))}: {count:,}")
    return "\n".join(lines) + "\n"
