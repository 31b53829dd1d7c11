"""What the pictures of a study draw, by their lines and labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from sentiment.reporting import study_report as study_plots

Build = Callable[..., dict[str, Any]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, drawn and not written."""
    figures: list[Figure] = []
    monkeypatch.setattr(study_plots, "save_figure", lambda figure, _: figures.append(figure))
    return figures


def test_accuracy_by_budget(build_verdict: Build, seen: list[Figure]) -> None:
    cells = build_verdict()["accuracy"]
    study_plots.plot_accuracy(cells, Path("accuracy.png"))
    (axes,) = seen[0].axes
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["e2e", "e2e+decay", "mlm", "mlm+decay", "placebo+decay"]
    for arm, line in lines.items():
        own = [cell for cell in cells if cell["arm"] == arm]
        assert list(line.get_ydata()) == [cell["accuracy"] for cell in own]
        intervals = [list(one.get_ydata()) for one in axes.lines if one.get_color() == line.get_color()][1:]
        assert intervals == [cell["ci95"] for cell in own]
    looks = {(line.get_color(), line.get_marker()) for line in lines.values()}
    assert len(looks) == len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 5
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "1,000", "8,001"]


def test_arms_stand_beside_each_other_in_order(build_verdict: Build, seen: list[Figure]) -> None:
    study_plots.plot_accuracy(build_verdict(arms=("e2e", "mlm", "mlm+decay"))["accuracy"], Path("accuracy.png"))
    first = [line.get_xdata()[0] for line in seen[0].axes[0].lines if not str(line.get_label()).startswith("_")]
    assert first == sorted(first)
    assert first[1] == pytest.approx(100)
    assert 80 < first[0] < 99 < 101 < first[2] < 120


def test_effects_with_their_seeds(build_verdict: Build, seen: list[Figure]) -> None:
    effects = build_verdict()["effects"]
    study_plots.plot_effects(effects, Path("effects.png"))
    assert len(seen[0].axes) == 7
    axes = seen[0].axes[0]
    own = [effect for effect in effects if effect["effect"] == "both changes"]
    marks = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_ydata()[0] for line in marks] == [100 * effect["difference"] for effect in own]
    filled = [not same_color(line.get_markerfacecolor(), "white") for line in marks]
    assert filled == [effect["ci95"][0] > 0 or effect["ci95"][1] < 0 for effect in own]
    assert [len(line.get_ydata()) for line in axes.lines if line.get_marker() == "_"] == [3, 3, 3]
    assert len({other.get_ylim() for other in seen[0].axes}) == 1


def test_cost_with_adaptation_in_full_and_shared(build_verdict: Build, seen: list[Figure]) -> None:
    cells = build_verdict(arms=("e2e", "mlm+decay"))["accuracy"]
    study_plots.plot_cost(cells, Path("cost.png"))
    (axes,) = seen[0].axes
    e2e, full, shared = axes.lines
    assert list(e2e.get_xdata()) == [23, 50, pytest.approx(260.03)]
    assert list(full.get_xdata()) == [1123, 1150, pytest.approx(1360.03)]
    assert list(shared.get_xdata()) == [pytest.approx(seconds) for seconds in (133, 160, 370.03)]
    assert same_color(shared.get_markerfacecolor(), "white")
    assert "hollow: shared" in axes.get_xlabel()
    assert "5 min" in [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_the_smallest_studies_can_be_drawn(seeds: tuple[int, ...], build_verdict: Build, tmp_path: Path) -> None:
    verdict = build_verdict(arms=("e2e", "mlm"), budgets=(100,), seeds=seeds)
    study_plots.plot_accuracy(verdict["accuracy"], tmp_path / "accuracy.png")
    study_plots.plot_effects(verdict["effects"], tmp_path / "effects.png")
    study_plots.plot_cost(verdict["accuracy"], tmp_path / "cost.png")
    assert len(list(tmp_path.iterdir())) == 3
