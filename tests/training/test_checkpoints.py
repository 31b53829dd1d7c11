"""Which checkpoints are resumed from, and what becomes of incomplete and corrupted ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sentiment.exceptions import InputError
from sentiment.training.checkpoints import (
    MANIFEST,
    check_world_size,
    find_corruption,
    find_last_checkpoint,
    quarantine_checkpoints,
    remove_incomplete_checkpoints,
    rotate_checkpoints,
    write_manifest,
)

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def save_checkpoint(folder: Path, step: int, best: int | None = None, world_size: int = 1) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    states = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    for name in (*FILES[:3], *states):
        (checkpoint / name).write_bytes(f"{name} of step {step} ".encode() * 100)
    state = {"global_step": step, "best_global_step": best}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    write_manifest(checkpoint, world_size)
    return checkpoint


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Checkpoints of steps 5 and 10."""
    for step in (5, 10):
        save_checkpoint(tmp_path, step, best=5)
    return tmp_path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_by_step_and_not_by_name(checkpoints: Path) -> None:
    assert find_last_checkpoint(checkpoints) == (checkpoints / "checkpoint-10", {})


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_damaged_one_is_named_and_unusable(checkpoints: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoints / "checkpoint-10" / name)
    found, unusable = find_last_checkpoint(checkpoints)
    assert found == checkpoints / "checkpoint-5"
    (problem,) = unusable.values()
    if name != MANIFEST or damage != flip:  # which may name a file or a sum
        assert name in problem


def test_one_with_a_file_too_many_is_unusable(checkpoints: Path) -> None:
    (checkpoints / "checkpoint-10" / "pytorch_model.bin").write_bytes(b"planted")
    found, unusable = find_last_checkpoint(checkpoints)
    assert found == checkpoints / "checkpoint-5"
    assert unusable == {checkpoints / "checkpoint-10": "pytorch_model.bin is not in its manifest"}


def test_one_whose_best_is_damaged_is_unusable(checkpoints: Path) -> None:
    """The run may end with the weights of the best step, and of the last one only the manifest is right."""
    save_checkpoint(checkpoints, 15, best=10)
    flip(checkpoints / "checkpoint-10" / "model.safetensors")
    found, unusable = find_last_checkpoint(checkpoints)
    assert found == checkpoints / "checkpoint-5"
    assert "the best one so far is checkpoint-10, and model.safetensors is corrupted" in next(iter(unusable.values()))


def test_none_if_none_is_intact(checkpoints: Path) -> None:
    for step in (5, 10):
        cut(checkpoints / f"checkpoint-{step}" / "model.safetensors")
    found, unusable = find_last_checkpoint(checkpoints)
    assert found is None
    assert len(unusable) == 2
    assert find_last_checkpoint(checkpoints / "missing") == (None, {})


def test_another_number_of_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save_checkpoint(tmp_path, 5, world_size=2)
    check_world_size(checkpoint, 2)
    with pytest.raises(InputError, match="was saved by 2 processes: --resume it with 2, not 1"):
        check_world_size(checkpoint, 1)
    monkeypatch.setenv("RANK", "1")
    (checkpoint / "rng_state_1.pth").unlink()  # it lies on another node
    with pytest.raises(InputError, match=r"has no rng_state_1.pth: .*--save_on_each_node"):
        check_world_size(checkpoint, 2)


def test_corrupted_ones_are_moved_away(checkpoints: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut(checkpoints / "checkpoint-10" / "optimizer.pt")
    found, unusable = find_last_checkpoint(checkpoints)
    quarantine_checkpoints(unusable)
    assert "checkpoint-10 cannot be used" in caplog.text
    assert "optimizer.pt is corrupted" in caplog.text
    assert (checkpoints / "corrupted" / "checkpoint-10" / "scheduler.pt").exists()
    assert find_last_checkpoint(checkpoints) == (found, {})


def test_the_newest_are_kept_with_the_best_of_each(tmp_path: Path) -> None:
    """Should the newest be corrupted, the one before needs what was the best then."""
    for step, best in ((5, 5), (10, 10), (15, 10), (20, 20)):
        save_checkpoint(tmp_path, step, best)
    rotate_checkpoints(tmp_path, limit=2)
    assert sorted(int(path.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")) == [10, 15, 20]
    flip(tmp_path / "checkpoint-20" / "optimizer.pt")
    assert find_last_checkpoint(tmp_path)[0] == tmp_path / "checkpoint-15"


def test_incomplete_ones_are_removed(checkpoints: Path) -> None:
    (checkpoints / "checkpoint-10" / MANIFEST).unlink()
    remove_incomplete_checkpoints(checkpoints)
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-5"]


def test_a_checkpoint_saved_again_is_intact(checkpoints: Path) -> None:
    cut(checkpoints / "checkpoint-10" / "model.safetensors")
    assert find_corruption(save_checkpoint(checkpoints, 10, best=5)) is None
