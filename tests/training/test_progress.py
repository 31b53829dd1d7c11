"""What the terminal or a log shows of a training."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sentiment.training import progress
from sentiment.training.progress import BarProgressCallback, LineProgressCallback, build_progress_callback

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
    kind: type[Any], is_main_process: bool, options: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    state = build_state(is_world_process_zero=is_main_process)
    kind("accuracy").on_evaluate(options, state, TrainerControl(), LOG[-1])
    printed = capsys.readouterr()
    line = "epoch 2: train loss 0.7000, validation loss 0.3000, accuracy 0.8750\n"
    assert printed.err == (line if is_main_process else "")
    assert printed.out == ""


def test_a_line_now_and_then(
    options: TrainingArguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    callback, state, control = LineProgressCallback(), build_state(global_step=0), TrainerControl()
    callback.on_train_begin(options, state, control)
    for step in range(1, 101):  # a second a step
        now[0], state.global_step = float(step), step
        callback.on_step_end(options, state, control)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "step 30 of 900, epoch 2.00, about 14 minutes left"


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, BarProgressCallback), (False, LineProgressCallback)])
def test_a_bar_is_for_terminals(is_terminal: bool, kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    assert type(build_progress_callback("accuracy")) is kind
