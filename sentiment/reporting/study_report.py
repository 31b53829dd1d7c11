"""The story of a study: report.md, report.html and the pictures, and the same in short for a terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from scipy.stats import t as student_t

from sentiment.evaluation.study_effects import CONFIDENCE, EFFECTS, classify_effect
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
from sentiment.reporting.terminal import render_table

PICTURES = ("accuracy.png", "effects.png", "cost.png")
# Options of fine-tuning that a reader of a study asks for; verdict.json has them all.
SHOWN_OPTIONS = (
    "model_name_or_path", "dataset_name", "split", "split_seed", "max_rows", "cleaning", "max_seq_length",
    "learning_rate", "head_lr", "batch_size",
    "num_train_epochs", "early_stopping_patience", "warmup_steps", "dropout", "token_dropout", "weight_decay",
)  # fmt: skip
LOOKS = {
    "e2e": (BLUE, "o", "-"),
    "e2e+decay": (GREEN, "^", "--"),
    "mlm": (PURPLE, "s", "-"),
    "mlm+decay": (ORANGE, "D", "--"),
    "placebo+decay": (GREY, "v", "--"),
}
STEP_ASIDE = 0.011  # by which arms stand apart at one budget, as a share of the whole axis
COLUMNS = 2
MOMENTS = {
    1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 20: "20 s", 60: "1 min", 120: "2 min", 300: "5 min", 600: "10 min",
    1200: "20 min", 3600: "1 h", 7200: "2 h", 18000: "5 h", 36000: "10 h", 86400: "1 day", 259200: "3 days",
}  # fmt: skip


def write_study_report(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Write report.md, report.html and the pictures into the folder of a study; `verdict` is its verdict.json."""
    plot_accuracy(verdict["accuracy"], folder / "accuracy.png")
    plot_cost(verdict["accuracy"], folder / "cost.png")
    if verdict["effects"]:
        plot_effects(verdict["effects"], folder / "effects.png")
    seeds, finetuning = len(verdict["seeds"]), verdict["options"]["finetuning"]
    story = {
        "verdict": verdict,
        "effects": group_effects(verdict),
        "seed_names": [f"seed {seed}" for seed in verdict["seeds"]],
        "quantile": float(student_t.ppf((1 + CONFIDENCE) / 2, seeds - 1)) if seeds > 1 else None,
        "by_kind": {one["kind"]: one for one in verdict["adaptations"]},
        "options": {name: finetuning[name] for name in SHOWN_OPTIONS if finetuning.get(name) is not None},
    }
    write_pages(folder, "study.j2", story)


