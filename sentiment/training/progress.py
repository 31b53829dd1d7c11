"""Progress of a training: a bar on a terminal, and a line now and then on other outputs."""

import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.training.history import build_history

LINE_SECONDS = 30


def describe_evaluation(state: TrainerState, metrics: dict[str, Any], metric: str) -> str:
    """One line on an evaluation: the mean training loss since the one before, the validation loss, and a metric."""
    moment = "before: "
    if state.global_step:
        loss = build_history(state.log_history)[-1]["train_loss"]
        moment = f"epoch {state.epoch:g}: " + ("" if loss is None else f"train loss {loss:.4f}, ")
    return f"{moment}validation loss {metrics['eval_loss']:.4f}, {metric} {metrics[f'eval_{metric}']:.4f}"


class BarProgressCallback(ProgressCallback):
    """The Trainer's progress bar, with one line per evaluation."""

    def __init__(self, metric: str = "accuracy") -> None:
        super().__init__()
        self._metric = metric

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Logs nothing: a line per evaluation says it."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Prints the line, in the main process."""
        super().on_evaluate(args, state, control, **kwargs)
        if state.is_world_process_zero:
            tqdm.write(describe_evaluation(state, metrics, self._metric), file=sys.stderr)

    def close(self) -> None:
        """Closes the bars, so that the next message starts on a line of its own."""
        bars: tuple[Any, ...] = (self.prediction_bar, self.training_bar)
        for bar in filter(None, bars):
            bar.close()


class LineProgressCallback(TrainerCallback):
    """One line per evaluation, and one every `LINE_SECONDS` between them."""

    def __init__(self, metric: str = "accuracy") -> None:
        self._metric = metric
        self._first: tuple[float, int] | None = None  # time and step from which the remaining time is estimated
        self._printed = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the clock."""
        self._printed = time.monotonic()
        self._first = (self._printed, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Prints the step and the estimated minutes left, if the last line is old."""
        now = time.monotonic()
        if not state.is_world_process_zero or now - self._printed < LINE_SECONDS or self._first is None:
            return
        self._printed = now
        begun, step = self._first
        minutes = (now - begun) / (state.global_step - step) * (state.max_steps - state.global_step) / 60
        where = f"step {state.global_step:,} of {state.max_steps:,}, epoch {state.epoch or 0:.2f}"
        print(f"{where}, about {minutes:.0f} minutes left", file=sys.stderr, flush=True)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Prints the line, in the main process."""
        if state.is_world_process_zero:
            print(describe_evaluation(state, metrics, self._metric), file=sys.stderr, flush=True)
            self._printed = time.monotonic()

    def close(self) -> None:
        """Leaves nothing open."""


def build_progress_callback(metric: str) -> BarProgressCallback | LineProgressCallback:
    """A bar if stderr is a terminal, else lines."""
    return BarProgressCallback(metric) if sys.stderr.isatty() else LineProgressCallback(metric)
