"""Plain-text tables for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sentiment.reporting import rendering
from sentiment.reporting.rendering import HEADLINE_METRICS, MASKED_LM_METRICS, describe_test_rows


def render_table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as aligned lines: the first column left-aligned, the others right-aligned.

    >>> print(render_table([["test", "rows"], ["accuracy", "7"]]))
    test      rows
    accuracy     7
    """
    table = list(rows)
    first, *others = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = (
        [row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))]
        for row in table
    )
    return "\n".join("  ".join(line) for line in lines)


def compare_before_after(metrics: Mapping[str, Any], names: Mapping[str, str]) -> list[list[str]]:
    """Name, value before, value after and change of each metric in `names`, with a dash for a missing value."""
    rows = []
    for key, name in names.items():
        form = ",.1f" if key == "perplexity" else ".4f"
        before, after = (metrics.get("before") or {}).get(key), metrics["after"].get(key)
        values = ["-" if value is None else f"{value:{form}}" for value in (before, after)]
        change = "-" if before is None or after is None else f"{after - before:+{form}}"
        rows.append([name, *values, change])
    return rows


def render_before_after(metrics: Mapping[str, Any]) -> str:
    """The test metrics of a fine-tuning before and after training, and the interval of the accuracy."""
    rows = [["test", "before", "after", "change"], *compare_before_after(metrics["test"], HEADLINE_METRICS)]
    return f"{render_table(rows)}\naccuracy after training, {describe_interval(metrics['test']['after'])}"


def describe_interval(metrics: Mapping[str, Any]) -> str:
    """The interval of the accuracy, with the number of clusters if there are fewer than test rows."""
    low, high = metrics["accuracy_ci95"]
    rows, clusters = metrics.get("test_rows", 0), metrics.get("test_clusters", 0)
    suffix = f" ({describe_test_rows(rows, clusters)})" if clusters < rows else ""
    return f"95% interval: {low:.4f} to {high:.4f}{suffix}"


def render_adaptation(metrics: Mapping[str, Any]) -> str:
    """Validation loss, perplexity and accuracy before and after an adaptation, and the number of masked tokens."""
    validation = metrics["validation"]
    rows = [["validation", "before", "after", "change"], *compare_before_after(validation, MASKED_LM_METRICS)]
    return f"{render_table(rows)}\nmasked tokens: {validation['after']['masked_tokens']:,}"


def render_metrics(metrics: Mapping[str, Any]) -> str:
    """The headline metrics, the interval of the accuracy, the scores of each class, and the confusion matrix."""
    headline = [[name, f"{metrics[key]:.4f}"] for key, name in HEADLINE_METRICS.items()]
    names = list(metrics["per_class"])
    classes = [["class", "precision", "recall", "F1", "rows"]]
    matrix = [["true", *(f"predicted {name}" for name in names)]]
    for (name, scores), counts in zip(metrics["per_class"].items(), metrics["confusion_matrix"], strict=True):
        values = [f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")]
        classes.append([name, *values, f"{scores['support']:,}"])
        matrix.append([name, *(f"{count:,}" for count in counts)])
    summary = f"{render_table(headline)}\naccuracy, {describe_interval(metrics)}"
    return "\n\n".join([summary, render_table(classes), render_table(matrix)])


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """The verdict on two runs, warnings, their test metrics side by side, and their training time."""
    first, second = (run["name"] for run in comparison["runs"].values())
    rows, fixes, regressions = (f"{comparison[key]:,}" for key in ("test_rows", "fixes", "regressions"))
    p_value, cost = rendering.format_p_value(comparison["mcnemar_p"]), comparison["cost"]
    lines = [
        comparison["sentence"],
        f"On {rows} test rows, {second} fixes {fixes} of the errors of {first} and makes {regressions} that {first} "
        f"does not make (exact McNemar p {p_value}).",
        *(f"Warning: {warning}" for warning in comparison["warnings"]),
        f"Options that differ: {', '.join(comparison['differences']['options']) or 'none'}.",
    ]
    table = [["test", first, second, "difference", "95% interval"], *compare_side_by_side(comparison["metrics"])]
    table.append(["training (s)", *(f"{cost[key]['train_seconds']:,.0f}" for key in "ab"), "", ""])
    if any(cost[key]["adaptation_seconds"] for key in "ab"):
        table.append(["with adaptation (s)", *(f"{cost[key]['seconds']:,.0f}" for key in "ab"), "", ""])
    table[-1][3] = f"{cost['ratio']:.2f}x"
    return "\n".join(lines) + "\n\n" + "\n".join(line.rstrip() for line in render_table(table).splitlines())


def compare_side_by_side(metrics: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Name, value of A and of B, difference and its 95% interval of each headline metric; a dash for no interval."""
    rows = []
    for key, name in HEADLINE_METRICS.items():
        compared = metrics[key]
        interval = " to ".join(map(format_change, compared.get("difference_ci95", []))) or "-"
        values = [f"{compared[run]:.4f}" for run in "ab"]
        rows.append([name, *values, format_change(compared["difference"]), interval])
    return rows


def format_change(value: float) -> str:
    """A difference with its sign, or without one if it is rounded to 0.

    >>> format_change(0.0123), format_change(-0.00001)
    ('+0.0123', '0.0000')
    """
    text = f"{value:+.4f}"
    return text if float(text) else text[1:]


def render_audit(audit: Mapping[str, Any], title: str) -> str:
    """The result of `audit_splits`: a column for each split, then leaks between splits and dropped rows."""
    splits = audit["splits"].values()
    shares = [rendering.compute_positive_share(part) for part in splits]
    rows = [
        [title, *audit["splits"]],
        ["rows", *(f"{part['rows']:,}" for part in splits)],
        *([name, *(f"{part['labels'][name]:,}" for part in splits)] for name in ("negative", "positive", "unlabelled")),
        ["positive share of labelled", *("-" if share is None else f"{share:.1%}" for share in shares)],
        ["empty texts", *(f"{part['empty']:,}" for part in splits)],
        ["duplicates", *(f"{part['duplicates']:,}" for part in splits)],
        ["texts with both labels", *(f"{part['both_labels']:,}" for part in splits)],
        *(
            [f"tokens, {key}", *(f"{part['tokens'][key]:,.1f}" for part in splits)]
            for key in ("mean", "median", "p95", "max")
        ),
        [f"truncated to {audit['max_seq_length']} tokens", *(f"{part['share_cut']:.2%}" for part in splits)],
    ]
    lines = [render_table(rows), ""]
    for pair, count in audit["across"].items():
        first, second = pair.split(" & ")
        lines.append(f"{second} rows whose text is also in {first}: {count:,}")
    if contained := audit.get("test_contained_in_train"):
        share = f"{contained['rows']:,} ({rendering.format_percent(contained['share'])})"
        lines.append(f"test rows contained in a training text: {share}")
    for reason, count in audit.get("dropped", {}).items():
        lines.append(f"dropped rows, {rendering.DROP_REASONS.get(reason, reason.replace('_', ' '))}: {count:,}")
    return "\n".join(lines) + "\n"
