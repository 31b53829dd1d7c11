"""The story of an adaptation for a reader: report.md, report.html and the model card."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from scipy.signal import savgol_filter

from sentiment.reporting.figures import BLUE, GREY, INK, ORANGE, add_legend, new_figure, save_figure
from sentiment.reporting.rendering import write_pages
from sentiment.reporting.terminal import compare_adaptation

MASK = "[MASK]"
WHEN = ("before", "after")
LONGEST_SIDE = 110  # characters that a table shows on each side of a mask
BERT_VOCABULARY = 30_522
COPYING_LOSS = 0.1  # nats; the entropy of text that a model cannot see is far above
FEWEST_TO_SMOOTH = 15  # entries; fewer are drawn as they are
SMALLEST_RANGE = 0.5  # nats that the picture shows at least: a flat curve must look flat


def write_adaptation_report(run_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write report.md, report.html and loss.png into the folder of an adaptation.

    `run` and `metrics` are what its run.json and metrics.json hold. Sections are left out where what they need was
    not recorded: the picture without `steps`, the comparison without figures from before training.
    """
    before, after = metrics["validation"].get("before"), metrics["validation"]["after"]
    history = metrics.get("history") or []
    vocabulary = run.get("model", {}).get("vocab_size", BERT_VOCABULARY)
    has_picture = bool(metrics.get("steps") and history)
    if has_picture:
        plot_masked_loss(metrics, run_dir / "loss.png")
    story = {
        "run": run,
        "audit": run.get("data", {}).get("audit"),
        "metrics": metrics,
        "before": before,
        "after": after,
        "comparison": compare_adaptation(metrics),
        "filled_masks": summarize_filled_masks(metrics.get("filled_masks") or []),
        "has_picture": has_picture,
        "has_epochs": has_epochs(history),
        "restored": find_restored(metrics) if history else None,
        "vocabulary": vocabulary,
        "even_guessing": math.log(vocabulary),
        "head_is_fresh": run.get("model", {}).get("has_new_head", False),
        "is_copying": after["loss"] < COPYING_LOSS,
    }
    write_pages(run_dir, "adaptation.j2", story)


def summarize_filled_masks(filled_masks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The filled masks with their texts cut to what is near the mask, and how many first guesses were right."""
    rows = [{**mask, "text": quote_around_mask(mask["text"])} for mask in filled_masks]
    return {"rows": rows} | {when: sum(is_right(mask[when], mask["word"]) for mask in rows) for when in WHEN}


def is_right(guesses: Sequence[Sequence[Any]], word: str) -> bool:
    """Whether the first of the guesses, best first, is the word; a vocabulary may know it in lower case only."""
    return bool(guesses) and guesses[0][0].lower() == word.lower()


def quote_around_mask(text: str) -> str:
    """The text near its mask, cut between words, an ellipsis where it goes on.

    >>> quote_around_mask("a very [MASK] film")
    'a very [MASK] film'
    """
    left, mask, right = text.partition(MASK)
    if len(left) > LONGEST_SIDE:
        left = "… " + left[-LONGEST_SIDE:].partition(" ")[2]
    if len(right) > LONGEST_SIDE:
        right = right[:LONGEST_SIDE].rpartition(" ")[0] + " …"
    return left + mask + right


def plot_masked_loss(metrics: Mapping[str, Any], path: Path) -> None:
    """Draw training loss by step, smoothed over raw, with the validation losses and the restored epoch on top.

    `metrics` is what an adaptation's metrics.json holds. Validation starts at step 0, before training; steps in
    which only the fresh head learned are shaded.
    """
    figure, axes = new_figure("Masked-language-model loss by step")
    steps, losses = [entry["step"] for entry in metrics["steps"]], [entry["loss"] for entry in metrics["steps"]]
    if warmup := metrics.get("head_warmup_steps"):
        axes.axvspan(0, warmup, color=GREY, alpha=0.22, linewidth=0, label="head only")
    if len(losses) < FEWEST_TO_SMOOTH:
        axes.plot(steps, losses, color=BLUE, linewidth=2, label="training")
    else:
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1, label="training")
        axes.plot(steps, smooth(losses), color=BLUE, linewidth=2, label="smoothed")
    checked, values = zip(*list_validation_points(metrics), strict=True)
    # Dotted: nobody knows what lies between two validations.
    (line,) = axes.plot(checked, values, ":s", color=ORANGE, markersize=6, zorder=3, label="validation")
    line.set_clip_on(False)  # the first marker stands on the axis
    if restored := find_restored(metrics):
        counted = "epoch" if has_epochs(metrics["history"]) else "step"
        label = f"restored: {counted} {restored[counted]:,}"
        axes.axvline(restored["step"], color=INK, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1, label=label)
    low, high = axes.get_ylim()
    spread = max(0.0, SMALLEST_RANGE - (high - low)) / 2
    axes.set_ylim(low - spread, high + spread)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy per masked token (nats)")
    add_legend(axes)
    save_figure(figure, path)


def list_validation_points(metrics: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Step and validation loss: before training, where that was measured, and at each later evaluation."""
    before = metrics["validation"].get("before")
    start = [(0, before["loss"])] if before else []
    return start + [(entry["step"], entry["validation"]["loss"]) for entry in metrics["history"]]


def find_restored(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The evaluation whose weights were kept: the one of the lowest loss in `best_epoch`; None where none is named."""
    candidates = [entry for entry in metrics["history"] if entry["epoch"] == metrics.get("best_epoch")]
    return min(candidates, key=lambda entry: entry["validation"]["loss"], default=None)


def has_epochs(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the evaluations came after epochs; those of a stream, which has none, came after so many steps."""
    return [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))


def smooth(losses: Sequence[float]) -> list[float]:
    """The centred running mean over about a fifteenth of the losses, and straight lines through its two ends.

    Not padded with the first and last value, which would bend a curve that is steep there (Savitzky & Golay 1964).

    >>> [round(loss, 6) for loss in smooth([9.0, 8.0, 7.0, 6.0, 5.0, 4.0])]
    [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    """
    window = max(5, len(losses) // 15) | 1  # odd, so that it has a centre
    smoothed: list[float] = savgol_filter(np.asarray(losses), window, polyorder=1).tolist()
    return smoothed
