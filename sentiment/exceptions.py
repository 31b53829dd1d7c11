"""Errors that end a command with one line and an exit code of their own."""

import difflib
import errno
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
FAILED_TORCH_WRITES = ("PytorchStreamWriter failed writing", "unexpected pos", "iostream error")


class InputError(ValueError):
    """Wrong input: one line that says what is wrong, where, and what to do.

    Commands print it, and those below, without a traceback, and exit with their code.
    `is_on_all_ranks`: every process of the run raises it, so that rank 0 alone prints it.
    """

    exit_code = 2
    is_on_all_ranks = False


class DivergenceError(ArithmeticError):
    """A loss, gradient or weight that is not finite; `details` holds the step, learning rate and rows."""

    exit_code = 3

    def __init__(self, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.details = details


class SaveError(OSError):
    """The disk is full: a file of a run cannot be written."""

    exit_code = 4

    def __init__(self, message: str, folder: Path) -> None:
        free = shutil.disk_usage(folder).free / 2**20
        super().__init__(f"{message} ({free:,.0f} MB free): free some space, then continue with --resume")


class TrainingInterrupted(BaseException):
    """A signal ended the training, after a checkpoint; a BaseException, so that no `except Exception` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name} received: a checkpoint is saved, continue with --resume")
        self.exit_code = 128 + number


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a file cannot be written for want of space.

    torch.save raises a RuntimeError of its own for a failed write; those of CUDA and NCCL are others.
    """
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return True
    failed_write = isinstance(error, RuntimeError) and any(mark in str(error) for mark in FAILED_TORCH_WRITES)
    no_space = type(error).__name__ == "SafetensorError" and "os error 28" in str(error)
    return failed_write or no_space or is_disk_full(error.__cause__ or error.__context__)


def first_line(error: Exception) -> str:
    """What an error of a library says, as far as it fits into a message of one line; its type where it says nothing.

    >>> first_line(ValueError("no such file\\nand much more"))
    'no such file'
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def require(condition: bool, message: str) -> None:
    """Raises InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def suggest_name(word: str, known: Iterable[str]) -> str:
    """The nearest known name for a misspelt one, for the end of a message; nothing if none is near.

    >>> suggest_name("batchsize", ["batch_size", "seed"]), suggest_name("x", ["seed"])
    (" (did you mean 'batch_size'?)", '')
    >>> suggest_name("epochs", ["num_train_epochs"])
    " (did you mean 'num_train_epochs'?)"
    """
    names = list(known)
    ending = f"_{word.removeprefix('--')}"
    found = difflib.get_close_matches(word, names, n=1) or [name for name in names if name.endswith(ending)]
    return f" (did you mean '{found[0]}'?)" if found else ""
