"""Processes that train together: what all of them know, and the signals that end them."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.environment import is_main_process
from sentiment.exceptions import InputError, TrainingInterrupted

Result = TypeVar("Result")
# A launcher forwards a signal that its processes have received already.
DUPLICATE_SECONDS = 1.0


def run_on_main(function: Callable[[], Result]) -> Result:
    """The result of a function that the main process calls, in all processes; an error is raised in all of them.

    Other nodes need no access to the main process's disk. The result must be picklable.
    """
    outcome: list[Any] = [None, None]
    if is_main_process():
        try:
            outcome = [function(), None]
        except InputError as failure:
            failure.is_on_all_ranks = True
            outcome = [None, failure]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        outcome = broadcast_object_list(outcome)
    result, error = outcome
    if error is not None:
        raise error
    return cast(Result, result)


def all_reduce_max(args: TrainingArguments, *numbers: int) -> list[int]:
    """The maximum of each number over all processes; without any synchronisation for a single one."""
    if args.world_size == 1:
        return list(numbers)
    highest = torch.tensor(numbers, dtype=torch.int64, device=args.device)
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
    found: list[int] = highest.tolist()
    return found


class SignalListener:
    """A context manager that records SIGINT and SIGTERM instead of ending the process; a second one ends it at once.

    `number` is that of the signal received, 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._received = 0.0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "SignalListener":
        """Installs the handlers; does nothing in another thread than the main one, which cannot."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._record) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Restores the handlers; raises TrainingInterrupted for a signal received after the last step."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.number and kind is None:
            raise TrainingInterrupted(self.number)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self._received = number, now
        elif number == self.number and now - self._received > DUPLICATE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


class PeriodicCheckpointCallback(TrainerCallback):
    """Saves a checkpoint every `save_minutes`, and after the step in which a signal came, which ends the training.

    At the end of an epoch that is followed by an evaluation and a checkpoint, that checkpoint serves.
    """

    def __init__(self, signals: SignalListener, save_minutes: float) -> None:
        self.signals = signals
        self.save_seconds = 60 * save_minutes
        self._saved = time.monotonic()
        self._stop = 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Requests a checkpoint if one is due, in all processes alike."""
        is_due = time.monotonic() - self._saved > self.save_seconds
        self._stop, save = all_reduce_max(args, self.signals.number, int(is_due or bool(self.signals.number)))
        is_epoch_end = state.epoch is not None and state.epoch == int(state.epoch)
        if save and not (is_epoch_end and args.save_strategy == "epoch"):
            control.should_save = control.should_log = True  # the mean loss of the log starts anew with each resume

    def on_save(self, *_: Any, **__: Any) -> None:
        """Raises TrainingInterrupted if a signal has come."""
        self._saved = time.monotonic()
        if self._stop:
            raise TrainingInterrupted(self._stop)
