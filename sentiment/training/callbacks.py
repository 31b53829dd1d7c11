"""Trainer callbacks: when to stop, how long epochs took, and what the terminal shows."""

import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import (
    EarlyStoppingCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState


class MetricOrLossEarlyStoppingCallback(EarlyStoppingCallback):
    """Stops after `early_stopping_patience` evaluations in a row in which neither accuracy nor loss got better.

    Accuracy of a small validation split stays level for epochs on end while the loss still falls, and the other
    way round; the lab report counted an epoch as better if either improved. Needs
    `metric_for_best_model="accuracy"`, which also decides the epoch that is restored.
    """

    def __init__(self, early_stopping_patience: int = 3, early_stopping_threshold: float = 0.0):
        super().__init__(early_stopping_patience, early_stopping_threshold)
        self.best_loss: float | None = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Counts the evaluation as better or not, and asks the Trainer to stop when patience is at its end."""
        self.check_metric_value(args, state, control, metrics["eval_accuracy"])
        loss = metrics["eval_loss"]
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss = loss
            self.early_stopping_patience_counter = 0
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback, so that a resumed run stops where an uninterrupted one would."""
        state = super().state()
        state["attributes"]["best_loss"] = self.best_loss
        return state


class EpochTimerCallback(TrainerCallback, ExportableState):
    """Sums the seconds spent in training epochs; an evaluation is not in them, wherever it comes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.epochs = 0
        self._started: float | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run counts all of its epochs."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return {"args": {}, "attributes": {"seconds": self.seconds + running, "epochs": self.epochs}}

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Stops the clock."""
        assert self._started is not None
        self.seconds += time.perf_counter() - self._started
        self._started = None
        self.epochs += 1

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Takes an evaluation within an epoch out of its time."""
        if self._started is not None:
            self._started += metrics["eval_runtime"]


class EpochProgressCallback(ProgressCallback):
    """The Trainer's progress bar, with one line an evaluation: training loss, validation loss and another metric."""

    def __init__(self, metric: str = "accuracy") -> None:
        super().__init__()
        self._metric = metric
        self._train_loss = float("nan")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **kwargs: Any,
    ) -> None:
        """Remembers the last training loss for the line."""
        self._train_loss = logs.get("loss", self._train_loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Prints the line, on the main process."""
        super().on_evaluate(args, state, control, **kwargs)
        if not state.is_world_process_zero:
            return
        moment = f"epoch {state.epoch:g}: train loss {self._train_loss:.4f}, " if state.global_step else "before: "
        figures = f"validation loss {metrics['eval_loss']:.4f}, {self._metric} {metrics[f'eval_{self._metric}']:.4f}"
        tqdm.write(moment + figures, file=sys.stderr)
