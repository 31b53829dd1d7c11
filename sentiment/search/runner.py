"""The steps of `sentiment search`: options, checks, defaults, trials, confirmation, results, report."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from sentiment.config import parsing
from sentiment.config.data_arguments import check_metric
from sentiment.data.corpus import load_corpus
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.models.model_folder import resolve_model
from sentiment.objectives import OBJECTIVES
from sentiment.pipelines import adaptation, finetuning
from sentiment.pipelines.evaluation import get_class_names
from sentiment.reporting.search_report import FIGURES, write_search_report
from sentiment.runs.folder import LOCK_FILE, check_output_dir, lock_run_dir
from sentiment.search.arguments import SearchOptions, read_search
from sentiment.search.results import (
    BEST_ADAPTATION_FILE,
    BEST_FILE,
    choose_best,
    remove_adapted_weights,
    summarize_search,
    write_best_options,
)
from sentiment.search.sampling import DRAW_LOCK, STORAGE_FILE, check_description, load_study, settle_interrupted
from sentiment.search.tasks import ADAPTATIONS, Outcome, Task, run_task
from sentiment.search.trial import FAILED, RECORD_FILE
from sentiment.storage import write_json
from sentiment.study.arguments import LAUNCHERS
from sentiment.study.launchers import LauncherError
from sentiment.study.runner import print_progress

# In the order of writing.
WRITTEN_FILES = (BEST_FILE, BEST_ADAPTATION_FILE, *FIGURES, "report.md", "report.html", "search.json")
WRITTEN_FOLDERS = (ADAPTATIONS, "trials", "defaults", "confirm", "logs")
HIDDEN_FILES = (LOCK_FILE, f"{STORAGE_FILE}*", DRAW_LOCK)


def run_search(argv: Sequence[str]) -> dict[str, Any] | None:
    """Train the defaults, the trials and the confirmation as far as they are missing, and write results and report.

    `argv` is what follows `sentiment search`: optionally a `search.yaml`, then flags. Returns the content of
    search.json; None if there is no result, for a reason that stderr names. Wrong options or data raise InputError
    before any training.
    """
    options = read_search(argv)
    folder = options.folder
    check_output_dir(folder, "search", (*WRITTEN_FILES, *WRITTEN_FOLDERS, *HIDDEN_FILES), [STORAGE_FILE, LOCK_FILE])
    data = check_data(options)
    check_adaptation(options)
    with lock_run_dir(folder):
        study = load_study(options)
        check_description(study, folder, options.describe() | {"data": data["fingerprints"]})
        (folder / "logs").mkdir(exist_ok=True)
        try:
            defaults, trials = plan_defaults(options), plan_trials(options)
            ended = {task.index: task.record for task in trials if task.index and task.record}
            attempts = settle_interrupted(study, ended)
            print_progress(f"{len(trials)} trials, {len(ended)} already finished; logs in {folder / 'logs'}")
            run_tasks([defaults])
            assert defaults.record
            if defaults.record["state"] == FAILED:
                reason = f"the defaults cannot be trained: {defaults.record['reason']} (see {defaults.log})"
                (defaults.folder / RECORD_FILE).unlink()  # to be tried again
                print_progress(f"error: {reason}: change the section finetuning or adaptation, and rerun")
                return None
            run_tasks([task.continue_from(attempts.get(task.index or 0)) for task in trials])
            return finish_search(options, defaults, trials, data["rows"])
        except LauncherError as error:
            print_progress(f"error: {error}; rerun the same command to resume")
        except KeyboardInterrupt:
            print_progress("interrupted: rerun the same command to resume")
            raise
    return None


def finish_search(
    options: SearchOptions, defaults: Task, trials: Sequence[Task], rows: dict[str, int]
) -> dict[str, Any] | None:
    """Confirm the best options, write results and report, and return the content of search.json."""
    best = choose_best([task.record for task in trials if task.record])
    if best is None:
        print_progress(
            f"error: none of {len(trials)} trials has a score: see their reasons above, and change the space"
        )
        return None
    confirmed = plan_confirmation(options, best)
    if confirmed:
        print_progress(f"confirmation: the best options (trial {best['index']}) and the defaults on other seeds")
        run_tasks(confirmed)
    for name in reversed(WRITTEN_FILES):
        (options.folder / name).unlink(missing_ok=True)
    summary = summarize_search(options, defaults, trials, best, confirmed, rows)
    write_best_options(options, best, summary["sentences"])
    write_search_report(options.folder, summary)
    write_json(options.folder / "search.json", summary)
    remove_adapted_weights(options.folder / ADAPTATIONS, kept=best["adaptations"])
    for lock in (options.folder / DRAW_LOCK, *options.folder.glob(f"{ADAPTATIONS}/*.lock")):
        lock.unlink(missing_ok=True)
    return summary


def check_data(options: SearchOptions) -> dict[str, Any]:
    """Fingerprints of the training and validation rows of each seed, and their numbers; raises InputError.

    Of the test split, nothing is kept.
    """
    candidate = options.build_candidate({})
    model_args, data_args, _ = parsing.build_arguments(finetuning.ARGUMENTS, candidate.finetuning)
    resolve_model(model_args.model_name_or_path, model_args.model_revision)
    fingerprints: dict[str, str] = {}
    rows: dict[str, int] = {}
    for seed in options.args.seeds:
        reviews = load_split_reviews(data_args, seed)
        check_metric(options.args.metric, get_class_names(reviews.splits["train"]))
        found = reviews.fingerprints
        fingerprints |= {f"{name} rows of seed {seed}": found[name] for name in ("train", "validation")}
        rows = {name: len(reviews.splits[name]) for name in ("train", "validation")}
    return {"fingerprints": fingerprints, "rows": rows}


def check_adaptation(options: SearchOptions) -> None:
    """Raise InputError if the default adaptation cannot be trained, or its text cannot be loaded."""
    candidate = options.build_candidate({})
    if candidate.adaptation is None:
        return
    _, corpus_args, args = parsing.build_arguments(adaptation.ARGUMENTS, candidate.adaptation)
    objective = OBJECTIVES[args.objective](args)
    objective.check_arguments()
    if not corpus_args.streaming and not objective.reads_labels:
        load_corpus(corpus_args)


def plan_defaults(options: SearchOptions) -> Task:
    """The options of the YAML file without the space's, with the seeds of the trials; not pruned."""
    return Task(options, "defaults", tuple(options.args.seeds), params={})


