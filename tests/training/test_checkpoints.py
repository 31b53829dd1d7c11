"""Checkpoints that are whole: what is taken, what is passed over, and what is left of others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sentiment.exceptions import InputError
from sentiment.training.checkpoints import (
    MANIFEST,
    finalize_checkpoint,
    find_corruption,
    find_last_checkpoint,
    quarantine_checkpoints,
    rotate_checkpoints,
)

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def write_checkpoint(folder: Path, step: int, best: int | None = None, processes: int = 1) -> Path:
    staged = folder / "unfinished" / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    names = [*FILES[:3], *([FILES[3]] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)])]
    for name in names:
        (staged / name).write_bytes(f"{name} of step {step} ".encode() * 100)
    state = {"global_step": step, "best_global_step": best}
    (staged / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    finalize_checkpoint(staged, folder / f"checkpoint-{step}")
    return folder / f"checkpoint-{step}"


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Checkpoints of steps 5 and 10, whole."""
    for step in (5, 10):
        write_checkpoint(tmp_path, step, best=5)
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
def test_a_damaged_one_is_named_and_passed_over(checkpoints: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoints / "checkpoint-10" / name)
    found, passed_over = find_last_checkpoint(checkpoints)
    assert found == checkpoints / "checkpoint-5"
    (problem,) = passed_over.values()
    if name != MANIFEST or damage != flip:  # which may name a file or a sum
        assert name in problem


def test_one_with_a_file_too_many_is_passed_over(checkpoints: Path) -> None:
    (checkpoints / "checkpoint-10" / "pytorch_model.bin").write_bytes(b"planted")
    found, passed_over = find_last_checkpoint(checkpoints)
    assert found == checkpoints / "checkpoint-5"
    assert passed_over == {checkpoints / "checkpoint-10": "pytorch_model.bin is not in its manifest"}


def test_one_whose_best_is_damaged_is_passed_over(checkpoints: Path) -> None:
    """The run may end with the weights of the best step, and of the last one only the manifest is right."""
    write_checkpoint(checkpoints, 15, best=10)
    flip(checkpoints / "checkpoint-10" / "model.safetensors")
    found, passed_over = find_last_checkpoint(checkpoints)
    assert found == checkpoints / "checkpoint-5"
    assert "the best one so far is checkpoint-10, and model.safetensors is damaged" in next(iter(passed_over.values()))


def test_none_where_none_is_whole(checkpoints: Path) -> None:
    for step in (5, 10):
        cut(checkpoints / f"checkpoint-{step}" / "model.safetensors")
    found, passed_over = find_last_checkpoint(checkpoints)
    assert found is None
    assert len(passed_over) == 2
    assert find_last_checkpoint(checkpoints / "missing") == (None, {})


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 5, processes=2)
    assert find_last_checkpoint(tmp_path, processes=2)[0]
    with pytest.raises(InputError, match="is of 2 processes: --resume it with as many, and not with 1"):
        find_last_checkpoint(tmp_path)


def test_what_is_passed_over_is_kept_elsewhere(checkpoints: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut(checkpoints / "checkpoint-10" / "optimizer.pt")
    found, passed_over = find_last_checkpoint(checkpoints)
    quarantine_checkpoints(passed_over)
    assert "checkpoint-10 is passed over" in caplog.text
    assert "optimizer.pt is damaged" in caplog.text
    assert (checkpoints / "damaged" / "checkpoint-10" / "scheduler.pt").exists()
    assert find_last_checkpoint(checkpoints) == (found, {})


def test_the_newest_are_kept_with_the_best_of_each(tmp_path: Path) -> None:
    """Should the newest be damaged, the one before needs what was the best then."""
    for step, best in ((5, 5), (10, 10), (15, 10), (20, 20)):
        write_checkpoint(tmp_path, step, best)
    rotate_checkpoints(tmp_path, limit=2)
    assert sorted(int(path.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")) == [10, 15, 20]
    flip(tmp_path / "checkpoint-20" / "optimizer.pt")
    assert find_last_checkpoint(tmp_path)[0] == tmp_path / "checkpoint-15"


def test_a_checkpoint_takes_the_place_of_an_older_one_of_its_step(checkpoints: Path) -> None:
    cut(checkpoints / "checkpoint-10" / "model.safetensors")
    assert find_corruption(write_checkpoint(checkpoints, 10, best=5)) is None
