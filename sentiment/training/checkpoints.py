"""Which checkpoint of an interrupted run can be gone on from."""

import json
import logging
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


def find_last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; None where there is none.

    The Trainer does not write checkpoints at once, so that a run that is cut off may leave a part of one. It stops
    with a traceback over most damage, and goes on without a word where the optimizer's state is missing.
    """
    found = {
        int(match[1]): path for path in folder.glob("checkpoint-*") if (match := CHECKPOINT_NAME.fullmatch(path.name))
    }
    for step in sorted(found, reverse=True):
        problem = find_damage(found[step])
        if problem is None:
            return found[step]
        logger.warning("%s is passed over: %s", found[step], problem)
    return None


def find_damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None: weights, optimizer, schedule, random numbers and state."""
    if not list(checkpoint.glob("rng_state*.pth")):
        return "rng_state.pth is missing"
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        with safe_open(checkpoint / "model.safetensors", framework="pt") as weights:
            weights.keys()  # the header gives each tensor's place, and is held against the file's size
        for path in (checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")):
            with zipfile.ZipFile(path) as archive:  # the format of torch.save, with a checksum for each part
                if (part := archive.testzip()) is not None:
                    return f"{path.name} is damaged ({part})"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing" if error.filename else str(error)
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        return f"a file is damaged ({error})"
    return None
