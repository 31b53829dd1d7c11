import struct
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from sentiment.evaluation.metrics import compute_metrics
from sentiment.reporting import finetuning_report as plots


def fake_history(epochs: int) -> list[dict[str, Any]]:
    validation = {**compute_metrics([1, 0, 1, 1], [1, 0, 0, 1]), "loss": 0.4}
    return [{"epoch": epoch, "train_loss": 0.7 / epoch, "validation": validation} for epoch in range(1, epochs + 1)]


def size_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (20, 7), (3, None)])
def test_curves(epochs: int, best: int | None, tmp_path: Path) -> None:
    plots.plot_loss(fake_history(epochs), best, tmp_path / "loss.png")
    plots.plot_metrics(fake_history(epochs), best, tmp_path / "metrics.png")
    assert {path.name for path in tmp_path.iterdir()} == {"loss.png", "metrics.png"}
    assert min(size_of(tmp_path / "loss.png")) > 500


def test_curves_mark_the_restored_epoch_and_skip_what_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, _: seen.append(figure))
    history = fake_history(4)
    history[0]["train_loss"] = None
    plots.plot_loss(history, 3, tmp_path / "loss.png")
    (axes,) = seen[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["training"].get_xdata()) == [2, 3, 4]
    assert list(lines["validation"].get_xdata()) == [1, 2, 3, 4]
    assert list(lines["restored: epoch 3"].get_xdata()) == [3, 3]
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_confusion_shows_counts_and_row_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, _: seen.append(figure))
    plots.plot_confusion({"before": [[0, 4], [0, 6]], "after": [[3, 1], [1, 1499]]}, tmp_path / "confusion.png")
    before, after = seen[0].axes
    # Rows are true labels from top to bottom: (column, row) of each text.
    texts = {text.get_position(): text.get_text() for text in after.texts}
    assert texts[1, 0] == "1\n25.0%"
    assert texts[1, 1] == "1,499\n99.9%"
    assert {text.get_text() for text in before.texts} == {"0\n0.0%", "4\n100.0%", "6\n100.0%"}


def test_a_row_without_texts(tmp_path: Path) -> None:
    plots.plot_confusion({"after": [[0, 0], [0, 2]]}, tmp_path / "confusion.png")
    assert size_of(tmp_path / "confusion.png")


def test_before_after_with_perfect_and_useless_scores(tmp_path: Path) -> None:
    useless, perfect = compute_metrics([0, 0], [1, 1]), compute_metrics([1] * 7, [1] * 7)
    plots.plot_before_after(useless, perfect, tmp_path / "before_after.png")
    assert size_of(tmp_path / "before_after.png")


def test_global_settings_stay(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    plots.plot_loss(fake_history(2), 1, tmp_path / "loss.png")
    assert dict(mpl.rcParams) == settings
