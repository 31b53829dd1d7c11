"""The steps of `sentiment study`: plan, checks, adaptations, fine-tunings, verdict, report."""

import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from sentiment.config.arguments import ModelArguments
from sentiment.config.parsing import build_instances
from sentiment.data.corpus import load_corpus
from sentiment.evaluation.study_effects import summarize_study
from sentiment.exceptions import InputError, TrainingInterrupted, first_line
from sentiment.models.model_folder import resolve_model
from sentiment.objectives import OBJECTIVES
from sentiment.reporting.formatting import format_duration
from sentiment.reporting.study_report import FIGURES, write_study_report
from sentiment.reporting.verdicts import describe_study
from sentiment.runs.folder import check_output_dir, remove_checkpoints
from sentiment.storage import write_json
from sentiment.study.arguments import LAUNCHERS
from sentiment.study.launchers import LauncherError, redirect_output
from sentiment.study.plan import (
    PlannedAdaptation,
    PlannedFinetuning,
    PlannedRun,
    Run,
    StudyPlan,
    build_study_plan,
    match_steps,
)
from sentiment.study.results import describe_setup, is_adapted, is_finetuned, read_results

# In the order of writing.
WRITTEN_FILES = ("results.parquet", *FIGURES, "report.md", "report.html", "verdict.json")
WRITTEN_FOLDERS = ("runs", "logs", "mlm", "mlm_[0-9]*", "placebo", "placebo_[0-9]*")
# What errors of runs recommend, and what a study offers instead.
ADVICE = {
    "or --overwrite": "or remove that folder",
    ", with --overwrite": " after removing its folder",
    "--max_train_samples": "--budgets",
    "pass --dataset snippets (embedded), a file of your own, or": "set dataset_name under finetuning in a study.yaml "
    "to snippets (embedded) or a file of your own, or pass",
    "pass --model minilm": "set model_name_or_path there to minilm",
    "(and a --dataset that": "(and a dataset_name that",
}


def run_study(argv: Sequence[str]) -> dict[str, Any] | None:
    """Train the runs that are not finished yet, resuming interrupted ones, and write the verdict and the report.

    `argv` is what follows `sentiment study`: optionally a `study.yaml`, then flags. Returns the content of
    verdict.json; None if runs failed, which stderr names. Wrong options or data raise InputError before any training.
    """
    try:
        plan = build_study_plan(argv)
        adaptations = [planned.folder.name for planned in plan.adaptations]
        adaptations += [path.parent.name for path in plan.folder.glob("*/run.json")]  # also of other --arms
        check_output_dir(plan.folder, "study", (*WRITTEN_FILES, *WRITTEN_FOLDERS, *adaptations), ["logs"])
        data = plan.data  # raises InputError before anything is written
        check_sources(plan)
        finished = [run for run in plan.finetunings if is_finetuned(run, data)]
        adapted = {planned.folder for planned in plan.adaptations if is_adapted(planned)}
        logs, total = plan.folder / "logs", len(plan.finetunings)
        logs.mkdir(parents=True, exist_ok=True)
        print_progress(f"{total} runs, {len(finished)} already finished; logs in {logs}")
        missing = total - len(finished) - train_runs(plan, finished, adapted)
        if not missing:
            return write_verdict(plan)
        reason = f"{missing} of {total} runs are missing"
        print_progress(f"error: no verdict, since {reason}: fix the errors above and rerun")
    except InputError as error:
        raise InputError(adapt_advice(str(error))) from error
    except (KeyboardInterrupt, TrainingInterrupted) as error:
        print_progress("interrupted: rerun the same command to resume")
        if isinstance(error, TrainingInterrupted):  # its message is for a single run
            sys.exit(error.exit_code)
        raise
    return None


def check_sources(plan: StudyPlan) -> None:
    """Download model and texts of the adaptations if necessary; raise InputError if they are not available."""
    (model_args,) = build_instances([ModelArguments], plan.options.finetuning)
    resolve_model(model_args.model_name_or_path, model_args.model_revision)
    for planned in plan.adaptations:
        _, corpus_args, args = planned.build_arguments()
        reads_corpus = not OBJECTIVES[args.objective].reads_labels and not corpus_args.streaming
        if reads_corpus and not (planned.folder / "metrics.json").exists():
            load_corpus(corpus_args)


