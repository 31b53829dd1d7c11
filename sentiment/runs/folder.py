"""A run's folder: whether it may be written to, and the JSON files in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sentiment.exceptions import InputError
from sentiment.storage import list_folder, read_json

LOCK_FILE = ".lock"
DIVERGENCE_FILE = "divergence.json"
# What a run writes, and all that --overwrite removes.
WRITTEN_FILES = (
    DIVERGENCE_FILE,
    "run.json",
    "metrics.json",
    "text_keys.npy",
    "predictions.parquet",
    "report.md",
    "report.html",
    "loss.png",
    "metrics.png",
    "confusion.png",
    "before_after.png",
)
WRITTEN_FOLDERS = ("model", "model.part", "checkpoints")
# Options that change how a run is carried out and not what comes out of it.
NEUTRAL_OPTIONS = {"data_dir", "preprocessing_num_workers", "output_dir", "overwrite", "resume", "save_minutes"}


@contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Keeps other runs from the folder, which is made; one that nothing was written to is removed again.

    The lock is the system's own and ends with the process, however that ends. Of several processes of a run, the main
    one enters this.

    Raises:
        InputError: another process holds it, or it is a file.
    """
    parts = [run_dir, *run_dir.parents]
    for path in parts:
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file: pass another --output_dir")
    made = [path for path in parts if not path.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to {run_dir}: pass another --output_dir, or wait") from None
    try:
        yield
    finally:
        (run_dir / LOCK_FILE).unlink()  # whoever has opened it meanwhile sees that it has no name, and tries again
        lock.release()
        if made and not list_folder(run_dir):
            for path in made:
                path.rmdir()


def is_finished(run_dir: Path, options: dict[str, Any], overwrite: bool = False, resume: bool = False) -> bool:
    """Whether the folder already holds this very run, finished.

    Raises:
        InputError: it holds files but no run; or another run or an unfinished one, and neither `overwrite` nor
            `resume` says what to do with it.
    """
    if not (run_dir / "run.json").exists():
        # A Trainer that was built and never ran leaves an empty folder of checkpoints.
        others = [path for path in list_folder(run_dir) if path.name != LOCK_FILE]
        if any(path.name != "checkpoints" or any(path.iterdir()) for path in others):
            raise InputError(f"{run_dir} is not empty and holds no run: pass another --output_dir")
        return False
    if overwrite:
        return False
    found = read_run(run_dir)["options"]
    if unknown := sorted(options.keys() - found.keys() - NEUTRAL_OPTIONS):
        raise InputError(
            f"{run_dir} holds a run of another kind or version (it has no {', '.join(unknown)}): "
            "pass another --output_dir, or --overwrite"
        )
    changed = sorted(name for name in options.keys() - NEUTRAL_OPTIONS if found[name] != options[name])
    if changed:
        difference = ", ".join(f"{name} {found[name]} -> {options[name]}" for name in changed)
        raise InputError(
            f"{run_dir} holds a run with other options ({difference}): pass another --output_dir, or --overwrite"
        )
    if (run_dir / "metrics.json").exists():
        return True
    if not resume:
        raise InputError(f"{run_dir} holds an unfinished run: pass --resume to go on, or --overwrite to start again")
    return False


def check_same_data(run_dir: Path, fingerprints: dict[str, str]) -> None:
    """Refuses to take a run up again, or for finished, whose data has changed since; a new folder passes.

    Raises:
        InputError: names the splits that differ.
    """
    if not (run_dir / "run.json").exists():
        return
    found = read_run(run_dir)["data"]["fingerprints"]
    changed = ", ".join(name for name in fingerprints if found.get(name) != fingerprints[name])
    if changed:
        raise InputError(
            f"{run_dir} holds a run on other data ({changed} changed since): pass another --output_dir, or --overwrite"
        )


def read_run(run_dir: Path) -> dict[str, Any]:
    """The run's `run.json`.

    Raises:
        InputError: it is missing or damaged.
    """
    run = read_json(run_dir / "run.json")
    try:
        run["options"].keys()
        run["data"]["fingerprints"].keys()
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{run_dir / 'run.json'} is damaged: pass another --output_dir, or --overwrite") from None
    return run


def remove_previous_run(run_dir: Path) -> None:
    """Removes what an earlier run wrote to the folder, and nothing else."""
    for name in WRITTEN_FOLDERS:
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for name in WRITTEN_FILES:
        (run_dir / name).unlink(missing_ok=True)
