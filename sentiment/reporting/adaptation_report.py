"""The report of an adaptation: report.md, report.html and the loss curve."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from scipy.signal import savgol_filter

from sentiment.reporting import plots
from sentiment.reporting.rendering import JsonObject, write_report_files

MASK = "[MASK]"
LONGEST_CONTEXT = 110  # characters shown on each side of a mask
FEWEST_TO_SMOOTH = 15  # logged losses; fewer are drawn without smoothing


def write_adaptation_report(run_dir: Path, run: JsonObject, metrics: JsonObject) -> None:
    """Write report.md, report.html and loss.png into an adaptation's folder; sections without data are omitted."""
    history = metrics.get("history") or []
    figures = {"loss.png": draw_adaptation_loss(metrics)} if metrics.get("steps") and history else {}
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
    validated, values = zip(*list_validation_points(metrics), strict=True)
    # Dotted, because the loss between two validations is unknown.
    axes.plot(validated, values, ":s", color=plots.ORANGE, markersize=6, zorder=3, label="validation", clip_on=False)
    if restored := find_restored(metrics):
        counted = "epoch" if has_epochs(metrics["history"]) else "step"
        label = f"restored: {counted} {restored[counted]:,}"
        plots.mark_restored(axes, restored["step"], label)
    plots.ensure_y_range(axes, 0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss ({unit})" if unit else "loss")
    plots.add_legend(axes)
    return figure


def list_validation_points(metrics: JsonObject) -> list[tuple[int, float]]:
    """Step and validation loss of each evaluation, at step 0 if the loss before training is known."""
    before = metrics["validation"].get("before")
    start = [(0, before["loss"])] if before else []
    return start + [(entry["step"], entry["validation"]["loss"]) for entry in metrics["history"]]


def find_restored(metrics: JsonObject) -> JsonObject | None:
    """The evaluation whose weights were restored: the lowest loss in `best_epoch`; None without a best epoch."""
    candidates = [entry for entry in metrics["history"] if entry["epoch"] == metrics.get("best_epoch")]
    return min(candidates, key=lambda entry: entry["validation"]["loss"], default=None)


def has_epochs(history: Sequence[JsonObject]) -> bool:
    """Whether evaluations follow epochs, and not a number of steps, as those of a stream do."""
    return [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))


def smooth(losses: Sequence[float]) -> list[float]:
    """The losses after a linear Savitzky-Golay filter, which does not bend the ends of a steep curve as a mean does."""
    window = max(5, len(losses) // 15) | 1  # must be odd
    return list(savgol_filter(np.asarray(losses), window, polyorder=1).tolist())
