"""The report of an adaptation: report.md, report.html and the loss curve."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from scipy.signal import savgol_filter

from sentiment.reporting import plots
from sentiment.reporting.rendering import write_report_files
from sentiment.reporting.summaries import JsonObject

MASK = "[MASK]"
LONGEST_CONTEXT = 110  # characters shown on each side of a mask
FEWEST_TO_SMOOTH = 15  # logged losses; fewer are drawn without smoothing


def write_adaptation_report(run_dir: Path, run: JsonObject, metrics: JsonObject) -> None:
    """Write report.md, report.html and loss.svg into an adaptation's folder; sections without data are omitted."""
    history = metrics.get("history") or []
    figures = {"loss.svg": draw_adaptation_loss(metrics)} if metrics.get("steps") and history else {}
    if history and "probe_accuracy" in history[-1]["validation"]:
        figures["probe.svg"] = draw_probe_accuracy(metrics)
    examples = metrics.get("examples") or []
    context = {
        "run": run,
        "metrics": metrics,
        "examples": [{**example, "text": truncate_around_mask(example["text"])} for example in examples],
        "has_epochs": has_epochs(history),
        "restored": find_restored(metrics) if history else None,
    }
    write_report_files(run_dir, "adaptation.j2", context, figures)


def truncate_around_mask(text: str) -> str:
    """The text near its mask, truncated between words, if spaces separate them; as it is without a mask."""
    if MASK not in text:
        return text
    left, mask, right = text.partition(MASK)
    if len(left) > LONGEST_CONTEXT:
        near = left[-LONGEST_CONTEXT:]
        left = "… " + (near.partition(" ")[2] or near)
    if len(right) > LONGEST_CONTEXT:
        near = right[:LONGEST_CONTEXT]
        right = (near.rpartition(" ")[0] or near) + " …"
    return left + mask + right


def draw_adaptation_loss(metrics: JsonObject) -> Figure:
    """Training loss by step, raw and smoothed, validation losses, the restored step and (shaded) the head's warm-up."""
    unit = (metrics.get("objective") or {}).get("loss_unit")  # not in metrics.json of earlier versions
    figure, axes = plots.new_figure("Loss by step")
    steps, losses = [entry["step"] for entry in metrics["steps"]], [entry["loss"] for entry in metrics["steps"]]
    if warmup := metrics.get("head_warmup_steps"):
        axes.axvspan(0, warmup, color=plots.GREY, alpha=0.22, linewidth=0, label="head only")
    if is_smoothed := len(losses) >= FEWEST_TO_SMOOTH:
        axes.plot(steps, losses, color=plots.BLUE, alpha=0.3, linewidth=1, label="training")
    curve = smooth(losses) if is_smoothed else losses
    axes.plot(steps, curve, color=plots.BLUE, linewidth=2, label="smoothed" if is_smoothed else "training")
    validated, values = zip(*list_validation_points(metrics, "loss"), strict=True)
    # Dotted, because the loss between two validations is unknown.
    axes.plot(validated, values, ":s", color=plots.ORANGE, markersize=6, zorder=3, label="validation", clip_on=False)
    plots.ensure_y_range(axes, 0.5)
    axes.set_ylabel(f"loss ({unit})" if unit else "loss")
    finish_axes(axes, metrics)
    return figure


def draw_probe_accuracy(metrics: JsonObject) -> Figure:
    """Accuracy of the probe by step, from before training on, and the restored step."""
    figure, axes = plots.new_figure("Accuracy of the probe by step")
    steps, values = zip(*list_validation_points(metrics, "probe_accuracy"), strict=True)
    axes.plot(steps, values, "-o", color=plots.GREEN, linewidth=2, markersize=6, label="probe", clip_on=False)
    plots.ensure_y_range(axes, 0.1)
    plots.use_percent(axes.yaxis, "accuracy (%)")
    finish_axes(axes, metrics)
    return figure


def finish_axes(axes: Axes, metrics: JsonObject) -> None:
    """Mark the restored step, and number the axis of steps."""
    if restored := find_restored(metrics):
        counted = "epoch" if has_epochs(metrics["history"]) else "step"
        plots.mark_restored(axes, restored["step"], f"restored: {counted} {restored[counted]:,}")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("step")
    plots.add_legend(axes)


def list_validation_points(metrics: JsonObject, name: str) -> list[tuple[int, float]]:
    """Step and value of a metric at each evaluation, at step 0 if the one before training is known."""
    before = metrics["validation"].get("before") or {}
    start = [(0, before[name])] if name in before else []
    return start + [(entry["step"], entry["validation"][name]) for entry in metrics["history"]]


def find_restored(metrics: JsonObject) -> JsonObject | None:
    """The evaluation whose weights were restored; None if it is not known.

    Earlier versions recorded `best_epoch` alone, and restored the lowest loss.
    """
    if step := metrics.get("best_step"):
        return next(entry for entry in metrics["history"] if entry["step"] == step)
    candidates = [entry for entry in metrics["history"] if entry["epoch"] == metrics.get("best_epoch")]
    return min(candidates, key=lambda entry: entry["validation"]["loss"], default=None)


def has_epochs(history: Sequence[JsonObject]) -> bool:
    """Whether evaluations follow epochs, and not a number of steps, as those of a stream do."""
    return [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))


def smooth(losses: Sequence[float]) -> list[float]:
    """The losses after a linear Savitzky-Golay filter, which does not bend the ends of a steep curve as a mean does."""
    window = max(5, len(losses) // 15) | 1  # must be odd
    return list(savgol_filter(np.asarray(losses), window, polyorder=1).tolist())
