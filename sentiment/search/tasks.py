"""What the processes of a search do: train one trial, or fixed options, and record the result in its folder."""

import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from sentiment.exceptions import SaveError, TrainingInterrupted, first_line
from sentiment.reporting.formatting import format_duration
from sentiment.search.arguments import SearchOptions
from sentiment.search.sampling import Attempt, TrialReporter, draw_trial, fail_trial, load_study, tell_result
from sentiment.search.trial import (
    COMPLETE,
    FAILED,
    PRUNED,
    RECORD_FILE,
    read_record,
    remove_unfinished,
    score_candidate,
)
from sentiment.storage import write_json
from sentiment.study.launchers import LauncherError, redirect_output, run_in_process

ADAPTATIONS = "adaptations"


@dataclass(frozen=True)
class Task:
    """Options to be trained and scored, as plain data: those that the sampler draws, or `params`.

    Args:
        options: the search.
        name: its folder in that of the search.
        seeds: of its fine-tunings.
        index: of a trial; None for options that are given.
        params: by `Dimension.key`; {} are the defaults.
        attempt: an earlier attempt of the trial that was interrupted.
    """

    options: SearchOptions
    name: str
    seeds: tuple[int, ...]
    index: int | None = None
    params: dict[str, Any] | None = None
    attempt: Attempt | None = None

    def __str__(self) -> str:
        return self.name.replace("trials/", "trial ").replace("/", " ").replace("_", " ")

    def continue_from(self, attempt: Attempt | None) -> "Task":
        """This task after an attempt that was interrupted."""
        return replace(self, attempt=attempt)

    @property
    def folder(self) -> Path:
        """Folder of its runs and its record."""
        return self.options.folder / self.name

    @property
    def record(self) -> dict[str, Any] | None:
        """Its record; None if it has not ended."""
        return read_record(self.folder)

    @property
    def log(self) -> Path:
        """What its process prints."""
        return self.options.folder / "logs" / f"{self.name.replace('/', '_')}.log"


@dataclass(frozen=True)
class Outcome:
    """A task that has ended, with its record; or its exit code and reason if the search must stop."""

    task: Task
    record: dict[str, Any]
    exit_code: int = 0

    def __str__(self) -> str:
        state, reason = self.record["state"], self.record.get("reason")
        if state == FAILED:
            return f"failed: {reason} (see {self.task.log})"
        score = f"{self.task.options.args.metric.replace('_', ' ')} {self.record['score']:.4f}"
        seconds = format_duration(self.record["seconds"])
        if state == PRUNED:
            return f"pruned after {self.record['progress']:.0%} at {score} ({seconds})"
        answers = [answer for answer in self.record["collapsed"] if answer]
        return f"validation {score}{f', collapsed to {answers[0]!r}' if answers else ''} ({seconds})"


def run_task(task: Task) -> Outcome:
    """Run a task in a process of its own, so that its memory is freed, and return what came of it."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        return run_in_process(train_task, task, task.log)
    except LauncherError as error:
        if task.index is not None:
            fail_trial(load_study(task.options), task.index)
        return record_outcome(task, {"state": FAILED, "reason": str(error)})


def train_task(task: Task) -> Outcome:
    """Train and score in this process; errors of one trial are its result."""
    with redirect_output(task.log):
        try:
            return train_trial(task) if task.index is not None else train_fixed(task)
        except SaveError as error:
            return Outcome(task, {"state": FAILED, "reason": str(error)}, error.exit_code)
        except TrainingInterrupted as error:
            return Outcome(task, {"state": FAILED, "reason": "interrupted"}, error.exit_code)


def train_fixed(task: Task) -> Outcome:
    """Train the task's own options; nothing is pruned."""
    return score_task(task, task.params or {}, keep_predictions=True)


def train_trial(task: Task) -> Outcome:
    """Draw a trial, train it, record it, and tell the storage."""
    assert task.index is not None
    study = load_study(task.options, task.index)
    trial, reporter = draw_trial(study, task.options, task.index, task.attempt)
    outcome = score_task(task, trial.params, reporter)
    tell_result(study, trial.number, outcome.record)
    return outcome


def score_task(
    task: Task, params: dict[str, Any], reporter: TrialReporter | None = None, keep_predictions: bool = False
) -> Outcome:
    """Train the options, and record their score or why there is none."""
    options, start = task.options, time.perf_counter()
    result: dict[str, Any]
    try:
        candidate = options.build_candidate(params)
        started = None if reporter is None else reporter.start_seed
        adaptations = options.folder / ADAPTATIONS
        result = score_candidate(
            candidate, task.folder, task.seeds, options.args.metric, adaptations, started, keep_predictions
        )
        result["state"] = COMPLETE
    except optuna.TrialPruned:
        result = {"state": PRUNED}
    except SaveError:
        raise
    except Exception as error:  # other trials must not stop
        traceback.print_exception(error)
        result = {"state": FAILED, "reason": first_line(error)}
    if result["state"] != COMPLETE:
        remove_unfinished(task.folder)
        reached = {"score": reporter.score, "progress": reporter.progress} if reporter else {}
        result |= reached | {"seconds": time.perf_counter() - start}
    return record_outcome(task, {"params": params} | result)


def record_outcome(task: Task, result: dict[str, Any]) -> Outcome:
    """Write the record of a task into its folder, which ends it."""
    record = {"name": task.name, "index": task.index, "seeds": list(task.seeds)} | result
    task.folder.mkdir(parents=True, exist_ok=True)
    write_json(task.folder / RECORD_FILE, record)
    return Outcome(task, record)