def train_runs(plan: StudyPlan, finished: Sequence[PlannedFinetuning], adapted: set[Path]) -> int:
    """Train the runs that are not finished, print a line for each, and return how many fine-tunings succeed.

    Runs that wait for an adaptation follow when all that wait for none have ended, so that jobs are busy meanwhile.
    `adapted` are the folders of finished adaptations; those that succeed are added.
    """
    args, trained, progress = plan.options.args, 0, StudyProgress(plan, finished)
    for finished_run in finished:
        remove_large_files(finished_run.folder, args.keep_models)
    waiting: list[PlannedRun] = [run for run in plan.adaptations if run.folder not in adapted]
    waiting += [run for run in plan.finetunings if run not in finished]
    try:
        while ready := [run for run in waiting if run.waits_for in {None, *adapted}]:
            waiting = [run for run in waiting if run not in ready]
            if adaptations := [run.folder.name for run in ready if isinstance(run, PlannedAdaptation)]:
                print_progress(f"adaptations: {', '.join(adaptations)}")
            tasks = [task for planned in ready if (task := match_steps(planned))]
            jobs = max(1, min(args.jobs, len(tasks)))  # a task alone gets all threads
            outcomes = LAUNCHERS[args.launcher](train, tasks, jobs, plan.folder / "logs" / "processes.log")
            for run, is_trained, result, seconds in outcomes:
                if isinstance(run, PlannedFinetuning):
                    trained += is_trained
                    progress.add(run, is_trained, seconds)
                    print_progress(
                        f"[{progress.count}/{progress.total}] {run}: {result}{progress.describe_time_left()}"
                    )
                else:
                    left_out = [] if is_trained else [later for later in waiting if later.waits_for == run.folder]
                    progress.leave_out(left_out)
                    adapted |= {run.folder} if is_trained else set()
                    end = f"; left out: {len(left_out)} that start from it" if left_out else ""
                    print_progress(f"{run}: {result}{end}")
                if is_trained:
                    remove_large_files(run.folder, args.keep_models or isinstance(run, PlannedAdaptation))
    except LauncherError as error:
        print_progress(str(error))
    return trained


class StudyProgress:
    """How many fine-tunings of a study have ended, of how many, and the time that the others will take."""

    def __init__(self, plan: StudyPlan, finished: Sequence[PlannedFinetuning]):
        self.total, self.count, self._jobs = len(plan.finetunings), len(finished), plan.options.args.jobs
        self._left = {run.folder: plan.data.estimate_work(run) for run in plan.finetunings if run not in finished}
        self._done = self._seconds = 0.0  # work of successful runs, and the seconds that it took

    def add(self, run: PlannedFinetuning, is_trained: bool, seconds: float) -> None:
        """Count a run that has ended."""
        self.count += 1
        work = self._left.pop(run.folder)
        if is_trained:
            self._done, self._seconds = self._done + work, self._seconds + seconds

    def leave_out(self, runs: Iterable[PlannedRun]) -> None:
        """Expect no time for these runs, which will not start."""
        for run in runs:
            self._left.pop(run.folder, None)

    def describe_time_left(self) -> str:
        """The time left in words; empty below a minute, and as long as no run has succeeded."""
        left = sum(self._left.values()) * self._seconds / self._done / self._jobs if self._done else 0.0
        hours, minutes = divmod(round(left / 60), 60)
        return f"; about {f'{hours} h ' if hours else ''}{minutes} min left" if hours or minutes else ""


def train(run: Run) -> tuple[Run, bool, str, float]:
    """Train a run, here or in a launcher's process.

    Returns it, whether it succeeded, the result in one line, and the seconds.
    """
    start = time.perf_counter()
    is_trained = True
    try:
        with redirect_output(run.log):
            result = run.train()
    except Exception as error:  # other runs must not stop
        with run.log.open("a", encoding="utf-8") as stream:
            traceback.print_exception(error, file=stream)
        is_trained, result = False, f"failed: {adapt_advice(first_line(error))} (see {run.log})"
    seconds = time.perf_counter() - start
    return run, is_trained, f"{result} ({format_duration(seconds)})" if is_trained else result, seconds


def remove_large_files(run_dir: Path, keep_model: bool) -> None:
    """Remove a finished run's checkpoints and, unless `keep_model`, its weights, but not the tokenizer."""
    remove_checkpoints(run_dir)
    if not keep_model:
        for weights in (run_dir / "model").glob("*.safetensors"):
            weights.unlink()


def write_verdict(plan: StudyPlan) -> dict[str, Any]:
    """Write results, report and verdict.json, and return the content of the latter."""
    rows, row_scores, clusters = read_results(plan)
    options = plan.options
    metric, (a, b) = options.args.metric, options.args.strategies
    adapting = [name for name, arm in options.arms.items() if arm.adaptation]
    summary = summarize_study(rows, row_scores, clusters, metric, options.effects, (a, b), adapting)
    verdict = describe_study(summary) | summary | describe_setup(plan)
    for name in reversed(WRITTEN_FILES):
        (plan.folder / name).unlink(missing_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), plan.folder / "results.parquet")
    write_study_report(plan.folder, verdict)
    write_json(plan.folder / "verdict.json", verdict)
    return verdict


def adapt_advice(message: str) -> str:
    """An error of a run with the advice that applies to a study."""
    for advice, own_advice in ADVICE.items():
        message = message.replace(advice, own_advice)
    return message


def print_progress(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)
