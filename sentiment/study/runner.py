"""The sequence of `sentiment study`: plan, adaptations, fine-tunings, verdict, report."""

import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentiment.evaluation.study_effects import summarize_study
from sentiment.exceptions import TrainingInterrupted, first_line
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.reporting.rendering import format_duration
from sentiment.reporting.study_report import write_study_report
from sentiment.reporting.verdicts import describe_study
from sentiment.storage import write_json
from sentiment.study.checks import (
    WRITTEN_FILES,
    StudyData,
    adapt_advice,
    check_output,
    check_sources,
    is_adapted,
    is_finetuned,
    load_study_data,
)
from sentiment.study.launcher import log_to, run_tasks
from sentiment.study.plan import AdaptationPlan, FinetuningPlan, StudyPlan, build_study_plan, fill_in_steps
from sentiment.study.results import describe_setup, read_results, write_results

# What loading, auditing and reporting take of a run's time, in rows that it could train on meanwhile.
PREPARATION = 2_000


def run_study(argv: Sequence[str]) -> dict[str, Any] | None:
    """What verdict.json holds, once all runs are trained; None where some could not be, which stderr names.

    Runs that an earlier call finished are left as they are, and one that it was interrupted in is resumed.

    Args:
        argv: the words after `sentiment study`: at most one `study.yaml` in front, then flags.

    Raises:
        InputError: wrong options or data, seen before anything is trained; or runs that cannot be compared.
    """
    plan = build_study_plan(argv)
    check_output(plan.folder)
    data = load_study_data(plan)
    check_sources(plan)
    finished = [run for run in plan.finetunings if is_finetuned(run, data)]
    adapted = {adaptation.folder for adaptation in fill_in_steps(plan.adaptations) if is_adapted(adaptation)}
    (plan.folder / "logs").mkdir(parents=True, exist_ok=True)
    print_progress(
        f"{len(plan.finetunings)} runs, {len(finished)} of them finished already; logs in {plan.folder / 'logs'}"
    )
    try:
        adapted |= train_adaptations(plan, adapted)
        trained = train_finetunings(plan, data, finished, adapted)
    except (KeyboardInterrupt, TrainingInterrupted) as error:
        print_progress("interrupted: the same command goes on from here")
        if isinstance(error, TrainingInterrupted):  # whose own message is for a single run
            sys.exit(error.exit_code)
        raise
    missing = len(plan.finetunings) - len(finished) - trained
    if missing:
        print_progress(
            f"error: {missing} of {len(plan.finetunings)} runs are missing, and there is no verdict without them: mend "
            "what is said above, and give the same command again; finished runs are kept"
        )
        return None
    return write_study(plan, data)


def write_study(plan: StudyPlan, data: StudyData) -> dict[str, Any]:
    """What verdict.json holds; it, the report and the results stand in the study's folder then."""
    rows, correct, clusters = read_results(plan, data)
    summary = summarize_study(rows, correct, clusters)
    verdict = describe_study(summary) | summary | describe_setup(plan, data)
    for name in reversed(WRITTEN_FILES):
        (plan.folder / name).unlink(missing_ok=True)
    write_results(plan.folder / "results.parquet", rows)
    write_study_report(plan.folder, verdict)
    write_json(plan.folder / "verdict.json", verdict)
    return verdict


def train_adaptations(plan: StudyPlan, adapted: set[Path]) -> set[Path]:
    """Trains what is not among the `adapted` folders, with all cores, and gives the folders of what it trained."""
    trained = set()
    for planned in plan.adaptations:
        if planned.folder not in adapted:
            # Only now: a placebo's steps are known when the adaptation before it is done.
            found = fill_in_steps([planned])
            if found and train_adaptation(found[0], plan.folder / "logs" / f"{planned.folder.name}.log"):
                trained.add(planned.folder)
    return trained


def train_adaptation(planned: AdaptationPlan, log: Path) -> bool:
    """Whether the adaptation could be trained; says how it went."""
    title, clock = (
        f"adaptation to {' and '.join(planned.corpus_args.dataset_name)} ({planned.folder})",
        time.perf_counter(),
    )
    print_progress(f"{title} begins")
    try:
        with log_to(log):
            metrics = AdaptationRun("mlm", planned.model_args, planned.corpus_args, planned.args).execute()
    except Exception as error:  # the arms that do not need it go on
        print_progress(f"{title}: failed: {describe_failure(error, log)}")
        return False
    shutil.rmtree(planned.folder / "checkpoints", ignore_errors=True)
    before, after = (metrics["validation"][moment]["loss"] for moment in ("before", "after"))
    seconds = format_duration(time.perf_counter() - clock)
    print_progress(f"{title}: loss {before:.2f} -> {after:.2f} on held-out text ({seconds})")
    return True


