"""The story of two fine-tunings compared, for a reader: report.md, report.html and the pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentiment.evaluation.adaptation_plots import plot_masked_loss
from sentiment.evaluation.comparison_plots import plot_before_after, plot_histories, plot_test_metrics
from sentiment.evaluation.rendering import write_pages
from sentiment.evaluation.terminal import compare_side_by_side

PICTURES = ("test_metrics.png", "history.png", "before_after.png", "mlm_loss.png", "mlm_loss_a.png")


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
