"""The report of a study: report.md, report.html and figures, and a summary for the terminal."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy.stats import t as student_t

from sentiment.evaluation.intervals import CONFIDENCE
from sentiment.evaluation.study_effects import classify_effect, group_by, select_effects
from sentiment.reporting import plots
from sentiment.reporting.rendering import write_report_files
from sentiment.reporting.summaries import METRIC_NAMES, JsonObject
from sentiment.reporting.terminal import render_table
from sentiment.reporting.verdicts import choose_best_baseline, name_labels

FIGURES = ("accuracy.svg", "effects.svg", "cost.svg")
# Options of fine-tuning that the report shows; verdict.json has all of them.
SHOWN_OPTIONS = (
    "model_name_or_path", "dataset_name", "split", "split_seed", "max_rows", "cleaning", "max_seq_length",
    "learning_rate", "head_lr", "batch_size", "num_train_epochs", "early_stopping_patience", "warmup_steps", "dropout",
    "token_dropout", "weight_decay",
)  # fmt: skip
# Colour, marker and line of the ready-made arms.
ARM_STYLES = {
    "e2e": (plots.BLUE, "o", "-"),
    "e2e+decay": (plots.GREEN, "^", "--"),
    "mlm": (plots.PURPLE, "s", "-"),
    "mlm+decay": (plots.ORANGE, "D", "--"),
    "placebo+decay": (plots.GREY, "v", "--"),
}
OWN_COLOURS = (plots.ORANGE, plots.GREEN, plots.PURPLE, plots.BLUE, plots.GREY)  # of arms of a study's own
OWN_MARKERS = (("s", "-"), ("^", "--"), ("X", ":"), ("P", "-."))
ARM_OFFSET = 0.011  # horizontal distance of the arms at one budget, as a share of the axis
TIME_TICKS = {
    1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 20: "20 s", 60: "1 min", 120: "2 min", 300: "5 min", 600: "10 min",
    1200: "20 min", 3600: "1 h", 7200: "2 h", 18000: "5 h", 36000: "10 h", 86400: "1 day", 259200: "3 days",
}  # fmt: skip


def write_study_report(folder: Path, verdict: JsonObject) -> None:
    """Write report.md, report.html and the figures into a study's folder, from the content of verdict.json."""
    cells, effects = verdict["scores"], verdict["effects"]
    score = METRIC_NAMES[verdict["metric"]]
    worth = verdict["label_worth"]
    curve = (verdict["strategies"][0], worth["curve"]["fitted_errors"]) if worth else None
    figures = {"accuracy.svg": draw_scores(cells, score, curve), "cost.svg": draw_cost(cells, score)}
    if effects:
        figures["effects.svg"] = draw_effects(effects, score)
    seeds, finetuning = len(verdict["seeds"]), verdict["options"]["finetuning"]
    context = {
        "verdict": verdict,
        "effects": list(zip(group_by(effects, "effect").items(), verdict["effects_in_words"], strict=True)),
        "classify_effect": classify_effect,
        "score": score,
        "strategies": pair_strategies(verdict),
        "label_worth": list_label_worth(worth),
        "seed_names": [f"seed {seed}" for seed in verdict["seeds"]],
        "quantile": float(student_t.ppf((1 + CONFIDENCE) / 2, seeds - 1)) if seeds > 1 else None,
        "placebo": next((one for one in verdict["adaptations"] if one["kind"] == "placebo"), None),
        "options": {name: finetuning[name] for name in SHOWN_OPTIONS if finetuning.get(name) is not None},
    }
    write_report_files(folder, "study.j2", context, figures)


def pair_strategies(verdict: JsonObject) -> list[tuple[JsonObject, dict[str, JsonObject]]]:
    """The effect of strategy B at each budget, with the scores of the arms at it; empty without both strategies."""
    by_budget = group_by(verdict["scores"], "budget")
    effects = select_effects(verdict["effects"], verdict["strategies"])
    return [(effect, {cell["arm"]: cell for cell in by_budget[effect["budget"]]}) for effect in effects]


