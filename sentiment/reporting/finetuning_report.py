"""The story of a fine-tuning for a reader: report.md, report.html and the model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from transformers import PreTrainedTokenizerBase

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.error_analysis import compute_slices, find_most_confident_errors
from sentiment.reporting import finetuning_report as plots
from sentiment.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    add_legend,
    new_figure,
    save_figure,
    style_axes,
)
from sentiment.reporting.rendering import write_pages
from sentiment.reporting.terminal import compare_metrics

METRIC_NAMES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}


def write_report(
    run_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write report.md, report.html and the pictures into a run's folder.

    `run` and `metrics` are what run.json and metrics.json hold; predictions.parquet is read for the error analysis.
    Without the latter, or without epochs or figures from before training, the sections that need them are
    left out.
    """
    story = {
        "run": run,
        "audit": run.get("data", {}).get("audit"),
        "metrics": metrics,
        "before": metrics["test"].get("before"),
        "after": metrics["test"]["after"],
        "comparison": compare_metrics(metrics),
        "figures": _write_plots(run_dir, metrics),
        "errors": _analyze_errors(run_dir / "predictions.parquet", tokenizer),
        "label_names": LABEL_NAMES,
    }
    write_pages(run_dir, "report.j2", story)


def _write_plots(run_dir: Path, metrics: Mapping[str, Any]) -> list[str]:
    """Draw the pictures that the metrics have data for, and return their names."""
    history, best_epoch = metrics.get("history") or [], metrics.get("best_epoch")
    before, after = metrics["test"].get("before"), metrics["test"]["after"]
    names = ["confusion"]
    if history:
        plots.plot_loss(history, best_epoch, run_dir / "loss.png")
        plots.plot_metrics(history, best_epoch, run_dir / "metrics.png")
        names += ["loss", "metrics"]
    matrices = {"test, after training": after["confusion_matrix"]}
    if before:
        plots.plot_before_after(before, after, run_dir / "before_after.png")
        names.append("before_after")
        matrices = {"test, before training": before["confusion_matrix"], **matrices}
    plots.plot_confusion(matrices, run_dir / "confusion.png")
    return names


def _analyze_errors(path: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    if not path.exists():
        return None
    table = pyarrow.parquet.read_table(path).to_pydict()
    texts, labels, predicted = table["text"], table["label"], table["predicted"]
    return {
        "slices": compute_slices(texts, labels, predicted, tokenizer),
        "most_confident": [
            # The row in the test split, which the file knows.
            {**error, "row": table["row"][error["row"]]}
            for error in find_most_confident_errors(texts, labels, predicted, table["probability"])
        ],
    }


def plot_loss(history: Sequence[Mapping[str, Any]], best_epoch: int | None, path: Path) -> None:
    """Draw training and validation loss by epoch, with the restored epoch marked."""
    figure, axes = new_figure("Loss by epoch")
    _draw_line(axes, history, [entry.get("train_loss") for entry in history], "training", BLUE, "o")
    validation = [entry["validation"].get("loss") for entry in history]
    _draw_line(axes, history, validation, "validation", ORANGE, "s")
    axes.set_ylabel("cross-entropy per text (nats)")
    axes.set_ylim(bottom=0)
    _finish_epochs(axes, history, best_epoch)
    save_figure(figure, path)


def plot_metrics(history: Sequence[Mapping[str, Any]], best_epoch: int | None, path: Path) -> None:
    """Draw validation accuracy, precision, recall and F1 by epoch, with the restored epoch marked."""
    figure, axes = new_figure("Validation metrics by epoch")
    looks = zip(METRIC_NAMES.items(), (BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=True)
    for (metric, name), colour, marker in looks:
        values = [entry["validation"].get(metric) for entry in history]
        _draw_line(axes, history, values, name, colour, marker, width=2.6 if metric == "accuracy" else 1.4)
    axes.set_ylabel("score (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    # A flat curve must look flat: show ten points at least.
    low, high = axes.get_ylim()
    spread = max(0.0, 0.10 - (high - low)) / 2
    axes.set_ylim(low - spread, high + spread)
    _finish_epochs(axes, history, best_epoch)
    save_figure(figure, path)


def plot_confusion(matrices: Mapping[str, Sequence[Sequence[int]]], path: Path) -> None:
    """Draw confusion matrices side by side, each with its name: counts, and shares of the row.

    Rows are true labels, columns predicted ones, negative first.
    """
    figure = Figure(figsize=(3.6 * len(matrices) + 0.6, 4.0), layout="constrained")
    for position, (title, matrix) in enumerate(matrices.items()):
        axes = figure.add_subplot(1, len(matrices), position + 1)
        style_axes(axes, title, pad=8)
        axes.grid(visible=False)
        shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25)
        axes.axhline(0.5, color="white", linewidth=3)
        axes.axvline(0.5, color="white", linewidth=3)
        for row in range(2):
            for column in range(2):
                text = f"{matrix[row][column]:,}\n{shares[row][column]:.1%}"
                colour = "white" if shares[row][column] > 0.55 else INK
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
        axes.set_xticks([0, 1], LABEL_NAMES)
        axes.set_yticks([0, 1], LABEL_NAMES, rotation=90, va="center")
        axes.set_xlabel("predicted label")
        axes.set_ylabel("true label")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.supxlabel("texts, and their share of the row (of the true label)", fontsize=9, color=INK)
    save_figure(figure, path)


def plot_before_after(before: Mapping[str, Any], after: Mapping[str, Any], path: Path) -> None:
    """Draw accuracy, precision, recall and F1 on the test split as pairs of bars, before and after training.

    The whiskers on accuracy are its 95% interval.
    """
    figure, axes = new_figure("Test metrics before and after training")
    width = 0.38
    for values, name, colour, shift in ((before, "before", GREY, -0.5), (after, "after", BLUE, 0.5)):
        places = [index + shift * (width + 0.03) for index in range(len(METRIC_NAMES))]
        heights = [values[metric] for metric in METRIC_NAMES]
        low, high = values["accuracy_ci95"]
        tops = [high, *heights[1:]]
        axes.bar(places, heights, width, color=colour, label=name)
        # Rounding may put an accuracy of 0 or 1 a hair outside its interval.
        whisker = [[max(0.0, heights[0] - low)], [max(0.0, high - heights[0])]]
        axes.errorbar(places[:1], heights[:1], whisker, color=INK, capsize=4, linewidth=1.3)
        for place, height, top in zip(places, heights, tops, strict=True):
            axes.annotate(f"{height:.1%}", (place, top), (0, 4), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(METRIC_NAMES)), list(METRIC_NAMES.values()))
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("score (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylim(0, 1.06)
    axes.set_xlabel("whiskers: 95% interval of accuracy", fontsize=9)
    add_legend(axes)
    save_figure(figure, path)


def _draw_line(
    axes: Axes,
    history: Sequence[Mapping[str, Any]],
    values: Sequence[float | None],
    name: str,
    colour: str,
    marker: str,
    width: float = 2.0,
) -> None:
    points = [(entry["epoch"], value) for entry, value in zip(history, values, strict=True) if value is not None]
    if points:
        epochs, heights = zip(*points, strict=True)
        axes.plot(epochs, heights, color=colour, marker=marker, markersize=5, linewidth=width, label=name)


def _finish_epochs(axes: Axes, history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> None:
    epochs = [entry["epoch"] for entry in history]
    axes.set_xlabel("epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if best_epoch is not None:
        label = f"restored: epoch {best_epoch}"
        axes.axvline(best_epoch, color=INK, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1, label=label)
    add_legend(axes)
