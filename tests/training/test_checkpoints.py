import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sentiment.training.checkpoints import find_last_checkpoint

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Checkpoints of steps 5 and 10, whole."""
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"weight": torch.ones(100)}, folder / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({"state": torch.ones(100)}, folder / name)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    return tmp_path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_the_newest_by_step_and_not_by_name(checkpoints: Path) -> None:
    assert find_last_checkpoint(checkpoints) == checkpoints / "checkpoint-10"


@pytest.mark.parametrize("damage", [cut, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_one_is_passed_over_aloud(
    checkpoints: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(checkpoints / "checkpoint-10" / name)
    assert find_last_checkpoint(checkpoints) == checkpoints / "checkpoint-5"
    assert "checkpoint-10 is passed over" in caplog.text


def test_a_flipped_byte_in_the_optimizer_is_seen(checkpoints: Path) -> None:
    flip(checkpoints / "checkpoint-10" / "optimizer.pt")
    assert find_last_checkpoint(checkpoints) == checkpoints / "checkpoint-5"


def test_none_where_none_is_whole(checkpoints: Path) -> None:
    for step in (5, 10):
        cut(checkpoints / f"checkpoint-{step}" / "model.safetensors")
    assert find_last_checkpoint(checkpoints) is None
    assert find_last_checkpoint(checkpoints / "missing") is None
