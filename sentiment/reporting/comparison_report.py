"""The story of two fine-tunings compared, for a reader: report.md, report.html and the pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sentiment.reporting.adaptation_report import plot_masked_loss
from sentiment.reporting.figures import BLUE, GREY, INK, ORANGE, add_legend, new_figure, save_figure, style_axes
from sentiment.reporting.rendering import write_pages
from sentiment.reporting.terminal import compare_side_by_side

PICTURES = ("test_metrics.png", "history.png", "before_after.png", "mlm_loss.png", "mlm_loss_a.png")
LOOKS = ((BLUE, "o"), (ORANGE, "s"))
METRIC_NAMES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}
RING: dict[str, Any] = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.6}
SMALLEST_RANGE = {"loss": 0.1, "accuracy": 0.1}  # a flat curve must look flat


def write_comparison_report(
    folder: Path,
    comparison: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    adaptations: Mapping[str, Mapping[str, Any] | None],
) -> None:
    """Write report.md, report.html and the pictures into the folder of a comparison.

    Args:
        folder: where to.
        comparison: what verdict.json holds.
        metrics: of run `a` and run `b`, what its metrics.json holds.
        adaptations: of `a` and `b`, what metrics.json of the adaptation holds that it started from, or None.
    """
    names = {key: run["name"] for key, run in comparison["runs"].items()}
    named = {names[key]: metrics[key] for key in names}
    plot_test_metrics(list(names.values()), comparison["metrics"], folder / "test_metrics.png")
    figures = ["test_metrics.png"]
    if all(part["history"] for part in metrics.values()):
        plot_histories(named, folder / "history.png")
        figures.append("history.png")
    tests = {name: part["test"] for name, part in named.items()}
    if all(test.get("before") for test in tests.values()):
        plot_before_after(tests, folder / "before_after.png")
        figures.append("before_after.png")
    story = {
        "comparison": comparison,
        "a": comparison["runs"]["a"],
        "b": comparison["runs"]["b"],
        "tests": {key: part["test"] for key, part in metrics.items()},
        "label_names": list(metrics["a"]["test"]["after"]["per_class"]),
        "side_by_side": compare_side_by_side(comparison["metrics"]),
        "adaptations": _draw_adaptations(folder, comparison["runs"], adaptations),
        "figures": figures,
    }
    write_pages(folder, "comparison.j2", story)


def _draw_adaptations(
    folder: Path, runs: Mapping[str, Mapping[str, Any]], adaptations: Mapping[str, Mapping[str, Any] | None]
) -> list[dict[str, Any]]:
    """Each adaptation that a run started from, once, with the names of those runs and its picture or None."""
    shared = runs["a"]["adaptation"] == runs["b"]["adaptation"]
    found = []
    for key in ("b",) if shared else ("a", "b"):
        if not runs[key]["adaptation"]:
            continue
        picture = "mlm_loss_a.png" if key == "a" and runs["b"]["adaptation"] else "mlm_loss.png"
        if metrics := adaptations[key]:
            plot_masked_loss(metrics, folder / picture)
        names = [run["name"] for run in (runs.values() if shared else [runs[key]])]
        found.append({**runs[key]["adaptation"], "names": names, "picture": picture if metrics else None})
    return found


def plot_histories(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw validation loss and accuracy of both runs by epoch, side by side, with the restored epochs marked.

    `runs` maps A's and B's name to what their metrics.json hold.
    """
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    panels = {"loss": "Validation loss", "accuracy": "Validation accuracy"}
    for position, (key, title) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, 2, position)
        style_axes(axes, title, pad=10)
        for (name, metrics), (colour, marker) in zip(runs.items(), LOOKS, strict=True):
            _draw_history(axes, metrics, key, name, colour, marker)
        low, high = axes.get_ylim()
        spread = max(0.0, SMALLEST_RANGE[key] - (high - low)) / 2
        axes.set_ylim(low - spread, high + spread)
        epochs = [entry["epoch"] for metrics in runs.values() for entry in metrics["history"]]
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
    loss, accuracy = figure.axes
    loss.set_ylabel("cross-entropy per text (nats)")
    accuracy.set_ylabel("score (%)")
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    loss.plot([], [], color=INK, linestyle="none", label="restored epoch", **RING)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=9.5)
    save_figure(figure, path)


