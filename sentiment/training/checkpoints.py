"""Checkpoints that are complete by their manifest, and intact by its SHA-256, or else are not resumed from."""

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME as STATE_FILE

from sentiment.exceptions import InputError
from sentiment.storage import compute_sha256, flush_to_disk, write_json

__all__ = ["STATE_FILE"]

MANIFEST = "manifest.json"
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
CORRUPTED_DIR = "corrupted"
# Files that a resume needs.
REQUIRED = {"model.safetensors", "optimizer.pt", "scheduler.pt", STATE_FILE}
logger = logging.getLogger(__name__)


def write_manifest(checkpoint: Path, world_size: int) -> None:
    """Writes size and SHA-256 of each file of a checkpoint, and the number of processes, when all of it is on the disk.

    A machine that loses power leaves a checkpoint with a manifest, and then complete, or one without.
    """
    names = sorted(list_files(checkpoint) - {MANIFEST})
    for path in (*(checkpoint / name for name in names), checkpoint):
        flush_to_disk(path)
    files = {
        name: {"size": (checkpoint / name).stat().st_size, "sha256": compute_sha256(checkpoint / name)}
        for name in names
    }
    write_json(checkpoint / MANIFEST, {"world_size": world_size, "files": files})
    for path in (checkpoint / MANIFEST, checkpoint, checkpoint.parent):
        flush_to_disk(path)


def list_files(folder: Path) -> set[str]:
    """The files in a folder, by their relative paths."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by their step."""
    return {
        int(match[1]): path for path in folder.glob("checkpoint-*") if (match := CHECKPOINT_NAME.fullmatch(path.name))
    }


def rotate_checkpoints(folder: Path, limit: int) -> None:
    """Removes all checkpoints but the `limit` newest ones and those with the best weights at their time."""
    checkpoints = list_checkpoints(folder)
    kept = set(sorted(checkpoints)[-limit:])
    kept |= {read_state(checkpoints[step])["best_global_step"] for step in kept}
    for step in checkpoints.keys() - kept:
        shutil.rmtree(checkpoints[step])


def remove_incomplete_checkpoints(folder: Path) -> None:
    """Removes checkpoints without a manifest: the process ended while they were written."""
    for checkpoint in list_checkpoints(folder).values():
        if not (checkpoint / MANIFEST).exists():
            shutil.rmtree(checkpoint, ignore_errors=True)


def find_last_checkpoint(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint to resume from, or None; and why newer ones cannot be used."""
    unusable: dict[Path, str] = {}
    for _, checkpoint in sorted(list_checkpoints(folder).items(), reverse=True):
        problem = find_problem(checkpoint)
        if problem is None:
            return checkpoint, unusable
        unusable[checkpoint] = problem
    return None, unusable


def find_problem(checkpoint: Path) -> str | None:
    """Why a run cannot be resumed from a checkpoint, or None.

    Its files must be those of its manifest, and so must those of the best checkpoint so far, whose weights the run may
    end with.
    """
    problem = find_corruption(checkpoint)
    step = None if problem else read_state(checkpoint)["best_global_step"]
    best = checkpoint.with_name(f"checkpoint-{step}")
    if not step or best == checkpoint:
        return problem
    problem = find_corruption(best) if best.is_dir() else "it is missing"
    return problem and f"the best one so far is {best.name}, and {problem}"


def find_corruption(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is corrupted ({type(error).__name__})"
    present = list_files(checkpoint) - {MANIFEST}
    if missing := sorted((expected.keys() | REQUIRED) - present):
        return f"{', '.join(missing)} is missing"
    if added := sorted(present - expected.keys()):
        return f"{', '.join(added)} is not in its manifest"
    for name, (size, digest) in expected.items():
        found = (checkpoint / name).stat().st_size
        if found != size:
            return f"{name} is corrupted ({found} of {size} bytes)"
        if compute_sha256(checkpoint / name) != digest:
            return f"{name} is corrupted (SHA-256 mismatch)"
    return None


def quarantine_checkpoints(unusable: dict[Path, str]) -> None:
    """Moves checkpoints to a folder beside the others, and logs why."""
    for path, problem in unusable.items():
        target = path.parent / CORRUPTED_DIR / path.name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        logger.warning("%s cannot be used and is moved to %s: %s", path, target.parent, problem)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The Trainer's state in a checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state


def is_training_complete(checkpoint: Path) -> bool:
    """Whether the training had ended, by its last step or by early stopping, when the checkpoint was saved."""
    state = read_state(checkpoint)
    control = state["stateful_callbacks"]["TrainerControl"]["args"]
    return bool(control["should_training_stop"]) or state["global_step"] >= state["max_steps"]


def check_world_size(checkpoint: Path, world_size: int) -> None:
    """Raises InputError if a checkpoint is of another number of processes, each of which has a random state."""
    found = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["world_size"]
    if found != world_size:
        raise InputError(f"{checkpoint} was saved by {found} processes: --resume it with {found}, not {world_size}")
    rank = os.environ.get("RANK", "0")
    name = f"rng_state_{rank}.pth" if world_size > 1 else "rng_state.pth"
    if not (checkpoint / name).is_file():
        raise InputError(
            f"{checkpoint} has no {name}: --resume needs the checkpoint of every node (--save_on_each_node)"
        )
