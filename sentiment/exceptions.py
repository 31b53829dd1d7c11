"""The errors that end a command with one line and an exit code of their own, and how others are quoted in them."""

import shutil
import signal
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Wrong input: one line that says what is wrong, where, and what to do.

    Commands print it, and those below, without a traceback, and exit with their code.
    """

    exit_code = 2


class DivergenceError(ArithmeticError):
    """A loss, gradient or weight that is not finite; `details` holds the step, learning rate and rows."""

    exit_code = 3

    def __init__(self, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.details = details


class SaveError(OSError):
    """A file of a run that cannot be written, and how much room is left where it should have been."""

    exit_code = 4

    def __init__(self, message: str, folder: Path) -> None:
        free = shutil.disk_usage(folder).free / 2**20
        super().__init__(f"{message} ({free:,.0f} MB are free): make room, then go on with --resume")


class TrainingInterrupted(BaseException):
    """A signal ended the training, after a checkpoint was written; no `except Exception` takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name} came: a checkpoint is written, go on with --resume")
        self.exit_code = 128 + number


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
