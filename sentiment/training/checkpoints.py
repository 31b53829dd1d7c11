"""Checkpoints that are whole or not there: written aside, sealed with a manifest, renamed; and verified when read."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from sentiment.exceptions import InputError
from sentiment.storage import compute_sha256, flush_to_disk

MANIFEST = "manifest.json"
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
# Where a checkpoint is written before it is whole, and where damaged ones are put: beside the others.
STAGING_DIR = "unfinished"
CORRUPTED_DIR = "damaged"
# What a training cannot go on from without.
NEEDED = {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}
logger = logging.getLogger(__name__)


def finalize_checkpoint(staged: Path, final: Path) -> None:
    """Moves a checkpoint that was written aside to where it belongs, at once, with the manifest of its files.

    All of it is on the disk before it has its name: a machine that loses its power leaves the whole checkpoint or none.
    """
    write_manifest(staged)
    for path in (*sorted(staged.rglob("*")), staged):
        flush_to_disk(path)
    if final.exists():  # a damaged one, or one of a training that went on from an earlier step
        shutil.rmtree(final)
    staged.rename(final)
    flush_to_disk(final.parent)


def write_manifest(folder: Path) -> None:
    """Writes the size and SHA-256 of each file in the folder."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": compute_sha256(folder / name)}
        for name in sorted(list_files(folder) - {MANIFEST})
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


def list_files(folder: Path) -> set[str]:
    """The files in a folder, by their paths within it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def rotate_checkpoints(folder: Path, limit: int) -> None:
    """Removes all but the newest checkpoints, `limit` of them, and those that hold the best weights of these."""
    checkpoints = list_checkpoints(folder)
    kept = set(sorted(checkpoints)[-limit:])
    kept |= {read_state(checkpoints[step])["best_global_step"] for step in kept}
    for step in checkpoints.keys() - kept:
        shutil.rmtree(checkpoints[step])


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by their step."""
    return {
        int(match[1]): path for path in folder.glob("checkpoint-*") if (match := CHECKPOINT_NAME.fullmatch(path.name))
    }


def find_last_checkpoint(folder: Path, processes: int = 1) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that a training of so many processes can go on from, and why newer ones were passed over.

    It is None where there is none. A checkpoint is whole when its files are those of its manifest, and when that of the
    best step so far, whose weights the run may end with, is whole too.

    Raises:
        InputError: it is that of another number of processes, which have random numbers of their own.
    """
    found = list_checkpoints(folder)
    problems = {step: find_corruption(path) for step, path in found.items()}
    passed_over: dict[Path, str] = {}
    for step in sorted(found, reverse=True):
        problem = problems[step]
        if problem is None:
            best = read_state(found[step])["best_global_step"]
            best_problem = problems.get(best, "it is missing") if best else None
            if best_problem is None:
                check_processes(found[step], processes)
                return found[step], passed_over
            problem = f"the best one so far is checkpoint-{best}, and {best_problem}"
        passed_over[found[step]] = problem
    return None, passed_over


def find_corruption(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is damaged ({type(error).__name__})"
    there = list_files(checkpoint) - {MANIFEST}
    if missing := sorted((expected.keys() | NEEDED) - there):
        return f"{', '.join(missing)} is missing"
    if added := sorted(there - expected.keys()):
        return f"{', '.join(added)} is not in its manifest"
    for name, (size, digest) in expected.items():
        found = (checkpoint / name).stat().st_size
        if found != size:
            return f"{name} is damaged ({found} of {size} bytes)"
        if compute_sha256(checkpoint / name) != digest:
            return f"{name} is damaged (its SHA-256 is another)"
    return None


def quarantine_checkpoints(passed_over: dict[Path, str]) -> None:
    """Moves checkpoints to a folder beside the others, so that nothing takes them for the newest; says why."""
    for path, problem in passed_over.items():
        target = path.parent / CORRUPTED_DIR / path.name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        logger.warning("%s is passed over, and moved to %s: %s", path, target.parent, problem)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The Trainer's own record in a checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state


def check_processes(checkpoint: Path, processes: int) -> None:
    """Raises InputError where a checkpoint holds the random numbers of another number of processes."""
    found = len(list(checkpoint.glob("rng_state*.pth")))
    if found != processes:
        raise InputError(f"{checkpoint} is of {found} processes: --resume it with as many, and not with {processes}")