def list_label_worth(worth: JsonObject | None) -> dict[int, str]:
    """What adapting is worth in labels at each budget, with its interval, in words."""
    if worth is None:
        return {}
    found = {}
    for one in worth["budgets"]:
        labels, low, high = (name_labels(value, worth["largest"]) for value in (one["labels"], *one["ci95"]))
        found[one["budget"]] = f"{labels} ({low} to {high})"
    return found


def render_study(verdict: JsonObject) -> str:
    """The verdict, the effects in sentences, and a table of mean test scores by arm and budget."""
    rows = [["labels", *verdict["arms"]]]
    for budget, cells in sorted(group_by(verdict["scores"], "budget").items()):
        found = {
            cell["arm"]: f"{cell['score']:.4f}" + (f" ({cell['collapsed']} collapsed)" if cell["collapsed"] else "")
            for cell in cells
        }
        rows.append([f"{budget:,}", *(found[arm] for arm in verdict["arms"])])
    parts = [verdict["sentence"], *verdict["effects_in_words"], *verdict["recommendation"], "", render_table(rows)]
    return "\n".join(parts)


def choose_styles(arms: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and line of each arm; those of the ready-made arms are always the same."""
    used = {ARM_STYLES[arm][:2] for arm in arms if arm in ARM_STYLES}
    own = [
        (colour, marker, line)
        for (marker, line), colour in product(OWN_MARKERS, OWN_COLOURS)
        if (colour, marker) not in used
    ]
    others = [arm for arm in arms if arm not in ARM_STYLES]
    styles = {arm: own[number % len(own)] for number, arm in enumerate(others)}
    return {arm: ARM_STYLES.get(arm) or styles[arm] for arm in arms}


def draw_scores(
    cells: Sequence[JsonObject], score: str = "accuracy", curve: tuple[str, Sequence[float]] | None = None
) -> Figure:
    """Mean test score of each arm by label budget, with 95% intervals over seeds.

    Args:
        cells: the `scores` of verdict.json.
        score: name of the metric.
        curve: an arm and the errors of the power law that is fitted to it, at each budget.
    """
    figure, axes = plots.new_figure(f"Test {score} by number of labels")
    arms, budgets = group_by(cells, "arm"), sorted(group_by(cells, "budget"))
    styles = choose_styles([*arms])
    axis_width = math.log(max(budgets) / min(budgets)) or 1.0
    for position, (arm, own) in enumerate(arms.items()):
        offset = math.exp(ARM_OFFSET * axis_width * (position - (len(arms) - 1) / 2))
        places = [budget * offset for budget in budgets]
        _draw_arm(axes, own, places, styles[arm], label=arm)
        for place, cell in zip(places, own, strict=True):
            if cell["ci95"]:
                style: dict[str, Any] = {"linewidth": 2.2, "alpha": 0.4, "solid_capstyle": "round"}
                axes.plot([place, place], cell["ci95"], color=styles[arm][0], **style)
    if curve:
        axes.plot(
            budgets, [1 - error for error in curve[1]], "-", color=plots.INK, linewidth=0.8, zorder=1,
            label=f"power law fitted to {curve[0]}",
        )  # fmt: skip
    baselines = {budget: choose_best_baseline(own) for budget, own in group_by(cells, "budget").items()}
    known = {budget: found["score"] for budget, found in sorted(baselines.items()) if found}
    if known:
        axes.plot([*known], [*known.values()], "x:", color=plots.INK, linewidth=1.2, label="best baseline", zorder=2)
    use_budgets(axes, budgets)
    plots.use_percent(axes.yaxis, f"{score} (%)")
    # The interval of two seeds may cover all of 0 to 1.
    limit_y_range(axes, [*(cell["score"] for cell in cells), *known.values()], 0.05)
    lines = "lines: 95% interval over seeds; " if any(cell["ci95"] for cell in cells) else ""
    axes.set_xlabel(f"training rows ({lines}the scale does not start at 0)")
    plots.add_legend(axes)
    return figure


def draw_effects(effects: Sequence[JsonObject], score: str = "accuracy") -> Figure:
    """The effect of each change by label budget, filled if its 95% interval excludes 0, and each seed as a dash."""
    groups = group_by(effects, "effect")
    styles = choose_styles(list(dict.fromkeys(arm for effect in effects for arm in effect["arms"])))
    columns = min(2, len(groups))
    titles = [f"{name[0].upper()}{name[1:]}\n" for name in groups]
    height = 0.5 + 2.35 * math.ceil(len(groups) / columns)
    figure = plots.new_panels(titles, 7.2, height, columns, share_y=True, fontsize=10.5, pad=2)
    for position, (name, axes) in enumerate(zip(groups, figure.axes, strict=True)):
        first, second = groups[name][0]["arms"]
        axes.text(0, 1.03, f"{second} minus {first}", transform=axes.transAxes, fontsize=9, color=plots.INK)
        axes.axhline(0, color=plots.INK, linewidth=1)
        colour, marker, _ = styles[second]
        for effect in groups[name]:
            place, interval = effect["budget"], [100 * end for end in effect["ci95"]]
            axes.plot([place, place], interval, color=colour, linewidth=2.4, alpha=0.5)
            seeds = [100 * difference for difference in effect["per_seed"]]
            axes.plot([place] * len(seeds), seeds, "_", color=plots.INK, alpha=0.7, markersize=15, zorder=2)
            face = plots.PAPER if classify_effect(effect) == "inconclusive" else colour
            style: dict[str, Any] = {"marker": marker, "markersize": 7, "markerfacecolor": face, "markeredgewidth": 1.6}
            axes.plot([place], [100 * effect["difference"]], color=colour, zorder=3, **style)
        use_budgets(axes, [effect["budget"] for effect in groups[name]])
        axes.tick_params(labelsize=8.5)
        if position % columns == 0:
            axes.set_ylabel(f"points of {score}")
        if position >= len(groups) - columns:
            axes.set_xlabel("training rows")
    points = [100 * difference for effect in effects for difference in effect["per_seed"]]
    limit_y_range(figure.axes[0], [0.0, *points], 2.0)
    return figure


def draw_cost(cells: Sequence[JsonObject], score: str = "accuracy") -> Figure:
    """Mean test score by training time per run, with the whole adaptation (filled) or its share (hollow)."""
    figure, axes = plots.new_figure(f"Test {score} by training time per run")
    is_amortized = False
    arms = group_by(cells, "arm")
    styles = choose_styles([*arms])
    for arm, own in arms.items():
        total, amortized = ([cell["seconds"][kind] for cell in own] for kind in ("total", "amortized"))
        _draw_arm(axes, own, total, styles[arm], label=arm)
        if total != amortized:
            is_amortized = True
            hollow: dict[str, Any] = {"markerfacecolor": plots.PAPER, "linewidth": 0.9, "alpha": 0.8, "zorder": 2}
            _draw_arm(axes, own, amortized, styles[arm], **hollow)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = {seconds: name for seconds, name in TIME_TICKS.items() if low <= seconds <= high}
    if len(ticks) > 1:  # else keep matplotlib's
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.xaxis.set_minor_locator(NullLocator())
    plots.use_percent(axes.yaxis, f"{score} (%)")
    suffix = " (filled: with the whole adaptation; hollow: amortized over the runs)" if is_amortized else ""
    axes.set_xlabel(f"training time per run{suffix}")
    plots.add_legend(axes)
    return figure


def _draw_arm(
    axes: Axes,
    cells: Sequence[JsonObject],
    places: Sequence[float],
    arm_style: tuple[str, str, str],
    **style: Any,
) -> None:
    colour, marker, line = arm_style
    defaults: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6, "linewidth": 1.8, "zorder": 3}
    axes.plot(places, [cell["score"] for cell in cells], line, **(defaults | style))


def use_budgets(axes: Axes, budgets: Sequence[int]) -> None:
    """Scale the x axis to label budgets, logarithmically."""
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    margin = (max(budgets) / min(budgets)) ** 0.08 if len(budgets) > 1 else 2
    axes.set_xlim(min(budgets) / margin, max(budgets) * margin)


def limit_y_range(axes: Axes, values: Sequence[float], smallest: float) -> None:
    """Limit the y axis to the values and half their range around them; intervals may leave it."""
    margin = max(smallest, max(values) - min(values)) / 2
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(values) - margin), min(high, max(values) + margin))
