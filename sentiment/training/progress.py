"""Progress of a training: a bar on a terminal, and a line now and then on other outputs."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.training.history import build_history

LINE_SECONDS = 30
LINES = 10  # of a training, at least


def describe_evaluation(state: TrainerState, metrics: dict[str, Any], metric: str) -> str:
    """One line on an evaluation: the mean training loss since the one before, the validation loss, and a metric."""
    moment = "before: "
    if state.global_step:
        loss = build_history(state.log_history)[-1]["train_loss"]
        moment = f"epoch {round(state.epoch or 0, 2):g}: " + ("" if loss is None else f"train loss {loss:.4f}, ")
    shown = {name: metrics.get(f"eval_{name}") for name in (metric, "probe_accuracy")}
    values = "".join(f", {name.replace('_', ' ')} {value:.4f}" for name, value in shown.items() if value is not None)
    return f"{moment}validation loss {metrics['eval_loss']:.4f}{values}"


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
    """One line per evaluation, and between them one every `LINE_SECONDS` and at each tenth of the training.

    Args:
        metric: shown with each evaluation.
        get_loss: the training loss of the last step, or None.
    """

    def __init__(self, metric: str, get_loss: Callable[[], float | None]) -> None:
        self._metric = metric
        self._get_loss = get_loss
        self._losses: list[float] = []  # since the last line
        self._first_step = self._batches = 0
        self._started = self._printed = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the clock."""
        self._first_step = state.global_step  # of a resumed run
        self._started = self._printed = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Prints step, epoch, mean loss since the last line, and the estimated time left."""
        loss, step, steps = self._get_loss(), state.global_step, state.max_steps
        self._losses += [] if loss is None else [loss]
        is_tenth = step * LINES // steps > (step - 1) * LINES // steps
        if not state.is_world_process_zero or not (is_tenth or self._is_due()):
            return
        parts = [f"step {step:,} of {steps:,}", f"epoch {state.epoch or 0:.1f}"]
        if self._losses:
            parts.append(f"loss {sum(self._losses) / len(self._losses):.2f}")
        if step < steps:
            seconds = (time.monotonic() - self._started) / (step - self._first_step) * (steps - step)
            parts.append(f"{describe_seconds(seconds)} left")
        self._print(", ".join(parts))
        self._losses = []

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Prints a line if an evaluation takes long."""
        self._batches += 1
        if state.is_world_process_zero and self._is_due():
            self._print(f"evaluation: batch {self._batches:,}")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Prints the line, in the main process."""
        self._batches = 0
        if state.is_world_process_zero:
            self._print(describe_evaluation(state, metrics, self._metric))

    def close(self) -> None:
        """Leaves nothing open."""

    def _is_due(self) -> bool:
        return time.monotonic() - self._printed >= LINE_SECONDS

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        print(line, file=sys.stderr, flush=True)


def build_progress_callback(
    metric: str, get_loss: Callable[[], float | None]
) -> BarProgressCallback | LineProgressCallback:
    """A bar if stderr is a terminal, else lines."""
    return BarProgressCallback(metric) if sys.stderr.isatty() else LineProgressCallback(metric, get_loss)


def describe_seconds(seconds: float) -> str:
    """A time that is an estimate, in one unit.

    >>> [describe_seconds(seconds) for seconds in (1, 89, 500, 9000)]
    ['1 second', '89 seconds', '8 minutes', '2.5 hours']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'s' if round(seconds) > 1 else ''}"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
