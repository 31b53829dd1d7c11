"""The report of a fine-tuning: report.md, report.html and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.error_analysis import compute_slice_metrics, find_most_confident_errors
from sentiment.reporting import plots
from sentiment.reporting.calibration_plots import draw_calibration, draw_coverage, draw_curves
from sentiment.reporting.rendering import write_report_files
from sentiment.reporting.summaries import JsonObject
from sentiment.runs.results import get_language, read_predictions, stack_probabilities

LINE_STYLES = ((plots.BLUE, "o"), (plots.ORANGE, "s"), (plots.GREEN, "^"), (plots.PURPLE, "D"), (plots.GREY, "v"))

TEXT_CLASSES = 12  # at most as many have numbers in the cells of the confusion matrix
MAX_TICKS = 40


def write_report(run_dir: Path, run: JsonObject, metrics: JsonObject, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write report.md, report.html and the figures into a run's folder; sections without data are omitted."""
    context: dict[str, Any] = {"run": run, "metrics": metrics, "errors": None}
    figures: dict[str, Figure] = {}
    if (path := run_dir / "predictions.parquet").exists():
        predictions = read_predictions(path)
        figures |= draw_calibration_figures(metrics, predictions)
        clusters, language = assign_clusters(predictions["text"]), get_language(run)
        context["errors"] = {
            "slices": compute_slice_metrics(predictions, tokenizer, clusters, language),
            "language": language,
            "most_confident": find_most_confident_errors(predictions),
        }
    history, best_epoch, test = metrics.get("history"), metrics.get("best_epoch"), metrics["test"]
    matrices = {f"test, {moment} training": test[moment]["confusion_matrix"] for moment in test if test[moment]}
    figures |= {"confusion.svg": draw_confusion(matrices, list(test["after"]["per_class"]))}
    if history:
        figures |= {"loss.svg": draw_loss(history, best_epoch), "metrics.svg": draw_metrics(history, best_epoch)}
    if test.get("before"):
        figures["before_after.svg"] = plots.draw_before_after({"after training": test})
    write_report_files(run_dir, "finetuning.j2", context, figures)


def draw_calibration_figures(metrics: JsonObject, predictions: Mapping[str, Sequence[Any]]) -> dict[str, Figure]:
    """Figures on calibration and abstention, if these were evaluated, and ROC and precision-recall curves."""
    figures = {}
    if calibration := metrics.get("calibration"):
        figures["calibration.svg"] = draw_calibration(calibration, predictions["score"])
        figures["coverage.svg"] = draw_coverage(metrics["abstention"])
    class_names = list(metrics["test"]["after"]["per_class"])
    if len(set(predictions["label"])) > 1:
        figures["curves.svg"] = draw_curves(stack_probabilities(predictions), predictions["label"], class_names)
    return figures


def draw_loss(history: Sequence[JsonObject], best_epoch: int | None) -> Figure:
    """Training and validation loss by epoch, with the restored epoch marked."""
    training = [entry.get("train_loss") for entry in history]
    validation = [entry["validation"].get("loss") for entry in history]
    figure = _draw_lines("Loss by epoch", history, best_epoch, {"training": training, "validation": validation})
    figure.axes[0].set_ylabel("cross-entropy per text (nats)")
    figure.axes[0].set_ylim(bottom=0)
    return figure


def draw_metrics(history: Sequence[JsonObject], best_epoch: int | None) -> Figure:
    """The validation scores by epoch, with the restored epoch marked."""
    names = plots.name_scores(history[0]["validation"])
    lines = {name: [entry["validation"].get(key) for entry in history] for key, name in names.items()}
    figure = _draw_lines("Validation metrics by epoch", history, best_epoch, lines)
    plots.use_percent(figure.axes[0].yaxis)
    plots.ensure_y_range(figure.axes[0], 0.1)
    return figure


def _draw_lines(
    title: str, history: Sequence[JsonObject], best_epoch: int | None, lines: Mapping[str, list[float | None]]
) -> Figure:
    figure, axes = plots.new_figure(title)
    epochs = [entry["epoch"] for entry in history]
    for (name, values), (colour, marker) in zip(lines.items(), LINE_STYLES[: len(lines)], strict=True):
        known = np.array(values, dtype=float)  # None becomes nan, which is not drawn
        width = 2.6 if name == "accuracy" else 1.7
        axes.plot(epochs, known, color=colour, marker=marker, markersize=5, linewidth=width, label=name)
    plots.use_epochs(axes, epochs)
    if best_epoch is not None:
        plots.mark_restored(axes, best_epoch, f"restored: epoch {best_epoch}")
    plots.add_legend(axes)
    return figure


def draw_confusion(matrices: Mapping[str, Sequence[Sequence[int]]], class_names: Sequence[str]) -> Figure:
    """Confusion matrices under their titles: shares of the row (the true label), and counts where they fit."""
    classes, names = len(class_names), [plots.name_class(name, number) for number, name in enumerate(class_names)]
    side = min(max(3.6, 0.62 * classes + 1.2), 6.6)
    columns = len(matrices) if classes <= TEXT_CLASSES else 1
    rows = -(-len(matrices) // columns)
    figure = plots.new_panels(list(matrices), side * columns + 0.6, (side + 0.4) * rows, columns=columns, pad=8)
    step = max(1, -(-classes // MAX_TICKS))
    for axes, matrix in zip(figure.axes, matrices.values(), strict=True):
        counts = np.array(matrix)
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="none")
        for axis, label in ((axes.xaxis, "predicted label"), (axes.yaxis, "true label")):
            axis.set_ticks(range(0, classes, step), names[::step])
            axis.set_label_text(label)
        if classes > 2:
            axes.tick_params(axis="x", labelrotation=90 if classes > TEXT_CLASSES else 45)
        size = {2: 13, 3: 11}.get(classes, 9 if classes < 7 else 7)
        for (row, column), share in np.ndenumerate(shares) if classes <= TEXT_CLASSES else ():
            text, ink = f"{counts[row, column]:,}\n{share:.1%}", plots.choose_ink(tuple(image.to_rgba(share)))
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
        axes.grid(visible=False)
        axes.tick_params(length=0, labelsize=10 if classes <= TEXT_CLASSES else 7)
        axes.spines[:].set_visible(False)
    what = "texts, and their share of the row" if classes <= TEXT_CLASSES else "darker: larger share of the row"
    figure.supxlabel(f"{what} (of the true label)", fontsize=9, color=plots.INK)
    return figure
