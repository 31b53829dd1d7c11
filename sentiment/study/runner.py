"""The steps of `sentiment study`: plan, checks, adaptations, fine-tunings, verdict, report."""

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet

from sentiment.config.arguments import CorpusArguments, ModelArguments
from sentiment.config.parsing import build_instances
from sentiment.data.corpus import load_corpus
from sentiment.evaluation.study_effects import summarize_study
from sentiment.exceptions import InputError, TrainingInterrupted, first_line
from sentiment.models.model_folder import resolve_model
from sentiment.reporting.formatting import format_duration
from sentiment.reporting.study_report import FIGURES, write_study_report
from sentiment.reporting.verdicts import describe_study
from sentiment.runs.folder import check_output_dir, remove_checkpoints
from sentiment.storage import write_json
from sentiment.study.arguments import LAUNCHERS
from sentiment.study.launchers import LauncherError, redirect_output
from sentiment.study.plan import PlannedFinetuning, PlannedRun, StudyPlan, build_study_plan, match_steps
from sentiment.study.results import describe_setup, is_adapted, is_finetuned, read_results

Run = TypeVar("Run", bound=PlannedRun)
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
        check_output_dir(plan.folder, "study", (*WRITTEN_FILES, *WRITTEN_FOLDERS, *adaptations), ["logs"])
        data = plan.data  # raises InputError before anything is written
        check_sources(plan)
        finished = [run for run in plan.finetunings if is_finetuned(run, data)]
        adapted = {planned.folder for planned in plan.adaptations if is_adapted(planned)}
        logs, total = plan.folder / "logs", len(plan.finetunings)
        logs.mkdir(parents=True, exist_ok=True)
        print_progress(f"{total} runs, {len(finished)} already finished; logs in {logs}")
        train_adaptations(plan, adapted)
        missing = total - len(finished) - train_finetunings(plan, finished, adapted)
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
        (corpus_args,) = build_instances([CorpusArguments], planned.options)
        if not (planned.folder / "metrics.json").exists() and not corpus_args.streaming:
            load_corpus(corpus_args)


def train_adaptations(plan: StudyPlan, adapted: set[Path]) -> None:
    """Train the adaptations that are not in the `adapted` folders, and add the folders of those that succeed."""
    for planned in plan.adaptations:
        matched = match_steps(planned)  # None if the adaptation to match has failed
        if matched and planned.folder not in adapted:
            print_progress(f"{planned} starts")
            _, is_trained, result = train(matched)
            print_progress(f"{planned}: {result}")
            if is_trained:
                adapted.add(planned.folder)
                remove_large_files(planned.folder, keep_model=True)


def train_finetunings(plan: StudyPlan, finished: Sequence[PlannedFinetuning], adapted: set[Path]) -> int:
    """Train the runs that are not finished, print a line for each, and return how many succeed."""
    args, start, total = plan.options.args, time.perf_counter(), len(plan.finetunings)
    for run in finished:
        remove_large_files(run.folder, args.keep_models)
    runs = [run for run in plan.finetunings if run not in finished and run.adaptation in {None, *adapted}]
    work, done, trained = sum(map(plan.data.estimate_work, runs)), 0.0, 0
    try:
        outcomes = LAUNCHERS[args.launcher](train, runs, args.jobs, plan.folder / "logs" / "processes.log")
        for count, (run, is_trained, result) in enumerate(outcomes, start=len(finished) + 1):
            if is_trained:
                trained += 1
                remove_large_files(run.folder, args.keep_models)
            done += plan.data.estimate_work(run)
            hours, minutes = divmod(round((time.perf_counter() - start) * (work - done) / done / 60), 60)
            left = f"; about {f'{hours} h ' if hours else ''}{minutes} min left" if hours or minutes else ""
            print_progress(f"[{count}/{total}] {run}: {result}{left}")
    except LauncherError as error:
        print_progress(str(error))
    return trained


def train(run: Run) -> tuple[Run, bool, str]:
    """Train a run, here or in a launcher's process, and return it, whether it succeeded, and the result in one line."""
    start = time.perf_counter()
    try:
        with redirect_output(run.log):
            result = run.train()
    except Exception as error:  # other runs must not stop
        with run.log.open("a", encoding="utf-8") as stream:
            traceback.print_exception(error, file=stream)
        return run, False, f"failed: {adapt_advice(first_line(error))} (see {run.log})"
    return run, True, f"{result} ({format_duration(time.perf_counter() - start)})"


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
    summary = summarize_study(rows, row_scores, clusters, metric, options.effects, (a, b))
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
