"""A run's folder: when it may be written to, what is removed from it, and its JSON files."""

import re
from pathlib import Path
from typing import Any

import pytest

from sentiment.exceptions import InputError
from sentiment.runs.folder import (
    WRITTEN_FILES,
    WRITTEN_FOLDERS,
    check_same_data,
    is_finished,
    lock_run_dir,
    remove_previous_run,
)
from sentiment.storage import read_json, write_json

OPTIONS = {
    "model_name_or_path": "minilm",
    "learning_rate": 1e-4,
    "output_dir": "here",
    "preprocessing_num_workers": None,
    "overwrite": False,
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder with a finished run."""
    folder = tmp_path / "run"
    write_json(folder / "run.json", {"options": OPTIONS, "data": {"fingerprints": {"train": "a", "test": "b"}}})
    write_json(folder / "metrics.json", {"test": {}})
    return folder


def refused(run_dir: Path, options: dict[str, Any] = OPTIONS, **flags: bool) -> str:
    before = {path: path.stat().st_mtime_ns for path in run_dir.parent.rglob("*")}
    with pytest.raises(InputError) as refusal:
        is_finished(run_dir, options, **flags)
    assert {path: path.stat().st_mtime_ns for path in run_dir.parent.rglob("*")} == before
    assert "\n" not in str(refusal.value)
    assert str(run_dir) in str(refusal.value)
    return str(refusal.value)


def test_missing_and_empty_folders_are_free(tmp_path: Path) -> None:
    assert not is_finished(tmp_path / "missing", OPTIONS)
    assert not is_finished(tmp_path, OPTIONS)


@pytest.mark.parametrize("resume", [False, True])
def test_the_same_run_is_finished(run_dir: Path, resume: bool) -> None:
    assert is_finished(run_dir, OPTIONS, resume=resume)


def test_options_that_change_no_number_do_not_count(run_dir: Path) -> None:
    assert is_finished(
        run_dir, OPTIONS | {"preprocessing_num_workers": 4, "output_dir": "./here", "data_dir": "/x", "resume": True}
    )
    assert is_finished(run_dir, OPTIONS | {"keep_checkpoints": True})


def test_a_run_of_an_earlier_version_has_the_defaults_of_later_options(run_dir: Path) -> None:
    assert is_finished(run_dir, OPTIONS | {"truncation": "head"})
    assert "truncation head -> tail" in refused(run_dir, OPTIONS | {"truncation": "tail"})


def test_other_options_are_refused_by_name(run_dir: Path) -> None:
    message = refused(run_dir, OPTIONS | {"learning_rate": 2e-4, "model_name_or_path": "bert"})
    difference = "(learning_rate 0.0001 -> 0.0002, model_name_or_path minilm -> bert)"
    assert f"{difference}: pass another --output_dir, or --overwrite" in message
    message = refused(run_dir, OPTIONS | {"learning_rate": 2e-4, "mlm_probability": 0.15})
    assert "learning_rate 0.0001 -> 0.0002, mlm_probability None -> 0.15" in message
    assert "other options" in refused(run_dir, OPTIONS | {"learning_rate": 2e-4}, resume=True)


def test_an_unfinished_run_needs_a_word(run_dir: Path) -> None:
    (run_dir / "metrics.json").unlink()
    assert "unfinished run: pass --resume to continue, or --overwrite" in refused(run_dir)
    assert not is_finished(run_dir, OPTIONS, resume=True)


@pytest.mark.parametrize("damage", ["other options", "unfinished", "damaged"])
def test_overwrite_takes_any_run(run_dir: Path, damage: str) -> None:
    if damage == "other options":
        assert not is_finished(run_dir, OPTIONS | {"learning_rate": 1.0}, overwrite=True)
    elif damage == "unfinished":
        (run_dir / "metrics.json").unlink()
    else:
        (run_dir / "run.json").write_text("{")
    assert not is_finished(run_dir, OPTIONS, overwrite=True)


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    assert "is not empty and holds no run: pass another --output_dir" in refused(tmp_path / "run")
    assert "is not empty and holds no run" in refused(tmp_path / "run", resume=True)
    assert "is not empty and holds no run" in refused(tmp_path / "run", overwrite=True)


def test_an_empty_folder_of_checkpoints_is_free(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert not is_finished(tmp_path / "run", OPTIONS)
    (tmp_path / "run" / "checkpoints" / "checkpoint-5").mkdir()
    assert "holds no run" in refused(tmp_path / "run")


def test_a_file_on_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    for path in (tmp_path / "data.csv", tmp_path / "data.csv" / "run"):
        with pytest.raises(InputError, match=r"data\.csv is a file: pass another --output_dir"), lock_run_dir(path):
            pass


def test_a_held_folder_is_nobody_elses_until_the_end(tmp_path: Path) -> None:
    run_dir = tmp_path / "outputs" / "run"
    with lock_run_dir(run_dir):
        with pytest.raises(InputError, match="another run is writing to"), lock_run_dir(run_dir):
            pass
        assert not is_finished(run_dir, OPTIONS)
    assert not (tmp_path / "outputs").exists()  # nothing was written
    with lock_run_dir(run_dir):
        (run_dir / "run.json").touch()
    assert [path.name for path in run_dir.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"options": {}, "data": []}'])
def test_damaged_run_is_named(run_dir: Path, content: str) -> None:
    (run_dir / "run.json").write_text(content)
    assert "run.json is " in refused(run_dir)


def test_changed_data_is_named(run_dir: Path) -> None:
    check_same_data(run_dir, {"train": "a", "test": "b"})
    check_same_data(run_dir.parent / "new", {"train": "c", "test": "b"})
    with pytest.raises(InputError, match=r"on other data \(train changed since\)"):
        check_same_data(run_dir, {"train": "c", "test": "b"})


def test_clear_removes_what_a_run_wrote_and_nothing_else(run_dir: Path) -> None:
    for name in WRITTEN_FILES:
        (run_dir / name).touch()
    for name in WRITTEN_FOLDERS:
        (run_dir / name / "inside").mkdir(parents=True)
        (run_dir / name / "inside" / "file").touch()
    (run_dir / "notes.txt").write_text("mine")
    (run_dir / "my model").mkdir()
    remove_previous_run(run_dir)
    assert sorted(path.name for path in run_dir.iterdir()) == ["my model", "notes.txt"]
    remove_previous_run(run_dir)


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"text": "naïve", "numbers": [1, 2.5e-5, None, True], "nested": {"a": {}}}
    write_json(tmp_path / "new" / "folder" / "value.json", value)
    assert read_json(tmp_path / "new" / "folder" / "value.json") == value
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["value.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"good": 1, "bad": value})
    assert read_json(path) == 1


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)
    seen = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *files: (seen.append(read_json(path)), replace(*files)))
    write_json(path, 2)
    assert (seen, read_json(path)) == ([1], 2)


@pytest.mark.parametrize("path", ["file/a.json", "file/folder/a.json", "folder"])
def test_places_that_cannot_be_written_are_named(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=re.escape(f"cannot write {tmp_path / path}: ")):
        write_json(tmp_path / path, 1)


def test_missing_and_damaged_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"cannot read {tmp_path / 'a.json'}: No such file")):
        read_json(tmp_path / "a.json")
    for damaged in (b"{", b"\xff", b""):
        (tmp_path / "a.json").write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
            read_json(tmp_path / "a.json")
