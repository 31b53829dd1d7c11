"""Trials in optuna's storage, a SQLite file: what is drawn next, what is pruned, and what a killed process left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.trial import TrialState

from sentiment.exceptions import require
from sentiment.runs.differences import find_differences
from sentiment.runs.folder import MAX_NAMED
from sentiment.search.arguments import SearchOptions
from sentiment.search.trial import COMPLETE, PRUNED, Report

STORAGE_FILE = "search.sqlite3"
DRAW_LOCK = ".draw.lock"
STUDY = "search"
INDEX = "index"  # of a trial in the search; optuna's numbers also count attempts that were interrupted
DESCRIPTION = "description"
LOCK_SECONDS = 60
# Of a training and of the trials before it. A score is compared with those of other trials at the same tenth.
TENTHS = 10
PRUNING_TRIALS, FIRST_PRUNED_TENTH = 5, 3
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Attempt:
    """Parameters of a trial whose process has ended, and its scores by step until then."""

    params: dict[str, Any]
    scores: dict[int, float]


def load_study(options: SearchOptions, index: int = 0) -> optuna.Study:
    """The study in the folder's storage, which is created if necessary, to draw the trial of this index.

    The sampler (TPE, Bergstra et al. 2011, over all options jointly) is seeded by the seed of the search and the index:
    with one job, a trial depends on these and on the scores of earlier trials, and not on interruptions.

    The median rule (Golovin et al. 2017, Google Vizier) prunes: it needs no budget to be set, and unlike successive
    halving and Hyperband, which keep a third, it works with few trials and seldom stops a good one by the noise of a
    small validation split.
    """
    args = options.args
    seed = int(np.random.SeedSequence([args.seed, index]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=args.startup_trials)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if args.prune:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNING_TRIALS, n_warmup_steps=FIRST_PRUNED_TENTH)
    path = (options.folder / STORAGE_FILE).resolve()
    timeout = {"connect_args": {"timeout": LOCK_SECONDS}}
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=timeout)
    return optuna.create_study(
        storage=storage, sampler=sampler, pruner=pruner, study_name=STUDY, direction="maximize", load_if_exists=True
    )


def check_description(study: optuna.Study, folder: Path, description: dict[str, Any]) -> None:
    """Record what the search is, or raise InputError if the folder holds another one."""
    recorded = study.user_attrs.get(DESCRIPTION)
    if recorded is None:
        study.set_user_attr(DESCRIPTION, description)
        return
    changed = []
    for section, values in description.items():
        found = find_differences(recorded.get(section) or {}, values or {})
        changed += [f"{section}.{name} {old} -> {new}" for name, (old, new) in found.items()]
    difference = ", ".join(changed[:MAX_NAMED])
    difference += f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
    require(
        not changed, f"{folder} holds a search with other options or data ({difference}): pass another --output_dir"
    )


def settle_interrupted(study: optuna.Study, ended: Mapping[int, Mapping[str, Any]]) -> dict[int, Attempt]:
    """End the trials that a killed search left running, and return those to be continued, by index.

    `ended` are records by index; a trial that has one was only not told to the storage.
    """
    interrupted = {}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        index = trial.user_attrs.get(INDEX)
        if index is not None and index in ended:
            tell_result(study, trial.number, ended[index])
            continue
        study.tell(trial.number, state=TrialState.FAIL)
        if index is not None:
            interrupted[index] = Attempt(trial.params, trial.intermediate_values)
    return interrupted


def tell_result(study: optuna.Study, number: int, record: Mapping[str, Any]) -> None:
    """Tell the storage how the trial of this number has ended."""
    if record["state"] == COMPLETE:
        study.tell(number, record["score"])
    else:
        study.tell(number, state=TrialState.PRUNED if record["state"] == PRUNED else TrialState.FAIL)


def fail_trial(study: optuna.Study, index: int) -> None:
    """Tell the storage that the process of a trial was killed."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if trial.user_attrs.get(INDEX) == index:
            study.tell(trial.number, state=TrialState.FAIL)


def draw_trial(
    study: optuna.Study, options: SearchOptions, index: int, attempt: Attempt | None = None
) -> tuple[optuna.Trial, "TrialReporter"]:
    """The trial of this index, with the parameters and scores of an interrupted attempt or new ones."""
    distributions = {dimension.key: dimension.distribution for dimension in options.space}
    with FileLock(options.folder / DRAW_LOCK):  # another job must not draw what is queued here
        if attempt:
            study.enqueue_trial(attempt.params, user_attrs={INDEX: index})
        trial = study.ask(distributions)
        while trial.user_attrs.get(INDEX, index) != index:  # queued by a process that was killed
            study.tell(trial, state=TrialState.FAIL)
            trial = study.ask(distributions)
        trial.set_user_attr(INDEX, index)
    return trial, TrialReporter(trial, len(options.args.seeds), attempt.scores if attempt else {})


class TrialReporter:
    """Reports scores to optuna at each tenth of a training, and raises TrialPruned where it says so.

    Trainings of different numbers of epochs are compared at equal shares of their schedule. With several seeds, the
    steps go on, and a score is the mean over the seeds so far.

    Args:
        trial: the trial.
        num_seeds: trainings of the trial.
        scores: by step, of an interrupted attempt.
    """

    def __init__(self, trial: optuna.Trial, num_seeds: int, scores: Mapping[int, float]) -> None:
        self.trial = trial
        self.num_seeds = num_seeds
        self.progress = 0.0
        self.score: float | None = None  # of the trial so far
        self.steps: set[int] = set()
        for step, score in sorted(scores.items()):
            self.report_once(score, step)

    def report_once(self, score: float, step: int) -> None:
        """Report a score unless there is one for this step."""
        if step not in self.steps:
            self.trial.report(score, step)
            self.steps.add(step)

    def start_seed(self, finished: Sequence[float]) -> Report:
        """What the next seed reports to, after those with these scores."""
        first = len(finished) * TENTHS
        last_tenth, last_best = 0, 0.0
        if finished:  # the training may have stopped early
            self.report_once(fmean(finished), first)

        def report(progress: float, best: float) -> None:
            nonlocal last_tenth, last_best
            tenth = int(progress * TENTHS + 1e-9)
            for each in range(last_tenth + 1, tenth + 1):
                known = best if each == tenth else last_best
                if each == tenth or last_tenth:  # else nothing was known at that tenth
                    self.report_once(fmean([*finished, known]), first + each)
            last_tenth, last_best = max(tenth, last_tenth), best
            self.progress = (len(finished) + min(progress, 1.0)) / self.num_seeds
            self.score = fmean([*finished, best])
            is_last = tenth >= TENTHS and len(finished) == self.num_seeds - 1
            if not is_last and self.trial.should_prune():
                raise optuna.TrialPruned

        return report


def compute_importances(study: optuna.Study, seed: int) -> dict[str, float] | None:
    """The share of each option in the variance of scores (fANOVA, Hutter et al. 2014); None for too few trials.

    Of completed trials only; the random forest has the seed.
    """
    scores = {trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])}
    if len(scores) < 2:
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }
