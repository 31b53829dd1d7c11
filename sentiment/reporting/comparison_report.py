"""The report of a comparison of two fine-tunings: report.md, report.html and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sentiment.reporting import plots
from sentiment.reporting.adaptation_report import draw_adaptation_loss
from sentiment.reporting.rendering import write_report_files
from sentiment.reporting.summaries import JsonObject

FIGURES = ("test_metrics.svg", "history.svg", "before_after.svg", "mlm_loss.svg", "mlm_loss_a.svg")
RING: dict[str, Any] = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.6}


def write_comparison_report(folder: Path, comparison: JsonObject, metrics: JsonObject, adaptations: JsonObject) -> None:
    """Write report.md, report.html and figures; `metrics` and `adaptations` hold the metrics.json of `a` and `b`."""
    runs = comparison["runs"]
    named = {runs[key]["name"]: metrics[key] for key in runs}
    tests = {name: content["test"] for name, content in named.items()}
    figures = {"test_metrics.svg": draw_test_metrics(list(named), comparison["metrics"])}
    if all(content["history"] for content in named.values()):
        figures["history.svg"] = draw_histories(named)
    if all(test.get("before") for test in tests.values()):
        figures["before_after.svg"] = plots.draw_before_after(tests)
    started_from = list_adaptations(runs, adaptations)
    curves = {adaptation["figure"]: adaptation["metrics"] for adaptation in started_from}
    figures |= {name: draw_adaptation_loss(found) for name, found in curves.items() if found}
    context = {"comparison": comparison, "metrics": metrics, "adaptations": started_from}
    write_report_files(folder, "comparison.j2", context, figures)


def list_adaptations(runs: JsonObject, adaptations: JsonObject) -> list[dict[str, Any]]:
    """Each adaptation that a run started from, with the `names` of its runs, its `metrics` and its `figure`."""
    first, second = (runs[key]["adaptation"] for key in "ab")
    names = [run["name"] for run in runs.values()]
    found = []
    if first and first != second:
        figure = "mlm_loss_a.svg" if second else "mlm_loss.svg"
        found.append(first | {"names": names[:1], "metrics": adaptations["a"], "figure": figure})
    if second:
        shared = names if first == second else names[1:]
        found.append(second | {"names": shared, "metrics": adaptations["b"], "figure": "mlm_loss.svg"})
    return found


def draw_histories(runs: Mapping[str, JsonObject]) -> Figure:
    """Validation loss and accuracy by epoch of both runs (metrics.json by name), with the restored epochs marked."""
    figure = plots.new_panels(["Validation loss", "Validation accuracy"], 7.2, 3.6, columns=2, pad=10)
    epochs = [entry["epoch"] for metrics in runs.values() for entry in metrics["history"]]
    for key, axes in zip(("loss", "accuracy"), figure.axes, strict=True):
        for (name, metrics), (colour, marker) in zip(runs.items(), plots.RUN_STYLES, strict=True):
            values = {entry["epoch"]: entry["validation"][key] for entry in metrics["history"]}
            line: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 2, "label": name}
            axes.plot(list(values), list(values.values()), **line)
            if (best := metrics["best_epoch"]) in values:
                axes.plot([best], [values[best]], color=colour, linestyle="none", **RING)
        plots.ensure_y_range(axes, 0.1)
        plots.use_epochs(axes, epochs)
    loss, accuracy = figure.axes
    loss.set_ylabel("cross-entropy per text (nats)")
    plots.use_percent(accuracy.yaxis)
    loss.plot([], [], color=plots.INK, linestyle="none", label="restored epoch", **RING)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper left", ncols=3, **plots.LEGEND_STYLE)
    return figure


def draw_test_metrics(names: Sequence[str], metrics: Mapping[str, JsonObject]) -> Figure:
    """The test scores of both runs as points with their 95% intervals."""
    figure, axes = plots.new_figure("Test metrics side by side")
    shown = plots.name_scores(metrics)
    for name, key, (colour, marker), shift in zip(names, "ab", plots.RUN_STYLES, (-0.13, 0.13), strict=True):
        places = [position + shift for position in range(len(shown))]
        scores = [metrics[metric][key] for metric in shown]
        lows, highs = zip(*(metrics[metric][f"{key}_ci95"] for metric in shown), strict=True)
        axes.vlines(places, lows, highs, color=colour, linewidth=2.4, capstyle="round", alpha=0.55)
        axes.plot(places, scores, color=colour, marker=marker, markersize=8, linestyle="none", label=name)
        for place, score in zip(places, scores, strict=True):
            plots.label_score(axes, score, (place, score), -1 if shift < 0 else 1)
    axes.set_xticks(range(len(shown)), list(shown.values()))
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    plots.use_percent(axes.yaxis)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.03), min(high, 1.03))
    axes.set_xlabel("lines: 95% interval of each score; the scale does not start at 0", fontsize=9)
    plots.add_legend(axes)
    return figure
