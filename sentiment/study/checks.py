"""What is looked at before a study trains anything: its folder, its data, and what earlier sessions left."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentiment.data.assignment import sample_training_rows
from sentiment.data.corpus import load_corpus
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.splits import compute_fingerprint
from sentiment.exceptions import InputError, require
from sentiment.models.model_folder import resolve_model
from sentiment.reporting.study_report import FIGURES
from sentiment.runs.folder import check_same_data, is_finished, read_run
from sentiment.storage import list_folder, read_json
from sentiment.study.plan import AdaptationPlan, FinetuningPlan, StudyPlan

# In the order in which they are written.
WRITTEN_FILES = ("results.parquet", *FIGURES, "report.md", "report.html", "verdict.json")
WRITTEN_FOLDERS = re.compile(r"runs|logs|(mlm|placebo)(_\d+)?")


@dataclass(frozen=True)
class StudyData:
    """The one split of all runs: rows of each budget, of validation and of test, and each run's fingerprints.

    `fingerprints` maps a budget and a seed to those of train, validation and test.
    """

    train_rows: dict[str, int]
    validation_rows: int
    test_rows: int
    fingerprints: dict[tuple[str, int], dict[str, str]]


def check_output(folder: Path) -> None:
    """Refuses a folder that holds something else than a study.

    Raises:
        InputError: names what it holds.
    """
    for path in (folder, *folder.parents):
        require(path.is_dir() or not path.exists(), f"{path} is a file: pass another --output_dir")
    names = {path.name.removesuffix(".part") for path in list_folder(folder)}
    strangers = sorted(name for name in names.difference(WRITTEN_FILES) if not WRITTEN_FOLDERS.fullmatch(name))
    require(not strangers, f"{folder} holds {', '.join(strangers[:3])}, no part of a study: pass another --output_dir")
    require(not names or "logs" in names, f"{folder} is not empty and holds no study: pass another --output_dir")


def load_study_data(plan: StudyPlan) -> StudyData:
    """The split that all runs share, loaded once to see that every budget can be drawn from it.

    Raises:
        InputError: wrong data, or budgets that it cannot give.
    """
    args = plan.args
    splits = load_split_reviews(replace(plan.options.data_args, max_train_samples=None), args.seeds[0]).splits
    held_out = {name: compute_fingerprint(splits[name]) for name in ("validation", "test")}
    rows, fingerprints = {}, {}
    for budget in args.budgets:
        for seed in args.seeds:
            try:
                part = splits["train"] if budget == "all" else sample_training_rows(splits["train"], int(budget), seed)
            except InputError as error:
                raise InputError(str(error).replace("--max_train_samples", "--budgets")) from error
            rows[budget] = len(part)
            fingerprints[budget, seed] = {"train": compute_fingerprint(part)} | held_out
    require(
        len(set(rows.values())) == len(rows),
        f"--budgets {' '.join(rows)}: two are the same, since the training split has {max(rows.values()):,} rows",
    )
    return StudyData(rows, len(splits["validation"]), len(splits["test"]), fingerprints)


def check_sources(plan: StudyPlan) -> None:
    """Sees that the model and the texts of the adaptations still to be done can be had, and fetches them if need be.

    Raises:
        InputError: they cannot.
    """
    resolve_model(plan.options.model_args.model_name_or_path)
    for adaptation in plan.adaptations:
        if not (adaptation.folder / "metrics.json").exists() and not adaptation.corpus_args.streaming:
            load_corpus(
                adaptation.corpus_args.dataset_name, adaptation.corpus_args.data_dir, adaptation.corpus_args.split
            )


def is_adapted(adaptation: AdaptationPlan) -> bool:
    """Whether this adaptation is finished.

    Raises:
        InputError: its folder holds another one.
    """
    return _is_finished(adaptation.folder, adaptation.options)


def is_finetuned(run: FinetuningPlan, data: StudyData) -> bool:
    """Whether this fine-tuning is finished.

    Raises:
        InputError: its folder holds one with other options, on other data, or from another adapted model.
    """
    finished = _is_finished(run.folder, run.options)
    if (run.folder / "run.json").exists():
        check_data(run, data)
        require(
            run.adaptation is None or started_from(read_run(run.folder), run.adaptation),
            f"{run.folder} started from another model than {run.adaptation} holds: remove {run.folder}, "
            "or pass another --output_dir",
        )
    return finished


def check_data(run: FinetuningPlan, data: StudyData) -> None:
    """Refuses a run that was not trained, validated and tested on the rows that it should be.

    Raises:
        InputError: names the splits that differ.
    """
    try:
        check_same_data(run.folder, data.fingerprints[run.budget, run.seed])
    except InputError as error:
        raise InputError(adapt_advice(str(error))) from error


def started_from(record: dict[str, Any], adaptation: Path) -> bool:
    """Whether a run, by its run.json, started from the model that the folder of an adaptation holds."""
    recorded = record.get("adaptation")
    if not recorded or not (adaptation / "metrics.json").exists():
        return False
    loss = read_json(adaptation / "metrics.json")["validation"]["after"]["loss"]
    found: bool = (recorded["loss_after"], recorded["seconds"]) == (loss, read_run(adaptation)["seconds"])
    return found


def adapt_advice(message: str) -> str:
    """What an error of a run says, for a study, which has no --overwrite."""
    return message.replace("or --overwrite", "or remove that folder")


def _is_finished(folder: Path, options: dict[str, Any]) -> bool:
    try:
        return is_finished(folder, options, resume=True)
    except InputError as error:
        raise InputError(adapt_advice(str(error))) from error
