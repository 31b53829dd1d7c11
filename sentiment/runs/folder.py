"""A run's folder: its lock, and whether it may be written to."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sentiment.exceptions import InputError, require
from sentiment.storage import flush_to_disk, list_folder, read_json

LOCK_FILE = ".lock"
ADAPTATION_STRATEGY = "mlm"  # name of the strategy in run.json, whatever the objective of the adaptation
MAX_NAMED = 5  # options in a message
# What a run writes, and --overwrite removes.
WRITTEN_FILES = (
    "divergence.json",
    "run.json",
    "metrics.json",
    "text_keys.npy",
    "held_out_keys.npy",
    "predictions.parquet",
    "report.md",
    "report.html",
    "loss.svg",
    "metrics.svg",
    "confusion.svg",
    "before_after.svg",
    "calibration.svg",
    "coverage.svg",
    "curves.svg",
)
WRITTEN_FOLDERS = ("model", "model.part", "model.previous", "checkpoints", "tensorboard")
# Options of later versions, and the values that stand for earlier ones.
ADDED_OPTIONS: dict[str, Any] = {"truncation": "head", "class_weights": "none", "preset": "auto", "language": "auto"}
ADDED_OPTIONS["text_column_delimiter"] = " "
ADDED_OPTIONS |= {"target_accuracy": 0.95, "baselines": True}
ADDED_OPTIONS |= dict.fromkeys(("train_file", "validation_file", "test_file"))
# Options that change neither the rows nor the weights of a run.
NEUTRAL_OPTIONS = {
    *("data_dir", "output_dir", "overwrite", "preprocessing_num_workers", "resume", "resume_from_checkpoint"),
    *(
        "keep_checkpoints",
        "save_minutes",
        "save_total_limit",
        "save_on_each_node",
        "dataloader_num_workers",
        "dataloader_pin_memory",
    ),
    *("dataloader_prefetch_factor", "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node"),
    *("logging_first_step", "report_to", "run_name", "project", "skip_memory_metrics", "do_train", "do_eval"),
    *("do_predict", "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_revision"),
    *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "ddp_timeout", "local_rank"),
}


def check_is_folder(folder: Path) -> None:
    """Raise InputError if the path or one of its parents is a file."""
    for path in (folder, *folder.parents):
        require(path.is_dir() or not path.exists(), f"{path} is a file: pass another --output_dir")


def check_output_dir(folder: Path, content: str, written: Iterable[str], first_written: Iterable[str]) -> None:
    """Raise InputError if the folder holds anything but a study or comparison (`content`), which would be replaced.

    `written` are patterns of all names in such a folder; one of `first_written` is there even after an interruption.
    """
    check_is_folder(folder)
    names = [path.name.removesuffix(".part") for path in list_folder(folder)]
    others = [name for name in names if not any(fnmatch(name, pattern) for pattern in written)]
    found = ", ".join(others[:3])
    require(not others, f"{folder} holds {found}, not part of a {content}: pass another --output_dir")
    is_known = not names or any(name in names for name in first_written)
    require(is_known, f"{folder} is not empty and holds no {content}: pass another --output_dir")


@contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Create and lock the folder, until the process ends at the latest; remove it if nothing was written to it."""
    check_is_folder(run_dir)
    created = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # of file systems such as /proc
        raise InputError(f"cannot create {run_dir}: {error.strerror}: pass another --output_dir") from error
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to {run_dir}: pass another --output_dir, or wait") from None
    try:
        yield
    finally:
        (run_dir / LOCK_FILE).unlink()  # a process that has it open notices that it is gone, and tries again
        lock.release()
        if created and not list_folder(run_dir):
            for path in created:
                path.rmdir()


def is_finished(run_dir: Path, options: dict[str, Any], overwrite: bool = False, resume: bool = False) -> bool:
    """Whether the folder already holds this run, finished; raises InputError if it must not be written to."""
    if not (run_dir / "run.json").exists():
        # A Trainer that was built and never ran leaves an empty folder of checkpoints.
        others = [path for path in list_folder(run_dir) if path.name != LOCK_FILE]
        is_empty = not any(path.name != "checkpoints" or any(path.iterdir()) for path in others)
        require(is_empty, f"{run_dir} is not empty and holds no run: pass another --output_dir")
        return False
    if overwrite:
        return False
    run = read_run(run_dir)
    found = {name: value for name, value in ADDED_OPTIONS.items() if name in options} | run["options"]
    found |= {name: None for name in run.get("chosen_options", ()) if options.get(name) is None}
    names = sorted((options.keys() | found.keys()) - NEUTRAL_OPTIONS)
    changed = [
        f"{name} {found.get(name)} -> {options.get(name)}" for name in names if found.get(name) != options.get(name)
    ]
    difference = ", ".join(changed[:MAX_NAMED])
    difference += f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
    other_run = f"{run_dir} holds a run with other options ({difference}): pass another --output_dir, or --overwrite"
    require(not changed, other_run)
    finished = (run_dir / "metrics.json").exists()
    unfinished = f"{run_dir} holds an unfinished run: pass --resume to continue, or --overwrite to start again"
    require(finished or resume, unfinished)
    return finished


def check_same_data(run_dir: Path, fingerprints: dict[str, str]) -> None:
    """Raise InputError if the folder holds a run, finished or to be resumed, whose data has changed since."""
    if not (run_dir / "run.json").exists():
        return
    found = read_run(run_dir)["data"]["fingerprints"]
    changed = ", ".join(name for name in fingerprints if found.get(name) != fingerprints[name])
    require(
        not changed,
        f"{run_dir} holds a run on other data ({changed} changed since): pass another --output_dir, or --overwrite",
    )


def read_run(run_dir: Path) -> dict[str, Any]:
    """The run's `run.json`; raises InputError if it is missing or damaged."""
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


def remove_checkpoints(run_dir: Path) -> None:
    """Removes the checkpoints of a finished run, when its results are on the disk: the machine may lose power."""
    if not (run_dir / "checkpoints").exists():
        return
    written = [run_dir / name for name in WRITTEN_FILES] + [*(run_dir / "model").rglob("*"), run_dir / "model", run_dir]
    for path in written:
        if path.exists():
            flush_to_disk(path)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
