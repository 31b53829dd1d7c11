import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from sentiment.reporting.adaptation_report import draw_adaptation_loss, list_validation_points, smooth
from sentiment.reporting.rendering import save_figures


def fake_metrics(entries: int, **changes: Any) -> dict[str, Any]:
    generator = random.Random(0)
    metrics: dict[str, Any] = {
        "validation": {"before": {"loss": 10.8}, "after": {"loss": 4.2}},
        "steps": [{"step": 10 * n, "loss": 4 + 6 / n + generator.gauss(0, 0.1)} for n in range(1, entries + 1)],
        "history": [{"epoch": n, "step": 5 * n * entries, "validation": {"loss": 5.2 - 0.5 * n}} for n in (1, 2)],
        "best_epoch": 1,
        "head_warmup_steps": 20,
    }
    return metrics | changes


@pytest.mark.parametrize("entries", [1, 14, 15, 500])
def test_a_figure_of_any_length(entries: int, tmp_path: Path, svg_size: Callable[[Path], tuple[float, float]]) -> None:
    settings = dict(mpl.rcParams)
    save_figures(tmp_path, {"loss.svg": draw_adaptation_loss(fake_metrics(entries))})
    width, height = svg_size(tmp_path / "loss.svg")
    # Only this wide if the legend fits.
    assert width > 450
    assert height > 250
    assert dict(mpl.rcParams) == settings


def test_lines_and_shading() -> None:
    (axes,) = draw_adaptation_loss(fake_metrics(40)).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["training", "smoothed", "validation", "restored: epoch 1"]
    assert list(lines["validation"].get_xdata()) == [0, 200, 400]
    assert list(lines["validation"].get_ydata()) == pytest.approx([10.8, 4.7, 4.2])
    assert list(lines["restored: epoch 1"].get_xdata()) == [200, 200]
    (warmup,) = axes.patches
    assert warmup.get_label() == "head only"
    assert warmup.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(20)


def test_missing_parts_are_not_drawn() -> None:
    (axes,) = draw_adaptation_loss(fake_metrics(5, head_warmup_steps=0, best_epoch=None)).axes
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert not axes.patches


def test_the_restored_step_of_a_stream_is_marked() -> None:
    metrics = fake_metrics(40)
    for entry in metrics["history"]:
        entry["epoch"] = 1
    (axes,) = draw_adaptation_loss(metrics).axes
    (line,) = [line for line in axes.lines if line.get_label() == "restored: step 400"]
    assert list(line.get_xdata()) == [400, 400]


def test_the_y_axis_of_a_flat_curve_has_a_smallest_range() -> None:
    metrics = fake_metrics(2, validation={"after": {"loss": 2.0}})
    metrics["steps"] = [{"step": step, "loss": 2.0 + step / 1000} for step in (1, 2)]
    metrics["history"] = [{"epoch": 1, "step": 2, "validation": {"loss": 2.0}}]
    low, high = draw_adaptation_loss(metrics).axes[0].get_ylim()
    assert high - low == pytest.approx(0.5)


def test_validation_points_without_a_loss_from_before() -> None:
    metrics = fake_metrics(1, validation={"before": None, "after": {"loss": 4.2}})
    assert [step for step, _ in list_validation_points(metrics, "loss")] == [5, 10]


def test_smoothing_removes_noise_and_keeps_the_ends() -> None:
    generator = random.Random(0)
    straight = [10 - 0.02 * n for n in range(150)]
    noisy = [loss + generator.gauss(0, 0.2) for loss in straight]
    error = max(abs(a - b) for a, b in zip(smooth(noisy), straight, strict=True))
    assert error < 0.25 < max(abs(a - b) for a, b in zip(noisy, straight, strict=True))
    assert smooth(straight) == pytest.approx(straight)
