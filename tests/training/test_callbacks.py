"""When training stops, early or for good, and how its seconds are counted."""

import time

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sentiment.training.callbacks import EpochTimerCallback, MetricOrLossEarlyStoppingCallback

Evaluations = list[tuple[float, float]]  # accuracy and loss


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(tmp_path_factory.mktemp("run")),
        metric_for_best_model="accuracy",
        greater_is_better=True,
        load_best_model_at_end=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to="none",
        use_cpu=True,
    )


def stops_at(
    stopping: MetricOrLossEarlyStoppingCallback,
    options: TrainingArguments,
    evaluations: Evaluations,
    best: float | None = None,
) -> int | None:
    """The evaluation, counted from 1, after which training is to stop."""
    state, control = TrainerState(best_metric=best, max_steps=1_000), TrainerControl()
    for number, (accuracy, loss) in enumerate(evaluations, start=1):
        stopping.on_evaluate(options, state, control, {"eval_accuracy": accuracy, "eval_loss": loss})
        if control.should_training_stop:
            return number
        # As the Trainer does, after the callbacks.
        state.best_metric = max(accuracy, state.best_metric or accuracy)
    return None


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        ([(0.9, 0.3)] * 10, 4),
        ([(0.9, 0.3 - number / 100) for number in range(10)], None),  # loss falls, accuracy level
        ([(0.8 + number / 100, 0.3 + number / 100) for number in range(10)], None),  # accuracy rises, so does loss
        ([(0.9 - number / 100, 0.3 + number / 100) for number in range(10)], 4),  # both get worse
        ([(0.9, 0.3), (0.9, 0.3), (0.9, 0.3), (0.91, 0.4), (0.9, 0.4), (0.9, 0.4), (0.9, 0.4)], 7),
        ([(0.9, 0.3), (0.9, 0.3), (0.9, 0.3), (0.8, 0.2), (0.9, 0.2), (0.9, 0.2), (0.9, 0.2)], 7),
        # Better than the last epoch and not than the best one: no improvement.
        ([(0.9, 0.3), (0.7, 0.5), (0.8, 0.4), (0.85, 0.35)], 4),
    ],
)
def test_stops_after_three_epochs_without_better_accuracy_or_loss(
    evaluations: Evaluations, expected: int | None, options: TrainingArguments
) -> None:
    assert stops_at(MetricOrLossEarlyStoppingCallback(), options, evaluations) == expected


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_patience_is_exact(patience: int, options: TrainingArguments, capsys: pytest.CaptureFixture[str]) -> None:
    assert stops_at(MetricOrLossEarlyStoppingCallback(patience), options, [(0.9, 0.3)] * 10) == patience + 1
    assert capsys.readouterr().err == f"stopped early: no improvement in {patience} evaluations in a row\n"


def test_a_resumed_run_stops_where_an_uninterrupted_one_would(options: TrainingArguments) -> None:
    stopping = MetricOrLossEarlyStoppingCallback(3)
    assert stops_at(stopping, options, [(0.9, 0.3), (0.9, 0.2), (0.9, 0.25)]) is None
    resumed = MetricOrLossEarlyStoppingCallback.from_state(stopping.state())
    assert (resumed.early_stopping_patience, resumed.best_loss) == (3, 0.2)
    # 0.22 would be better than nothing and is not better than 0.2.
    assert stops_at(resumed, options, [(0.9, 0.22), (0.9, 0.22), (0.9, 0.22)], best=0.9) == 2


def test_timer_counts_epochs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 13.0, 100.0, 104.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    timer = EpochTimerCallback()
    for _ in range(2):
        timer.on_epoch_begin(None, None, None)
        timer.on_epoch_end(None, None, None)
    assert timer.seconds == 7.5
