"""The report of a fine-tuning: report.md, report.html and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay
from transformers import PreTrainedTokenizerBase

from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.error_analysis import compute_slice_metrics, find_most_confident_errors
from sentiment.reporting import plots
from sentiment.reporting.rendering import METRIC_NAMES, JsonObject, write_report_files
from sentiment.runs.results import read_predictions

LINE_STYLES = ((plots.BLUE, "o"), (plots.ORANGE, "s"), (plots.GREEN, "^"), (plots.PURPLE, "D"))


def write_report(run_dir: Path, run: JsonObject, metrics: JsonObject, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write report.md, report.html and the figures into a run's folder; sections without data are omitted."""
    context = {"run": run, "metrics": metrics, "errors": None}
    if (path := run_dir / "predictions.parquet").exists():
        predictions = read_predictions(path)
        slices = compute_slice_metrics(predictions, tokenizer, assign_clusters(predictions["text"]))
        context["errors"] = {"slices": slices, "most_confident": find_most_confident_errors(predictions)}
    history, best_epoch, test = metrics.get("history"), metrics.get("best_epoch"), metrics["test"]
    matrices = {f"test, {moment} training": test[moment]["confusion_matrix"] for moment in test if test[moment]}
    figures = {"confusion.png": draw_confusion(matrices, list(test["after"]["per_class"]))}
    if history:
        figures |= {"loss.png": draw_loss(history, best_epoch), "metrics.png": draw_metrics(history, best_epoch)}
    if test.get("before"):
        figures["before_after.png"] = plots.draw_before_after({"after training": test})
    write_report_files(run_dir, "finetuning.j2", context, figures)


def draw_loss(history: Sequence[JsonObject], best_epoch: int | None) -> Figure:
    """Training and validation loss by epoch, with the restored epoch marked."""
    training = [entry.get("train_loss") for entry in history]
    validation = [entry["validation"].get("loss") for entry in history]
    figure = _draw_lines("Loss by epoch", history, best_epoch, {"training": training, "validation": validation})
    figure.axes[0].set_ylabel("cross-entropy per text (nats)")
    figure.axes[0].set_ylim(bottom=0)
    return figure


def draw_metrics(history: Sequence[JsonObject], best_epoch: int | None) -> Figure:
    """Validation accuracy, precision, recall and F1 by epoch, with the restored epoch marked."""
    lines = {name: [entry["validation"].get(key) for entry in history] for key, name in METRIC_NAMES.items()}
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
    """Confusion matrices side by side under their titles, as counts and shares of the row (the true label)."""
    figure = plots.new_panels(list(matrices), 3.6 * len(matrices) + 0.6, 4.0, columns=len(matrices), pad=8)
    for axes, matrix in zip(figure.axes, matrices.values(), strict=True):
        counts = np.array(matrix)
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        display = ConfusionMatrixDisplay(shares, display_labels=class_names)
        display.plot(
            ax=axes, cmap="Blues", colorbar=False, values_format=".1%", text_kw={"fontsize": 13},
            im_kw={"vmin": 0, "vmax": 1.25},
        )  # fmt: skip
        for text, count, share in zip(display.text_.flat, counts.flat, shares.flat, strict=True):
            text.set(text=f"{count:,}\n{text.get_text()}", color="white" if share > 0.55 else plots.INK)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.supxlabel("texts, and their share of the row (of the true label)", fontsize=9, color=plots.INK)
    return figure
