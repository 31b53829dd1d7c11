"""What the terminal or a log shows of a training."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sentiment.training import progress as progress_module
from sentiment.training.progress import BarProgressCallback, LineProgressCallback, build_progress_callback

Capture = pytest.CaptureFixture[str]
# Two logged losses before the evaluation: the line has their mean, weighted by their steps.
LOG = [
    {"step": 3, "loss": 0.5, "epoch": 1.0},
    {"step": 9, "loss": 0.8, "epoch": 2.0},
    {"step": 9, "epoch": 2.0, "eval_loss": 0.3, "eval_accuracy": 0.875},
]


@pytest.fixture
def options(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def build_state(**values: Any) -> TrainerState:
    state = TrainerState(epoch=2.0, global_step=9, max_steps=900, log_history=[*LOG])
    for name, value in values.items():
        setattr(state, name, value)
    return state


@pytest.mark.parametrize("kind", [BarProgressCallback, LineProgressCallback])
@pytest.mark.parametrize("is_main_process", [True, False])
def test_one_line_an_evaluation_from_the_main_process(
    kind: type[Any], is_main_process: bool, options: TrainingArguments, capsys: Capture
) -> None:
    state = build_state(is_world_process_zero=is_main_process)
    kind("accuracy", *([lambda: None] if kind is LineProgressCallback else [])).on_evaluate(
        options, state, TrainerControl(), LOG[-1]
    )
    printed = capsys.readouterr()
    line = "epoch 2: train loss 0.7000, validation loss 0.3000, accuracy 0.8750\n"
    assert printed.err == (line if is_main_process else "")
    assert printed.out == ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def train(progress: LineProgressCallback, clock: list[float], steps: range, seconds: float, **state: Any) -> None:
    """Steps of a training that take some seconds each."""
    options, last = TrainingArguments(output_dir="unused", use_cpu=True, report_to="none"), steps[-1]
    current = TrainerState(global_step=steps[0] - 1, max_steps=last, is_world_process_zero=True)
    for name, value in state.items():
        setattr(current, name, value)
    progress.on_train_begin(options, current, TrainerControl())
    for step in steps:
        clock[0] += seconds
        current.global_step, current.epoch = step, 4 * step / last
        progress.on_step_end(options, current, TrainerControl())
    progress.close()


def test_a_line_at_each_tenth(clock: list[float], capsys: Capture) -> None:
    losses = iter([step / 120 for step in range(1, 1201)])
    train(LineProgressCallback("accuracy", lambda: next(losses)), clock, range(1, 1201), seconds=0.1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "step 120 of 1,200, epoch 0.4, loss 0.50, 2 minutes left"  # the mean of 1/120 to 1
    assert lines[1] == "step 240 of 1,200, epoch 0.8, loss 1.50, 2 minutes left"
    assert lines[-2].endswith("12 seconds left")
    assert lines[-1] == "step 1,200 of 1,200, epoch 4.0, loss 9.50"


def test_a_line_every_30_seconds_where_a_tenth_takes_longer(clock: list[float], capsys: Capture) -> None:
    train(LineProgressCallback("accuracy", lambda: None), clock, range(1, 101), seconds=8)
    lines = capsys.readouterr().err.splitlines()
    shown = [int(line.split()[1]) for line in lines]
    assert shown[:6] == [4, 8, 10, 14, 18, 20]  # after 32 s each, and at the tenths
    assert lines[0] == "step 4 of 100, epoch 0.2, 13 minutes left"  # and no loss where no step has one


def test_a_resumed_training_counts_its_own_steps(clock: list[float], capsys: Capture) -> None:
    train(LineProgressCallback("accuracy", lambda: 1.0), clock, range(901, 1001), seconds=1)
    assert capsys.readouterr().err.splitlines()[0] == "step 930 of 1,000, epoch 3.7, loss 1.00, 70 seconds left"


def test_other_processes_print_nothing(clock: list[float], capsys: Capture) -> None:
    progress = LineProgressCallback("accuracy", lambda: 1.0)
    train(progress, clock, range(1, 11), seconds=60, is_world_process_zero=False)
    assert capsys.readouterr().err == ""


def test_a_long_evaluation_is_heard_of(options: TrainingArguments, clock: list[float], capsys: Capture) -> None:
    progress, state = LineProgressCallback("accuracy", lambda: 1.0), TrainerState(log_history=[])
    for _ in range(2):
        for _ in range(5):
            clock[0] += 12
            progress.on_prediction_step(options, state, TrainerControl())
        progress.on_evaluate(options, state, TrainerControl(), {"eval_loss": 1.0, "eval_accuracy": 0.5})
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["evaluation: batch 3", "before: validation loss 1.0000, accuracy 0.5000"]
    assert lines[2] == "evaluation: batch 3"


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, BarProgressCallback), (False, LineProgressCallback)])
def test_a_bar_is_for_terminals(is_terminal: bool, kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    assert type(build_progress_callback("accuracy", lambda: None)) is kind