@dataclass(frozen=True)
class Task:
    """A fine-tuning to train, where its log goes, and whether its weights stay."""

    run: FinetuningPlan
    log: Path
    keep_models: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a fine-tuning: test accuracy, or the reason why there is none."""

    run: FinetuningPlan
    seconds: float
    accuracy: float | None = None
    reason: str = ""


def train_finetunings(plan: StudyPlan, data: StudyData, finished: Sequence[FinetuningPlan], adapted: set[Path]) -> int:
    """How many of the runs that were not finished could be trained; one line on stderr for each."""
    waiting = [run for run in plan.finetunings if run not in finished]
    ready = [run for run in waiting if run.adaptation is None or run.adaptation in adapted]
    tasks = [Task(run, plan.folder / "logs" / f"{run.folder.name}.log", plan.args.keep_models) for run in ready]
    for run in finished:
        remove_bulk(run.folder, plan.args.keep_models)
    work = sum(estimate_work(run, data) for run in ready)
    begun, done, trained = time.perf_counter(), 0.0, 0
    try:
        outcomes = run_tasks(train_finetuning, tasks, plan.args.jobs, plan.folder / "logs" / "processes.log")
        for count, outcome in enumerate(outcomes, start=len(finished) + 1):
            done += estimate_work(outcome.run, data)
            trained += outcome.accuracy is not None
            left = (time.perf_counter() - begun) * (work - done) / done
            print_progress(f"[{count}/{len(plan.finetunings)}] {describe_outcome(outcome, left)}")
    except BrokenProcessPool:
        print_progress("a process was killed, perhaps for want of memory: pass fewer --jobs")
    return trained


def train_finetuning(task: Task) -> Outcome:
    """Trains one run in this process; any error becomes the outcome's reason."""
    run, clock = task.run, time.perf_counter()
    strategy = "finetune" if run.adaptation else "e2e"
    try:
        with log_to(task.log):
            metrics = FinetuningRun(strategy, run.model_args, run.data_args, replace(run.args)).execute()
        remove_bulk(run.folder, task.keep_models)
    except Exception as error:  # one run that fails must not stop the others
        return Outcome(run, time.perf_counter() - clock, reason=describe_failure(error, task.log))
    return Outcome(run, time.perf_counter() - clock, accuracy=metrics["test"]["after"]["accuracy"])


def remove_bulk(run_dir: Path, keep_models: bool) -> None:
    """Removes a finished run's checkpoints and, unless they are to be kept, its weights: 90 MB and more a run.

    The tokenizer stays, by which `sentiment compare` slices errors.
    """
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    if not keep_models:
        for weights in (run_dir / "model").glob("*.safetensors"):
            weights.unlink()


def estimate_work(run: FinetuningPlan, data: StudyData) -> float:
    """How long a run may take beside others: rows that it sees, one without gradients counting a third."""
    held_out = run.args.num_train_epochs * data.validation_rows + 2 * data.test_rows
    return run.args.num_train_epochs * data.train_rows[run.budget] + held_out / 3 + PREPARATION


def describe_outcome(outcome: Outcome, seconds_left: float) -> str:
    """A line of progress."""
    result = f"failed: {outcome.reason}"
    if outcome.accuracy is not None:
        result = f"test accuracy {outcome.accuracy:.3f} ({format_duration(outcome.seconds)})"
    hours, minutes = divmod(round(seconds_left / 60), 60)
    left = f"; about {f'{hours} h ' if hours else ''}{minutes} min left" if hours or minutes else ""
    return f"{outcome.run.title}: {result}{left}"


def describe_failure(error: Exception, log: Path) -> str:
    """The error in one line; its traceback is added to the log."""
    with log.open("a", encoding="utf-8") as stream:
        traceback.print_exception(error, file=stream)
    return f"{adapt_advice(first_line(error))} (see {log})"


def print_progress(line: str) -> None:
    """Prints a line of progress."""
    print(line, file=sys.stderr, flush=True)