def _draw_history(axes: Axes, metrics: Mapping[str, Any], key: str, name: str, colour: str, marker: str) -> None:
    history = metrics["history"]
    values = {entry["epoch"]: entry["validation"][key] for entry in history}
    axes.plot(list(values), list(values.values()), color=colour, marker=marker, markersize=5, linewidth=2, label=name)
    if (best := metrics["best_epoch"]) in values:
        axes.plot([best], [values[best]], color=colour, linestyle="none", **RING)


def plot_test_metrics(names: Sequence[str], metrics: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy, precision, recall and F1 of both on the test rows as points with their 95% intervals.

    `metrics` holds `a`, `b`, `a_ci95` and `b_ci95` of each score.
    """
    figure, axes = new_figure("Test metrics side by side")
    for name, key, (colour, marker), shift in zip(names, "ab", LOOKS, (-0.13, 0.13), strict=True):
        for position, metric in enumerate(METRIC_NAMES):
            score, (low, high) = metrics[metric][key], metrics[metric][f"{key}_ci95"]
            place = position + shift
            axes.plot([place, place], [low, high], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.55)
            axes.plot([place], [score], color=colour, marker=marker, markersize=8, linestyle="none",
                      label=name if position == 0 else None)  # fmt: skip
            _label(axes, score, (place, score), -1 if shift < 0 else 1)
    axes.set_xticks(range(len(METRIC_NAMES)), list(METRIC_NAMES.values()))
    axes.set_xlim(-0.6, len(METRIC_NAMES) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("score (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.03), min(high, 1.03))
    axes.set_xlabel("lines: 95% interval of each score by itself; the scale does not start at 0", fontsize=9)
    add_legend(axes)
    save_figure(figure, path)


def plot_before_after(tests: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw the test scores of both runs before and after training, each as a step from one to the other.

    `tests` maps A's and B's name to the `before` and `after` of their test metrics.
    """
    figure, axes = new_figure("Test metrics before and after training")
    for (name, test), (colour, marker), shift in zip(tests.items(), LOOKS, (-0.17, 0.17), strict=True):
        for position, metric in enumerate(METRIC_NAMES):
            before, after, place = test["before"][metric], test["after"][metric], position + shift
            axes.plot([before, after], [place, place], color=colour, linewidth=2, alpha=0.45, zorder=1)
            axes.plot([before], [place], color=GREY, marker=marker, markersize=7, linestyle="none")
            axes.plot([after], [place], color=colour, marker=marker, markersize=8, linestyle="none",
                      label=name if position == 0 else None)  # fmt: skip
            outward = 1 if after >= before else -1
            for score, direction in ((before, -outward), (after, outward)):
                _label(axes, score, (score, place), direction)
    axes.plot([], [], color=GREY, marker="o", markersize=7, linestyle="none", label="before training")
    axes.set_yticks(range(len(METRIC_NAMES)), list(METRIC_NAMES.values()))
    axes.set_ylim(len(METRIC_NAMES) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-0.09, 1.09)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    axes.set_xlabel("score (%)")
    add_legend(axes)
    save_figure(figure, path)


def _label(axes: Axes, score: float, point: tuple[float, float], direction: int) -> None:
    """Write a score in per cent beside its point: to the right (1) or to the left (-1)."""
    axes.annotate(
        f"{100 * score:.1f}", point, (8 * direction, 0), textcoords="offset points", va="center",
        ha="left" if direction > 0 else "right", fontsize=9.5, color=INK,
    )  # fmt: skip
