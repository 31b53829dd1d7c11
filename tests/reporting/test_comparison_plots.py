from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from sentiment.reporting import plots
from sentiment.reporting.comparison_report import draw_histories, draw_test_metrics
from sentiment.reporting.rendering import save_figures
from sentiment.reporting.summaries import BINARY_SCORES


def fake_metrics(epochs: int, best: int | None, accuracy: float = 0.9) -> dict[str, Any]:
    history = [
        {"epoch": epoch, "validation": {"loss": 0.5 / epoch, "accuracy": accuracy}} for epoch in range(1, epochs + 1)
    ]
    return {"history": history, "best_epoch": best}


def test_histories_of_different_lengths_with_their_restored_epochs() -> None:
    figure = draw_histories({"e2e": fake_metrics(6, 4), "finetune": fake_metrics(1, 1, 0.8)})
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines["e2e"].get_xdata()) == [1, 2, 3, 4, 5, 6]
        assert list(lines["finetune"].get_xdata()) == [1]
        rings = {line.get_color(): list(line.get_xdata()) for line in axes.lines if line.get_markersize() > 10}
        assert rings[plots.BLUE] == [4]
        assert rings[plots.ORANGE] == [1]
        assert all(tick == int(tick) for tick in axes.get_xticks())
    accuracy = figure.axes[1]
    assert accuracy.get_ylim()[0] < 0.8 < 0.9 < accuracy.get_ylim()[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["e2e", "finetune", "restored epoch"]


def test_the_y_axis_of_a_flat_history_has_a_smallest_range() -> None:
    low, high = draw_histories({"a": fake_metrics(3, None), "b": fake_metrics(3, None)}).axes[1].get_ylim()
    assert high - low >= 0.1


def test_test_metrics_show_scores_and_intervals() -> None:
    score = {"a": 0.9, "b": 1.0, "a_ci95": [0.85, 0.94], "b_ci95": [1.0, 1.0]}
    (axes,) = draw_test_metrics(["e2e", "finetune"], dict.fromkeys(BINARY_SCORES, score)).axes
    assert [text.get_text() for text in axes.texts] == ["90.0"] * 5 + ["100.0"] * 5
    intervals = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert intervals == [[0.85, 0.94]] * 5
    assert list(axes.lines[0].get_ydata()) == [0.9] * 5
    assert axes.get_ylim()[0] > 0.5  # zoomed in on the differences


@pytest.mark.parametrize(("before", "after"), [(0.45, 0.91), (0.91, 0.45), (0.0, 1.0), (0.5, 0.5)])
def test_before_after_labels_are_outside_of_the_points(before: float, after: float) -> None:
    test = {
        moment: dict.fromkeys(BINARY_SCORES, score) | {"accuracy_ci95": [score - 0.01, score + 0.01]}
        for moment, score in (("before", before), ("after", after))
    }
    (axes,) = plots.draw_before_after({"a": test, "b": test}).axes
    first, second = axes.texts[:2]
    assert [first.get_text(), second.get_text()] == [f"{100 * before:.1f}", f"{100 * after:.1f}"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "before training"]
    assert (first.get_ha(), second.get_ha()) == (("right", "left") if after >= before else ("left", "right"))


def test_figures_are_written_without_changing_global_settings(
    tmp_path: Path, svg_size: Callable[[Path], tuple[float, float]]
) -> None:
    settings = dict(mpl.rcParams)
    save_figures(tmp_path, {"history.svg": draw_histories({"a": fake_metrics(2, 1), "b": fake_metrics(3, 2)})})
    assert min(svg_size(tmp_path / "history.svg")) > 200
    assert dict(mpl.rcParams) == settings


def test_before_after_of_one_run_with_intervals_of_accuracy() -> None:
    test = {
        moment: dict.fromkeys(BINARY_SCORES, score) | {"accuracy_ci95": [score - 0.1, score + 0.05]}
        for moment, score in (("before", 0.4), ("after", 0.9))
    }
    (axes,) = plots.draw_before_after({"after training": test}).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["after training", "before training"]
    intervals = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 7]
    assert [list(ends) for ends in intervals if ends[0] != ends[1]] == [
        pytest.approx([0.3, 0.45]),
        pytest.approx([0.8, 0.95]),
    ]