def group_effects(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each effect with its name, its two arms, and what it was at each budget, with the verdict on that."""
    names = dict.fromkeys(effect["effect"] for effect in verdict["effects"])
    return [
        {
            "name": name,
            "arms": EFFECTS[name],
            "sentence": sentence,
            "budgets": [
                effect | {"verdict": classify_effect(effect)}
                for effect in verdict["effects"]
                if effect["effect"] == name
            ],
        }
        for name, sentence in zip(names, verdict["effects_in_words"], strict=True)
    ]


def render_study(verdict: Mapping[str, Any]) -> str:
    """The verdict and the effects in sentences, and the mean test accuracy of each arm at each budget."""
    rows = [["labels", *verdict["arms"]]]
    for budget in verdict["budgets"]:
        found = {cell["arm"]: cell["accuracy"] for cell in verdict["accuracy"] if cell["budget"] == budget}
        rows.append([f"{budget:,}", *(f"{found[arm]:.4f}" for arm in verdict["arms"])])
    return "\n".join([verdict["sentence"], *verdict["effects_in_words"], "", render_table(rows)])


def plot_accuracy(cells: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the mean test accuracy of each arm by label budget, with its 95% interval over seeds."""
    figure, axes = new_figure("Test accuracy by number of labels")
    arms, budgets = _list(cells, "arm"), sorted(_list(cells, "budget"))
    for position, arm in enumerate(arms):
        own = [cell for cell in cells if cell["arm"] == arm]
        colour, marker, line = LOOKS[arm]
        places = _step_aside(budgets, position - (len(arms) - 1) / 2)
        heights = [cell["accuracy"] for cell in own]
        axes.plot(places, heights, line, color=colour, marker=marker, markersize=6, linewidth=1.8, label=arm, zorder=3)
        for place, cell in zip(places, own, strict=True):
            if cell["ci95"]:
                axes.plot([place, place], cell["ci95"], color=colour, linewidth=2.2, alpha=0.4, solid_capstyle="round")
    _scale_budgets(axes, budgets)
    axes.set_ylabel("accuracy (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    _limit_to_means(axes, cells)
    lines = "lines: 95% interval over seeds; " if any(cell["ci95"] for cell in cells) else ""
    axes.set_xlabel(f"training rows ({lines}the scale does not start at 0)")
    add_legend(axes)
    save_figure(figure, path)


def plot_effects(effects: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the effect of each change by label budget with its 95% interval, and each seed as a faint dot.

    Filled markers are those whose interval leaves out 0.
    """
    names = _list(effects, "effect")
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(7.2, 0.5 + 2.35 * rows), layout="constrained")
    shared: Axes | None = None
    for position, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, position + 1, sharey=shared)
        shared = shared or axes
        first, second = EFFECTS[name]
        style_axes(axes, "", pad=8)
        title = f"{name[0].upper()}{name[1:]}"
        axes.set_title(f"{title}\n", loc="left", color=INK, fontsize=10.5, fontweight="bold", pad=2)
        axes.text(0, 1.03, f"{second} minus {first}", transform=axes.transAxes, fontsize=9, color=INK)
        axes.axhline(0, color=INK, linewidth=1)
        _draw_effect(axes, [effect for effect in effects if effect["effect"] == name], LOOKS[second])
        if position % columns == 0:
            axes.set_ylabel("points of accuracy")
        if position >= len(names) - columns:
            axes.set_xlabel("training rows")
    _limit_to_seeds(figure.axes[0], effects)
    save_figure(figure, path)


def _draw_effect(axes: Axes, effects: Sequence[Mapping[str, Any]], look: tuple[str, str, str]) -> None:
    colour, marker, _ = look
    budgets = [effect["budget"] for effect in effects]
    for effect in effects:
        place, (low, high) = effect["budget"], effect["ci95"]
        axes.plot([place, place], [100 * low, 100 * high], color=colour, linewidth=2.4, alpha=0.5)
        seeds = [100 * difference for difference in effect["per_seed"]]
        axes.plot([place] * len(seeds), seeds, "_", color=INK, alpha=0.7, markersize=15, zorder=2)
        face = "white" if classify_effect(effect) == "open" else colour
        axes.plot(
            [place], [100 * effect["difference"]], marker=marker, color=colour, markerfacecolor=face,
            markersize=7, markeredgewidth=1.6, zorder=3,
        )  # fmt: skip
    _scale_budgets(axes, budgets)
    axes.tick_params(labelsize=8.5)


def plot_cost(cells: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw mean test accuracy against the training time of a run, each arm as a line through its budgets.

    Time counts the adaptation in full; a thin line with hollow markers has it shared out among the study's runs.
    """
    figure, axes = new_figure("Test accuracy by training time of a run")
    for arm in _list(cells, "arm"):
        own = [cell for cell in cells if cell["arm"] == arm]
        colour, marker, line = LOOKS[arm]
        heights = [cell["accuracy"] for cell in own]
        full, shared = ([cell["seconds"][kind] for cell in own] for kind in ("full", "shared"))
        axes.plot(full, heights, line, color=colour, marker=marker, markersize=6, linewidth=1.8, label=arm, zorder=3)
        if full != shared:
            axes.plot(
                shared, heights, line, color=colour, marker=marker, markersize=6, markerfacecolor="white",
                linewidth=0.9, alpha=0.8, zorder=2,
            )  # fmt: skip
    _scale_seconds(axes)
    axes.set_ylabel("accuracy (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    label = "training time of a run"
    if any(cell["seconds"]["full"] != cell["seconds"]["shared"] for cell in cells):
        label += " (filled: adaptation in full; hollow: shared out among the runs)"
    axes.set_xlabel(label)
    add_legend(axes)
    save_figure(figure, path)


def _list(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _step_aside(budgets: Sequence[int], steps: float) -> list[float]:
    """The places of an arm on a logarithmic axis, so many steps beside its budgets."""
    span = math.log(max(budgets) / min(budgets)) or 1.0
    return [budget * math.exp(STEP_ASIDE * span * steps) for budget in budgets]


def _scale_budgets(axes: Axes, budgets: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    margin = (max(budgets) / min(budgets)) ** 0.08 if len(budgets) > 1 else 2
    axes.set_xlim(min(budgets) / margin, max(budgets) * margin)


def _scale_seconds(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    inside = {seconds: name for seconds, name in MOMENTS.items() if low <= seconds <= high}
    if len(inside) > 1:  # else matplotlib's own
        axes.set_xticks(list(inside), list(inside.values()))
        axes.xaxis.set_minor_locator(NullLocator())


def _limit_to_means(axes: Axes, cells: Sequence[Mapping[str, Any]]) -> None:
    """Keep the scale to what the means need and some room, since an interval over two seeds may fill all of 0 to 1."""
    means = [cell["accuracy"] for cell in cells]
    spread = max(0.05, max(means) - min(means))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(means) - spread / 2), min(high, max(means) + spread / 2))


def _limit_to_seeds(axes: Axes, effects: Sequence[Mapping[str, Any]]) -> None:
    """The same for effects, whose seeds are drawn one by one."""
    points = [0.0, *(100 * difference for effect in effects for difference in effect["per_seed"])]
    spread = max(2.0, max(points) - min(points))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(points) - spread / 2), min(high, max(points) + spread / 2))
