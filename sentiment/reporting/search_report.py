"""The report of a search: report.md, report.html and figures, and sentences for the terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiment.data.labels import shorten
from sentiment.reporting import plots
from sentiment.reporting.formatting import format_points
from sentiment.reporting.rendering import write_report_files
from sentiment.reporting.summaries import METRIC_NAMES, JsonObject
from sentiment.reporting.terminal import render_table

FIGURES = ("history.svg", "parallel.svg", "importance.svg")
COLOURS = colormaps["cividis"]  # of scores, from low to high; readable without colour vision
RELIABLE_TRIALS = 20  # completed ones, below which importances say little
LONGEST_VALUE = 14  # characters of a choice in a figure


def describe_search(summary: JsonObject) -> list[str]:
    """What was found, that the best score is too high, and by how much, in sentences."""
    metric, best, default = METRIC_NAMES[summary["metric"]], summary["best"], summary["defaults"]
    counts, found = summary["counts"], f"{summary['difference']:+.1%}".rstrip("%")
    ended = sum(counts.values())
    sentences = [
        f"The best of {ended} trials, trial {best['index']}, has a validation {metric} of {best['score']:.4f}; the "
        f"defaults have {default['score']:.4f} ({found} points)."
    ]
    confirmed = summary["confirmation"]
    if confirmed is None:
        sentences.append(
            "The best score of many trials is too high, since it was selected: pass --confirm_seeds 11 12 13 to see "
            "what the best options and the defaults reach with other seeds."
        )
        return sentences
    seeds, count = ", ".join(map(str, confirmed["seeds"])), len(confirmed["seeds"])
    drop = confirmed["drop"]
    selected = f"the selected score was {format_points(drop)[0]} points too high" if drop > 0 else "it did not fall"
    sentences.append(
        f"Trained again with {count} other seed{'s' * (count > 1)} ({seeds}), the best options reach "
        f"{confirmed['best_mean']:.4f}: {selected}. The defaults reach "
        f"{confirmed['defaults_mean']:.4f} with the same seeds."
    )
    return [*sentences, describe_gain(confirmed)]


def describe_gain(confirmed: JsonObject) -> str:
    """Whether the best options are better than the defaults on other seeds, in a sentence."""
    interval = confirmed["ci95"]
    points, low, high = format_points(confirmed["difference"], *interval)
    found = f"best minus defaults is {points} points (95% interval {low} to {high})"
    if interval[0] > 0:
        return f"The best options are better than the defaults: {found}."
    if interval[1] < 0:
        return f"The best options are worse than the defaults: {found}. Keep the defaults."
    return f"The best options are not shown to be better than the defaults: {found}."


def render_search(summary: JsonObject) -> str:
    """The sentences, the best options beside the defaults, and the commands that train with them."""
    rows = [["option", "default", "best"]]
    for name, value in summary["best"]["options"].items():
        rows.append([name, format_value(summary["defaults"]["options"].get(name)), format_value(value)])
    counts = ", ".join(f"{count} {state}" for state, count in summary["counts"].items() if count)
    return "\n".join([*summary["sentences"], f"Trials: {counts}.", "", render_table(rows), "", *summary["commands"]])


def write_search_report(folder: Path, summary: JsonObject) -> None:
    """Write report.md, report.html and the figures into a search's folder, from the content of search.json."""
    score = METRIC_NAMES[summary["metric"]]
    figures = {
        "history.svg": draw_history(summary["trials"], summary["defaults"]["score"], score),
        "parallel.svg": draw_parallel(summary["trials"], summary["space"], summary["best"]["index"], score),
    }
    if summary["importances"]:
        figures["importance.svg"] = draw_importances(summary["importances"])
    context = {
        "search": summary,
        "score": score,
        "format_value": format_value,
        "format_space": format_space,
        "stopped": [trial for trial in summary["trials"] if trial["state"] != "complete"],
        "reliable_trials": RELIABLE_TRIALS,
    }
    write_report_files(folder, "search.j2", context, figures)


