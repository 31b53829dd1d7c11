"""Tables in plain text, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentiment.reporting.rendering import format_p_value

HEADLINE_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "macro_f1": "macro F1",
    "loss": "loss",
}
FORMS = {
    "loss": ("loss per masked token (nats)", ".4f"),
    "perplexity": ("perplexity", ",.1f"),
    "accuracy": ("accuracy of masked tokens", ".4f"),
}


def render_before_after(metrics: Mapping[str, Any]) -> str:
    """The test metrics of a run before and after training, and the interval of the accuracy."""
    low, high = metrics["test"]["after"]["accuracy_ci95"]
    rows = [["test", "before", "after", "change"], *compare_metrics(metrics)]
    return f"{render_table(rows)}\naccuracy after training, 95% interval: {low:.4f} to {high:.4f}"


def compare_metrics(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Name, value before, value after and change of each headline metric; a dash where one is missing."""
    before, after = metrics["test"].get("before") or {}, metrics["test"]["after"]
    rows = []
    for key, name in HEADLINE_METRICS.items():
        old, new = before.get(key), after.get(key)
        change = None if old is None or new is None else new - old
        rows.append([name, *("-" if value is None else f"{value:.4f}" for value in (old, new))])
        rows[-1].append("-" if change is None else f"{change:+.4f}")
    return rows


def render_metrics(metrics: Mapping[str, Any]) -> str:
    """The headline metrics, the interval of the accuracy, each class, and the confusion matrix."""
    low, high = metrics["accuracy_ci95"]
    headline = [[name, f"{metrics[key]:.4f}"] for key, name in HEADLINE_METRICS.items()]
    classes = [["class", "precision", "recall", "F1", "rows"]]
    for name, scores in metrics["per_class"].items():
        values = [f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")]
        classes.append([name, *values, f"{scores['support']:,}"])
    names = list(metrics["per_class"])
    matrix = [["true", *(f"predicted {name}" for name in names)]]
    for name, counts in zip(names, metrics["confusion_matrix"], strict=True):
        matrix.append([name, *(f"{count:,}" for count in counts)])
    interval = f"accuracy, 95% interval: {low:.4f} to {high:.4f}"
    return "\n\n".join([render_table(headline) + "\n" + interval, render_table(classes), render_table(matrix)])


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """The verdict on two runs, what stands against it, their test metrics side by side, and what they cost."""
    first, second = (run["name"] for run in comparison["runs"].values())
    lines = [
        comparison["sentence"],
        f"On {comparison['test_rows']:,} test rows {second} mends {comparison['fixes']:,} errors of {first} and makes "
        f"{comparison['regressions']:,} others (exact McNemar p {format_p_value(comparison['mcnemar_p'])}).",
        *(f"Warning: {warning}" for warning in comparison["warnings"]),
        f"Options that differ: {', '.join(comparison['differences']['options']) or 'none'}.",
    ]
    rows = [["test", first, second, "difference", "95% interval"], *compare_side_by_side(comparison["metrics"])]
    cost = comparison["cost"]
    rows.append(["training (s)", *(f"{cost[key]['train_seconds']:,.0f}" for key in "ab"), "", ""])
    if any(cost[key]["adaptation_seconds"] for key in "ab"):
        rows.append(["with adaptation (s)", *(f"{cost[key]['seconds']:,.0f}" for key in "ab"), "", ""])
    rows[-1][3] = f"{cost['ratio']:.2f} times"
    return "\n".join(lines) + "\n\n" + "\n".join(line.rstrip() for line in render_table(rows).splitlines())


def compare_side_by_side(metrics: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Name, value of A and of B, difference and its 95% interval of each headline metric; a dash for no interval."""
    rows = []
    for key, name in HEADLINE_METRICS.items():
        compared = metrics[key]
        interval = compared.get("difference_ci95")
        ends = "-" if interval is None else " to ".join(map(format_change, interval))
        rows.append([name, f"{compared['a']:.4f}", f"{compared['b']:.4f}", format_change(compared["difference"]), ends])
    return rows


def format_change(value: float) -> str:
    """A difference with its sign, and with none where it reads as 0.

    >>> format_change(0.0123), format_change(-0.00001)
    ('+0.0123', '0.0000')
    """
    text = f"{value:+.4f}"
    return text if float(text) else text[1:]


def render_audit(audit: Mapping[str, Any], title: str) -> str:
    """The audit of `audit_splits`: a column for each split, then what splits share and what was left out."""
    splits = audit["splits"]
    rows = [[title, *splits]]
    for name in ("rows", "negative", "positive", "unlabelled"):
        rows.append([name, *(f"{part['labels'].get(name, part['rows']):,}" for part in splits.values())])
    shares = (
        "-" if not labelled else f"{positive / labelled:.1%}" for positive, labelled in map(_labels, splits.values())
    )
    rows.append(["positive share of labelled", *shares])
    counts = {
        "empty": "no text left",
        "duplicates": "repeats of a text",
        "both_labels": "texts with both labels",
    }
    for key, name in counts.items():
        rows.append([name, *(f"{part[key]:,}" for part in splits.values())])
    for key in ("mean", "median", "p95", "max"):
        rows.append([f"tokens, {key}", *(f"{part['tokens'][key]:,.1f}" for part in splits.values())])
    cut = (f"{part['share_cut']:.2%}" for part in splits.values())
    rows.append([f"cut at {audit['max_seq_length']} tokens", *cut])
    lines = [render_table(rows), ""]
    for pair, count in audit["across"].items():
        first, second = pair.split(" & ")
        lines.append(f"{second} rows whose text stands in {first}: {count:,}")
    if contained := audit.get("test_contained_in_train"):
        share = f"{contained['rows']:,} ({contained['share']:.1%})"
        lines.append(f"test rows that are a training text or a part of one: {share}")
    for reason, count in audit.get("dropped", {}).items():
        lines.append(f"rows left out, {reason.replace('_', ' ')}: {count:,}")
    return "\n".join(lines) + "\n"


def _labels(part: Mapping[str, Any]) -> tuple[int, int]:
    positive = part["labels"]["positive"]
    return positive, positive + part["labels"]["negative"]


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned lines: the first column to the left, the others to the right.

    >>> print(render_table([["test", "rows"], ["accuracy", "7"]]))
    test      rows
    accuracy     7
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def render_adaptation(metrics: Mapping[str, Any]) -> str:
    """Validation loss, perplexity and accuracy of masked tokens before and after, and how many tokens these rest on."""
    rows = [["validation", "before", "after", "change"], *compare_adaptation(metrics)]
    return f"{render_table(rows)}\nmasked tokens: {metrics['validation']['after']['masked_tokens']:,}"


def compare_adaptation(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Name, value before, value after and change of each measure; a dash where one is missing."""
    before, after = metrics["validation"].get("before") or {}, metrics["validation"]["after"]
    rows = []
    for key, (name, form) in FORMS.items():
        old, new = before.get(key), after[key]
        change = "-" if old is None else f"{new - old:+{form}}"
        rows.append([name, "-" if old is None else f"{old:{form}}", f"{new:{form}}", change])
    return rows
