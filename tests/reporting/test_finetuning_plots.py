import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.metrics import compute_metrics
from sentiment.reporting.finetuning_report import draw_confusion, draw_loss, draw_metrics
from sentiment.reporting.plots import (
    DARK_COLOURS,
    FAINT,
    INK,
    PAPER,
    add_legend,
    draw_before_after,
    new_figure,
    render_svg,
)
from sentiment.reporting.rendering import save_figures

SvgSize = Callable[[Path], tuple[float, float]]


def fake_history(epochs: int) -> list[dict[str, Any]]:
    validation = {**compute_metrics([1, 0, 1, 1], [1, 0, 0, 1], LABEL_NAMES), "loss": 0.4}
    return [{"epoch": epoch, "train_loss": 0.7 / epoch, "validation": validation} for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (20, 7), (3, None)])
def test_curves(epochs: int, best: int | None, tmp_path: Path, svg_size: SvgSize) -> None:
    history = fake_history(epochs)
    save_figures(tmp_path, {"loss.svg": draw_loss(history, best), "metrics.svg": draw_metrics(history, best)})
    assert {path.name for path in tmp_path.iterdir()} == {"loss.svg", "metrics.svg"}
    assert min(svg_size(tmp_path / "loss.svg")) > 250


def test_curves_mark_the_restored_epoch_and_skip_missing_values() -> None:
    history = fake_history(4)
    history[0]["train_loss"] = None
    (axes,) = draw_loss(history, 3).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert np.isnan(lines["training"].get_ydata()).tolist() == [True, False, False, False]
    assert list(lines["validation"].get_xdata()) == [1, 2, 3, 4]
    assert list(lines["restored: epoch 3"].get_xdata()) == [3, 3]
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_confusion_shows_counts_and_row_shares() -> None:
    before, after = draw_confusion({"before": [[0, 4], [0, 6]], "after": [[3, 1], [1, 1499]]}, LABEL_NAMES).axes
    assert (before.get_title("left"), after.get_xlabel(), after.get_ylabel()) == (
        "before",
        "predicted label",
        "true label",
    )
    # Positions are (column, row), with true labels from top to bottom.
    texts = {text.get_position(): text.get_text() for text in after.texts}
    assert texts[1, 0] == "1\n25.0%"
    assert texts[1, 1] == "1,499\n99.9%"
    assert {text.get_text() for text in before.texts} == {"0\n0.0%", "4\n100.0%", "6\n100.0%"}


@pytest.mark.parametrize("labels", [["a"], ["training", "validation"], [f"an arm with a name {n}" for n in range(20)]])
def test_a_legend_has_room_between_title_and_axes(labels: list[str]) -> None:
    figure, axes = new_figure("Title")
    for label in labels:
        axes.plot([1, 2], [3, 4], label=label)
    add_legend(axes)
    figure.canvas.draw()
    (title,) = (text for text in (axes.title, *axes.get_children()) if getattr(text, "get_text", str)() == "Title")
    legend = axes.get_legend().get_window_extent()
    assert axes.get_window_extent().y1 <= legend.y0 + 8  # the frame that is not drawn
    assert legend.y1 <= title.get_window_extent().y0 + 4
    assert legend.x1 <= figure.bbox.width
    assert axes.get_window_extent().height > 200


def compute_contrast(first: Any, second: Any) -> float:
    """The contrast ratio of WCAG 2.2."""
    parts = np.array([mpl.colors.to_rgb(color) for color in (first, second)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((high + 0.05) / (low + 0.05))


def test_every_share_can_be_read() -> None:
    """The contrast of WCAG's level AA, 4.5, whatever the blue of a cell."""
    for errors in range(101):
        (axes,) = draw_confusion({"test": [[100 - errors, errors], [0, 1]]}, LABEL_NAMES).axes
        for text, share in zip(axes.texts, (1 - errors / 100, errors / 100, 0, 1), strict=True):
            assert compute_contrast(text.get_color(), axes.images[0].to_rgba(share)) >= 4.5


def test_a_row_without_texts(tmp_path: Path, svg_size: SvgSize) -> None:
    save_figures(tmp_path, {"confusion.svg": draw_confusion({"after": [[0, 0], [0, 2]]}, LABEL_NAMES)})
    assert svg_size(tmp_path / "confusion.svg")


def test_before_after_with_perfect_and_useless_scores(tmp_path: Path, svg_size: SvgSize) -> None:
    useless, perfect = compute_metrics([0, 0], [1, 1], LABEL_NAMES), compute_metrics([1] * 7, [1] * 7, LABEL_NAMES)
    figure = draw_before_after({"after training": {"before": useless, "after": perfect}})
    save_figures(tmp_path, {"before_after.svg": figure})
    assert svg_size(tmp_path / "before_after.svg")


def test_drawing_does_not_change_global_settings(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    figures = {
        "loss.svg": draw_loss(fake_history(2), 1),
        "confusion.svg": draw_confusion({"after": [[1, 0], [0, 2]]}, LABEL_NAMES),
    }
    save_figures(tmp_path, figures)
    assert dict(mpl.rcParams) == settings


def test_a_figure_has_colours_for_light_and_dark_pages_and_loads_nothing() -> None:
    svg = render_svg(draw_loss(fake_history(2), 1))
    assert svg == render_svg(draw_loss(fake_history(2), 1))
    style = re.search(r"<style>@media \(prefers-color-scheme: dark\) \{(.*?)\}</style>", svg, flags=re.DOTALL)
    assert style
    drawn = svg.replace(style.group(), "")
    assert {colour.upper() for colour in re.findall(r"#[0-9a-f]{6}", drawn)} <= {*DARK_COLOURS}
    for light, dark in DARK_COLOURS.items():
        assert f'[style*="fill: {light.lower()}"] {{ fill: {dark} !important }}' in style[1]
    assert ">Loss by epoch</text>" in drawn
    assert "fill: #1f2328" in drawn.lower()
    texts = re.findall(r"<text .*?>", drawn)
    assert texts
    assert all("fill: #1f2328" in text for text in texts)
    assert not re.search(r"""(href|src)="(?!#)|url\((?!#)|@import""", drawn)


@pytest.mark.parametrize("page", ["light", "dark"])
def test_lines_can_be_seen(page: str) -> None:
    """The contrast of WCAG's level AA for graphics, 3, on the background of the page; 4.5 of text."""
    colours = {light: dark if page == "dark" else light for light, dark in DARK_COLOURS.items()}
    paper = "#FFFFFF" if page == "light" else colours.pop(PAPER)
    for light, shown in colours.items():
        if light not in {FAINT, PAPER}:
            assert compute_contrast(shown, paper) > (4.5 if light == INK else 3), light
