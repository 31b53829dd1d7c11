"""Trials in the storage: how they are drawn, reported, pruned and continued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from sentiment.exceptions import InputError
from sentiment.search.arguments import SearchOptions, read_search
from sentiment.search.sampling import (
    Attempt,
    TrialReporter,
    check_description,
    draw_trial,
    load_study,
    settle_interrupted,
)


class FakeTrial:
    """A trial that keeps what is reported, and is pruned below a score."""

    def __init__(self, lowest: float = 0.0) -> None:
        self.lowest = lowest
        self.reported: dict[int, float] = {}

    def report(self, value: float, step: int) -> None:
        assert step not in self.reported
        self.reported[step] = value

    def should_prune(self) -> bool:
        return min(self.reported.values(), default=1.0) < self.lowest


@pytest.fixture
def options(write_search_file: Callable[..., list[str]], tmp_path: Path) -> SearchOptions:
    (tmp_path / "search").mkdir()
    return read_search([*write_search_file(), "--seed", "7"])


def make_reporter(num_seeds: int = 1, lowest: float = 0.0, scores: dict[int, float] | None = None) -> Any:
    trial = FakeTrial(lowest)
    return trial, TrialReporter(trial, num_seeds, scores or {})  # type: ignore[arg-type]


def test_scores_are_compared_at_tenths_of_a_training() -> None:
    trial, reporter = make_reporter()
    report = reporter.start_seed([])
    for epoch, score in enumerate((0.5, 0.7, 0.8), start=1):
        report(epoch / 3, score)
    # What was known at each tenth: nothing before a third.
    assert trial.reported == {3: 0.5, 4: 0.5, 5: 0.5, 6: 0.7, 7: 0.7, 8: 0.7, 9: 0.7, 10: 0.8}
    assert (reporter.progress, reporter.score) == (1.0, 0.8)
    trial, reporter = make_reporter()
    report = reporter.start_seed([])
    for epoch in range(1, 21):
        report(epoch / 20, epoch / 100)
    assert trial.reported == pytest.approx({tenth: 2 * tenth / 100 for tenth in range(1, 11)})


def test_several_seeds_are_reported_as_their_mean() -> None:
    trial, reporter = make_reporter(num_seeds=2)
    reporter.start_seed([])(0.5, 0.6)  # stopped early
    report = reporter.start_seed([0.6])
    report(0.5, 0.7)
    report(1.0, 0.8)
    assert trial.reported == pytest.approx({5: 0.6, 10: 0.6, 15: 0.65, 16: 0.65, 17: 0.65, 18: 0.65, 19: 0.65, 20: 0.7})


def test_a_bad_trial_is_pruned_but_not_one_that_is_trained() -> None:
    _, reporter = make_reporter(lowest=0.55)
    with pytest.raises(optuna.TrialPruned):
        reporter.start_seed([])(0.5, 0.5)
    assert (reporter.progress, reporter.score) == (0.5, 0.5)
    _, reporter = make_reporter(lowest=0.55)
    reporter.start_seed([])(1.0, 0.5)
    _, reporter = make_reporter(num_seeds=2, lowest=0.55)
    with pytest.raises(optuna.TrialPruned):
        reporter.start_seed([])(1.0, 0.5)


def test_scores_before_an_interruption_are_reported_once() -> None:
    trial, reporter = make_reporter(scores={1: 0.3, 2: 0.4})
    report = reporter.start_seed([])
    report(0.2, 0.9)  # the same evaluation, from the checkpoint
    report(0.4, 0.6)
    assert trial.reported == {1: 0.3, 2: 0.4, 3: 0.9, 4: 0.6}


def test_a_trial_depends_on_seed_index_and_earlier_scores(options: SearchOptions) -> None:
    def draw(index: int, attempt: Attempt | None = None) -> tuple[optuna.Study, optuna.Trial]:
        study = load_study(options, index)
        return study, draw_trial(study, options, index, attempt)[0]

    drawn = []
    for index in (1, 2, 3, 4):
        study, trial = draw(index)
        drawn.append(trial.params)
        if index == 3:  # killed before it has an index, and with one
            study.ask({dim.key: dim.distribution for dim in options.space})
            attempts = settle_interrupted(load_study(options), {})
            assert attempts == {3: Attempt(drawn[-1], {})}
            study, again = draw(3, Attempt(attempts[3].params, {1: 0.25}))
            assert again.params == drawn[-1]
            assert study.trials[again.number].intermediate_values == {1: 0.25}
            trial = again
        study.tell(trial, 0.5 + index / 100)
    assert len({str(params) for params in drawn}) == 4
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]

    # Without the interruption, the same trials.
    storage = options.folder / "search.sqlite3"
    storage.unlink()
    for index, params in enumerate(drawn, start=1):
        study, trial = draw(index)
        assert trial.params == params
        study.tell(trial, 0.5 + index / 100)


def test_a_trial_queued_by_a_killed_process_is_not_taken_for_another(options: SearchOptions) -> None:
    study = load_study(options, 1)
    params = {"learning_rate": 1e-3, "num_train_epochs": 1.0, "dropout": 0.1}
    study.enqueue_trial(params, user_attrs={"index": 2})
    trial, _ = draw_trial(study, options, 1)
    assert (trial.user_attrs["index"], trial.params == params) == (1, False)
    assert [one.state.name for one in study.trials] == ["FAIL", "RUNNING"]


def test_a_recorded_trial_is_only_told(options: SearchOptions) -> None:
    study = load_study(options, 1)
    for index in (1, 2, 3):
        draw_trial(study, options, index)
    records = {1: {"state": "complete", "score": 0.75}, 2: {"state": "pruned"}, 3: {"state": "failed"}}
    assert settle_interrupted(study, records) == {}
    assert [(trial.state.name, trial.value) for trial in study.trials][0::2] == [("COMPLETE", 0.75), ("FAIL", None)]
    assert study.trials[1].state.name == "PRUNED"


def test_another_search_in_the_folder_is_refused(options: SearchOptions) -> None:
    description = options.describe()
    check_description(load_study(options), options.folder, description)
    check_description(load_study(options), options.folder, description)
    changed = description | {"finetuning": description["finetuning"] | {"learning_rate": 1.0}}
    with pytest.raises(InputError, match=r"search holds a search with other options or data \(finetuning.learning_rate "
                                         r"0.005 -> 1.0\): pass another --output_dir"):  # fmt: skip
        check_description(load_study(options), options.folder, changed)