def plan_trials(options: SearchOptions) -> list[Task]:
    """The trials, numbered from 1."""
    numbers = range(1, options.args.trials + 1)
    return [Task(options, f"trials/{number:03}", tuple(options.args.seeds), number) for number in numbers]


def plan_confirmation(options: SearchOptions, best: dict[str, Any]) -> list[Task]:
    """The best options and the defaults with each of the seeds that confirm."""
    kinds = {f"trial_{best['index']:03}": best["params"], "defaults": {}}
    return [
        Task(options, f"confirm/{name}_seed_{seed}", (seed,), params=params)
        for seed in options.args.confirm_seeds
        for name, params in kinds.items()
    ]


def run_tasks(tasks: Sequence[Task]) -> None:
    """Run the tasks that have not ended, and print a line for each; a full disk or a signal ends the search."""
    missing = [task for task in tasks if task.record is None]
    if not missing:
        return
    args, start = missing[0].options.args, time.perf_counter()
    outcomes = LAUNCHERS[args.launcher](run_task, missing, args.jobs, missing[0].options.folder / "logs/processes.log")
    for count, outcome in enumerate(outcomes, start=1):
        stop_if_needed(outcome)
        left = round((time.perf_counter() - start) / count * (len(missing) - count) / 60)
        counted = f"[{len(tasks) - len(missing) + count}/{len(tasks)}] " if len(tasks) > 1 else ""
        print_progress(f"{counted}{outcome.task}: {outcome}{f'; about {left} min left' if left else ''}")


def stop_if_needed(outcome: Outcome) -> None:
    """End the command if a trial could not be trained for a reason that all trials share."""
    if outcome.exit_code:
        print_progress(f"error: {outcome.record['reason']}; rerun the same command to resume")
        sys.exit(outcome.exit_code)
