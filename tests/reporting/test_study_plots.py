"""The lines and labels of a study's figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import same_color

from sentiment.reporting.plots import PAPER
from sentiment.reporting.rendering import save_figures
from sentiment.reporting.study_report import draw_cost, draw_effects, draw_scores

Build = Callable[..., dict[str, Any]]


def test_accuracy_by_budget(build_verdict: Build) -> None:
    cells = build_verdict()["scores"]
    (axes,) = draw_scores(cells).axes
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["e2e", "e2e+decay", "mlm", "mlm+decay", "placebo+decay"]
    for arm, line in lines.items():
        own = [cell for cell in cells if cell["arm"] == arm]
        assert list(line.get_ydata()) == [cell["score"] for cell in own]
        intervals = [list(one.get_ydata()) for one in axes.lines if one.get_color() == line.get_color()][1:]
        assert intervals == [cell["ci95"] for cell in own]
    looks = {(line.get_color(), line.get_marker()) for line in lines.values()}
    assert len(looks) == len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 5
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "1,000", "8,001"]


def test_arms_are_drawn_side_by_side_in_order(build_verdict: Build) -> None:
    (axes,) = draw_scores(build_verdict(arms=("e2e", "mlm", "mlm+decay"))["scores"]).axes
    first = [line.get_xdata()[0] for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert first == sorted(first)
    assert first[1] == pytest.approx(100)
    assert 80 < first[0] < 99 < 101 < first[2] < 120


def test_effects_with_their_seeds(build_verdict: Build) -> None:
    effects = build_verdict()["effects"]
    figure = draw_effects(effects)
    assert len(figure.axes) == 7
    axes = figure.axes[0]
    own = [effect for effect in effects if effect["effect"] == "both changes"]
    marks = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_ydata()[0] for line in marks] == [100 * effect["difference"] for effect in own]
    filled = [not same_color(line.get_markerfacecolor(), PAPER) for line in marks]
    assert filled == [effect["ci95"][0] > 0 or effect["ci95"][1] < 0 for effect in own]
    assert [len(line.get_ydata()) for line in axes.lines if line.get_marker() == "_"] == [3, 3, 3]
    assert len({other.get_ylim() for other in figure.axes}) == 1


def test_cost_with_the_whole_adaptation_and_amortized(build_verdict: Build) -> None:
    (axes,) = draw_cost(build_verdict(arms=("e2e", "mlm+decay"))["scores"]).axes
    e2e, total, amortized = axes.lines
    assert list(e2e.get_xdata()) == [23, 50, pytest.approx(260.03)]
    assert list(total.get_xdata()) == [1123, 1150, pytest.approx(1360.03)]
    assert list(amortized.get_xdata()) == [pytest.approx(seconds) for seconds in (133, 160, 370.03)]
    assert same_color(amortized.get_markerfacecolor(), PAPER)
    assert "hollow: amortized" in axes.get_xlabel()
    assert "5 min" in [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_the_smallest_studies_can_be_drawn(seeds: tuple[int, ...], build_verdict: Build, tmp_path: Path) -> None:
    verdict = build_verdict(arms=("e2e", "mlm"), budgets=(100,), seeds=seeds)
    cells = verdict["scores"]
    save_figures(
        tmp_path, {"a.svg": draw_scores(cells), "b.svg": draw_effects(verdict["effects"]), "c.svg": draw_cost(cells)}
    )
    assert len(list(tmp_path.iterdir())) == 3
