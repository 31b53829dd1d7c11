"""Ctrl-C and SIGTERM: a checkpoint is written after the current step, and the training ends."""

import signal
import threading
import time
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.exceptions import TrainingInterrupted
from sentiment.training.distributed import all_reduce_max

# A launcher forwards a signal that its processes have received already.
DUPLICATE_SECONDS = 1.0


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
