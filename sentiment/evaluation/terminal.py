"""Tables in plain text, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

HEADLINE_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "macro_f1": "macro F1",
    "loss": "loss",
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
    rows.append([f"cut at {audit['max_length']} tokens", *cut])
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