def format_value(value: Any) -> str:
    """The value of an option as a reader writes it; a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def format_space(described: JsonObject) -> str:
    """A range or choice in words."""
    if "choices" in described:
        return ", ".join(map(format_value, described["choices"]))
    scale = " (log)" if described.get("log") else ""
    step = f", step {format_value(described['step'])}" if described.get("step") else ""
    return f"{format_value(described['low'])} to {format_value(described['high'])}{scale}{step}"


def draw_history(trials: Sequence[JsonObject], default: float, score: str = "accuracy") -> Figure:
    """The score of each trial in order, the best until then, and that of the defaults; failed trials at the bottom."""
    figure, axes = plots.new_figure(f"Validation {score} by trial")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    pruned = [trial for trial in trials if trial["state"] == "pruned" and trial.get("score") is not None]
    failed = [trial["index"] for trial in trials if trial["state"] == "failed"]
    axes.axhline(default, color=plots.INK, linewidth=1.2, linestyle=(0, (4, 3)), label="defaults", zorder=1)
    places = [trial["index"] for trial in complete]
    best: list[float] = []
    for trial in complete:
        best.append(max([trial["score"], *best[-1:]]))
    end = max((trial["index"] for trial in trials), default=1)
    axes.step([*places, end], [*best, *best[-1:]], where="post", color=plots.BLUE, linewidth=1.8, label="best so far")
    marks: dict[str, Any] = {"linestyle": "none", "markersize": 7}
    axes.plot(places, [trial["score"] for trial in complete], "o", color=plots.BLUE, label="complete", **marks)
    if pruned:
        style: dict[str, Any] = {"marker": "v", "color": plots.GREY, "markerfacecolor": plots.PAPER, "label": "pruned"}
        axes.plot([trial["index"] for trial in pruned], [trial["score"] for trial in pruned], **style, **marks)
    plots.ensure_y_range(axes, 0.02)
    if failed:
        low, _ = axes.get_ylim()
        axes.plot(failed, [low] * len(failed), "x", color=plots.ORANGE, label="failed", clip_on=False, **marks)
        axes.set_ylim(bottom=low)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, end + 0.5)
    axes.set_xlabel("trial")
    plots.use_percent(axes.yaxis, f"{score} (%)")
    plots.add_legend(axes)
    return figure


def draw_parallel(
    trials: Sequence[JsonObject], space: Mapping[str, JsonObject], best: int, score: str = "accuracy"
) -> Figure:
    """A line for each completed trial through its value of each option and its score; the best one is thick."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    names = list(space)
    figure = plots.new_panels(["Options and scores of the completed trials"], max(7.2, 1.5 + 1.05 * len(names)), 4.6)
    axes = figure.axes[0]
    scores = [trial["score"] for trial in complete]
    low, high = min(scores), max(scores)
    for trial in sorted(complete, key=lambda trial: (trial["index"] == best, trial["score"])):
        share = (trial["score"] - low) / (high - low) if high > low else 0.5
        places = [*(locate(trial["options"][name], space[name]) for name in names), share]
        is_best = trial["index"] == best
        colour = plots.ORANGE if is_best else COLOURS(share)
        axes.plot(places, color=colour, linewidth=2.8 if is_best else 1.3, alpha=1 if is_best else 0.75,
                  label=f"trial {best}, the best" if is_best else None)  # fmt: skip
    for place, name in enumerate(names):
        for value, height in list_marks(space[name]):
            mark_value(axes, place, height, shorten(format_value(value), LONGEST_VALUE))
    for height, value in {0.0: low, 1.0: high}.items() if high > low else {0.5: low}.items():
        mark_value(axes, len(names), height, f"{value:.1%}")
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    for place in range(len(names) + 1):
        axes.axvline(place, color=plots.GREY, linewidth=1, zorder=1)
    axes.set_yticks([])
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(-0.1, len(names) + 0.65)
    labels = [name.replace("adaptation.", "adaptation\n") for name in names]
    axes.set_xticks(range(len(names) + 1), [*labels, score], rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(labelsize=8.5, length=0)
    plots.add_legend(axes)
    return figure


def locate(value: Any, described: JsonObject) -> float:
    """The height of a value on the axis of its option, from 0 to 1."""
    if "choices" in described:
        return described["choices"].index(value) / max(1, len(described["choices"]) - 1)
    ends = float(described["low"]), float(value), float(described["high"])
    low, place, high = map(math.log, ends) if described.get("log") else ends
    return (place - low) / (high - low)


def list_marks(described: JsonObject) -> list[tuple[Any, float]]:
    """The values that are written beside the axis of an option, and their heights."""
    values = described["choices"] if "choices" in described else [described["low"], described["high"]]
    return [(value, locate(value, described)) for value in values]


def mark_value(axes: Axes, place: float, height: float, text: str) -> None:
    """Write a value beside its axis, on a background that keeps it readable over lines."""
    box = {"facecolor": plots.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1}
    axes.annotate(
        text, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=8, color=plots.INK, bbox=box,
        zorder=4,
    )  # fmt: skip


def draw_importances(importances: Mapping[str, float]) -> Figure:
    """The share of each option in the variance of the scores."""
    titles, height = ["Importance of each option"], 1.4 + 0.34 * len(importances)
    figure = plots.new_panels(titles, width=7.2, height=height)
    axes = figure.axes[0]
    ordered = sorted(importances.items(), key=lambda item: item[1])
    places = range(len(ordered))
    axes.barh(places, [share for _, share in ordered], color=plots.BLUE, height=0.62)
    for place, (_, share) in enumerate(ordered):
        plots.label_score(axes, share, (share, place), 1)
    axes.set_yticks(places, [name for name, _ in ordered])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.09)
    plots.use_percent(axes.xaxis, "share of the variance of scores (%)")
    return figure
