"""Ctrl-C and SIGTERM: the training saves where it is, and ends."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.exceptions import TrainingInterrupted

# A launcher passes a signal on that has come to its processes already.
SAME_SIGNAL_SECONDS = 1.0


class SignalListener:
    """Notes SIGINT and SIGTERM while it is entered, in place of ending the process; a second one ends it at once.

    `number` is that of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._came = 0.0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "SignalListener":
        """Takes the signals over; in another thread than the main one, which cannot, it notes none."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Gives the signals back; raises TrainingInterrupted for one that came when the training had ended."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self.number and kind is None:
            raise TrainingInterrupted(self.number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self._came = number, now
        elif number == self.number and now - self._came > SAME_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


class PeriodicCheckpointCallback(TrainerCallback):
    """Has a checkpoint written after the step in which a signal came, and ends the training then; and now and then.

    Where an epoch ends with a checkpoint, its last step waits for that one, which holds the evaluation too.
    """

    def __init__(self, signals: SignalListener, save_minutes: float) -> None:
        self.signals = signals
        self.save_seconds = 60 * save_minutes
        self._saved = time.monotonic()
        self._stop = 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Asks for a checkpoint where one is due, in all processes alike."""
        is_due = time.monotonic() - self._saved > self.save_seconds
        self._stop, save = all_reduce_max(args, self.signals.number, is_due or self.signals.number)
        is_epoch_end = state.epoch is not None and state.epoch == int(state.epoch)
        if save and not (is_epoch_end and args.save_strategy == "epoch"):
            control.should_save = control.should_log = True  # the mean loss of the log starts anew with each resume

    def on_save(self, *_: Any, **__: Any) -> None:
        """Raises TrainingInterrupted where a signal has come."""
        self._saved = time.monotonic()
        if self._stop:
            raise TrainingInterrupted(self._stop)


def all_reduce_max(args: TrainingArguments, *numbers: float) -> list[int]:
    """The highest that a process has of each number."""
    highest = torch.tensor(numbers, dtype=torch.int64, device=args.device)
    if args.world_size > 1:
        torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
    found: list[int] = highest.tolist()
    return found
