"""Trainer callbacks: early stopping, checkpoint manifests and epoch times."""

import sys
import time
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState

from sentiment.training.checkpoints import STATE_FILE, rotate_checkpoints, write_manifest


class MetricOrLossEarlyStoppingCallback(EarlyStoppingCallback):
    """Stops after `early_stopping_patience` evaluations in a row in which neither metric nor loss improved.

    The metric is `metric_for_best_model`, which also chooses the restored checkpoint. Accuracy on a small validation
    split stays level for epochs while the loss still falls, and the other way round; the lab report counted an epoch
    as better if either improved.
    """

    def __init__(self, early_stopping_patience: int = 3, early_stopping_threshold: float = 0.0):
        super().__init__(early_stopping_patience, early_stopping_threshold)
        self.best_loss: float | None = None

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Counts evaluations without an improvement, and stops the training when there are enough."""
        self.check_metric_value(args, state, control, metrics[f"eval_{args.metric_for_best_model}"])
        loss = metrics["eval_loss"]
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss = loss
            self.early_stopping_patience_counter = 0
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
            if state.is_world_process_zero and state.global_step < state.max_steps:
                count = self.early_stopping_patience
                print(f"stopped early: no improvement in {count} evaluations in a row", file=sys.stderr)

    def state(self) -> dict[str, Any]:
        """State for checkpoints, so that a resumed run stops where an uninterrupted one would."""
        state = super().state()
        state["attributes"]["best_loss"] = self.best_loss
        return state


class ManifestCallback(TrainerCallback):
    """Completes each checkpoint with a manifest, written last: a checkpoint without one was cut off.

    Then removes older checkpoints, but for `save_total_limit` of them and the best one of each (None: keeps all).
    """

    def __init__(self, save_total_limit: int | None = None) -> None:
        self.save_total_limit = save_total_limit

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Locates the best checkpoint by its step: the folder may have been moved since it was saved."""
        if state.best_global_step:
            best = Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(best)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Writes the manifest when every process has written its files."""
        distributed = PartialState()
        distributed.wait_for_everyone()
        if args.should_save:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            best, state.best_model_checkpoint = state.best_model_checkpoint, None  # an absolute path
            state.save_to_json(str(checkpoint / STATE_FILE))
            state.best_model_checkpoint = best
            write_manifest(checkpoint, args.world_size)
            if self.save_total_limit:
                rotate_checkpoints(checkpoint.parent, self.save_total_limit)
        distributed.wait_for_everyone()


class EpochTimerCallback(TrainerCallback, ExportableState):
    """Sums the seconds of training epochs, without evaluations."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started: float | None = None

    def state(self) -> dict[str, Any]:
        """State for checkpoints, so that a resumed run counts all of its seconds."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return {"args": {}, "attributes": {"seconds": self.seconds + running}}

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Stops the clock."""
        assert self._started is not None
        self.seconds += time.perf_counter() - self._started
        self._started = None

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Subtracts an evaluation within an epoch."""
        if self._started is not None:
            self._started += metrics["eval_runtime"]
