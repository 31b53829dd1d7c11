from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from sentiment.reporting import comparison_report as comparison_plots


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, drawn and not written."""
    figures: list[Figure] = []
    monkeypatch.setattr(comparison_plots, "save_figure", lambda figure, _: figures.append(figure))
    return figures


def fake_metrics(epochs: int, best: int | None, accuracy: float = 0.9) -> dict[str, Any]:
    history = [
        {"epoch": epoch, "validation": {"loss": 0.5 / epoch, "accuracy": accuracy}} for epoch in range(1, epochs + 1)
    ]
    return {"history": history, "best_epoch": best}


def test_histories_of_different_lengths_with_their_restored_epochs(seen: list[Figure]) -> None:
    runs = {"e2e": fake_metrics(6, 4), "finetune": fake_metrics(1, 1, 0.8)}
    comparison_plots.plot_histories(runs, Path("history.png"))
    for axes in seen[0].axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines["e2e"].get_xdata()) == [1, 2, 3, 4, 5, 6]
        assert list(lines["finetune"].get_xdata()) == [1]
        rings = {line.get_color(): list(line.get_xdata()) for line in axes.lines if line.get_markersize() > 10}
        assert rings[comparison_plots.BLUE] == [4]
        assert rings[comparison_plots.ORANGE] == [1]
        assert all(tick == int(tick) for tick in axes.get_xticks())
    accuracy = seen[0].axes[1]
    assert accuracy.get_ylim()[0] < 0.8 < 0.9 < accuracy.get_ylim()[1]
    assert [text.get_text() for text in seen[0].legends[0].get_texts()] == ["e2e", "finetune", "restored epoch"]


def test_a_flat_history_looks_flat(seen: list[Figure]) -> None:
    comparison_plots.plot_histories({"a": fake_metrics(3, None), "b": fake_metrics(3, None)}, Path("history.png"))
    low, high = seen[0].axes[1].get_ylim()
    assert high - low >= 0.1


def test_test_metrics_show_scores_and_intervals(seen: list[Figure]) -> None:
    score = {"a": 0.9, "b": 1.0, "a_ci95": [0.85, 0.94], "b_ci95": [1.0, 1.0]}
    metrics = dict.fromkeys(comparison_plots.METRIC_NAMES, score)
    comparison_plots.plot_test_metrics(["e2e", "finetune"], metrics, Path("test_metrics.png"))
    (axes,) = seen[0].axes
    assert [text.get_text() for text in axes.texts] == ["90.0"] * 4 + ["100.0"] * 4
    assert list(axes.lines[0].get_ydata()) == [0.85, 0.94]
    assert list(axes.lines[1].get_ydata()) == [0.9]
    assert axes.get_ylim()[0] > 0.5  # the scale looks at what differs


@pytest.mark.parametrize(("before", "after"), [(0.45, 0.91), (0.91, 0.45), (0.0, 1.0), (0.5, 0.5)])
def test_before_after_labels_stand_outside(before: float, after: float, seen: list[Figure]) -> None:
    test = {"before": dict.fromkeys(comparison_plots.METRIC_NAMES, before),
            "after": dict.fromkeys(comparison_plots.METRIC_NAMES, after)}  # fmt: skip
    comparison_plots.plot_before_after({"a": test, "b": test}, Path("before_after.png"))
    first, second = seen[0].axes[0].texts[:2]
    assert [first.get_text(), second.get_text()] == [f"{100 * before:.1f}", f"{100 * after:.1f}"]
    assert (first.get_ha(), second.get_ha()) == (("right", "left") if after >= before else ("left", "right"))


def test_pictures_are_written_and_global_settings_stay(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    comparison_plots.plot_histories({"a": fake_metrics(2, 1), "b": fake_metrics(3, 2)}, tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == settings
