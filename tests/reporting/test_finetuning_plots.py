import struct
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.metrics import compute_metrics
from sentiment.reporting.finetuning_report import draw_confusion, draw_loss, draw_metrics
from sentiment.reporting.plots import add_legend, draw_before_after, new_figure
from sentiment.reporting.rendering import save_figures


def fake_history(epochs: int) -> list[dict[str, Any]]:
    validation = {**compute_metrics([1, 0, 1, 1], [1, 0, 0, 1], LABEL_NAMES), "loss": 0.4}
    return [{"epoch": epoch, "train_loss": 0.7 / epoch, "validation": validation} for epoch in range(1, epochs + 1)]


def size_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (20, 7), (3, None)])
def test_curves(epochs: int, best: int | None, tmp_path: Path) -> None:
    history = fake_history(epochs)
    save_figures(tmp_path, {"loss.png": draw_loss(history, best), "metrics.png": draw_metrics(history, best)})
    assert {path.name for path in tmp_path.iterdir()} == {"loss.png", "metrics.png"}
    assert min(size_of(tmp_path / "loss.png")) > 500


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


def test_every_share_can_be_read() -> None:
    """The contrast of WCAG's level AA, 4.5, whatever the blue of a cell."""

    def compute_luminance(color: Any) -> float:
        parts = np.array(mpl.colors.to_rgb(color))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for errors in range(101):
        (axes,) = draw_confusion({"test": [[100 - errors, errors], [0, 1]]}, LABEL_NAMES).axes
        for text, share in zip(axes.texts, (1 - errors / 100, errors / 100, 0, 1), strict=True):
            pair = (compute_luminance(text.get_color()), compute_luminance(axes.images[0].to_rgba(share)))
            assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5


def test_a_row_without_texts(tmp_path: Path) -> None:
    save_figures(tmp_path, {"confusion.png": draw_confusion({"after": [[0, 0], [0, 2]]}, LABEL_NAMES)})
    assert size_of(tmp_path / "confusion.png")


def test_before_after_with_perfect_and_useless_scores(tmp_path: Path) -> None:
    useless, perfect = compute_metrics([0, 0], [1, 1], LABEL_NAMES), compute_metrics([1] * 7, [1] * 7, LABEL_NAMES)
    figure = draw_before_after({"after training": {"before": useless, "after": perfect}})
    save_figures(tmp_path, {"before_after.png": figure})
    assert size_of(tmp_path / "before_after.png")


def test_drawing_does_not_change_global_settings(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    figures = {
        "loss.png": draw_loss(fake_history(2), 1),
        "confusion.png": draw_confusion({"after": [[1, 0], [0, 2]]}, LABEL_NAMES),
    }
    save_figures(tmp_path, figures)
    assert dict(mpl.rcParams) == settings
