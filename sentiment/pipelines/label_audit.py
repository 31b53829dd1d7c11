"""Label issues of a run's data: its recipe is trained on all folds but one, and judges the labels of that one."""

import math
import shutil
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from sklearn.model_selection import StratifiedGroupKFold

from sentiment.config.parsing import build_arguments
from sentiment.data.assignment import assign_stratified
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.labels import shorten
from sentiment.data.leaks import assign_clusters, find_near_duplicates
from sentiment.evaluation.label_issues import LabelIssues, check_cleanlab, find_label_issues
from sentiment.exceptions import InputError, require
from sentiment.inference.table_writers import CsvWriter
from sentiment.pipelines import finetuning
from sentiment.pipelines.evaluation import get_class_names
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.reporting.rendering import write_report_files
from sentiment.runs.folder import check_output_dir, check_same_data, remove_checkpoints
from sentiment.runs.lineage import list_base_runs, reads_labels
from sentiment.runs.results import ISSUES_FILE, ISSUES_SUMMARY, read_finished_run, read_predictions, stack_probabilities
from sentiment.storage import write_atomically, write_json

FOLDS_FOLDER = "folds"
SHOWN_ISSUES = 100  # in the report
TRAIN_SHARE = 8  # training rows for one of validation
WRITTEN_FILES = (FOLDS_FOLDER, ISSUES_FILE, "report.md", "report.html", ISSUES_SUMMARY)
COLUMNS = ("row", "split", "label", "suggested_label", "score", "label_score", "text", "similar_text", "similar_label")
# Of a run, replaced in its folds: the rows are cleaned, labelled and split already.
FOLD_OPTIONS: dict[str, Any] = {
    "cleaning": "none",
    "keep_duplicates": True,
    "max_rows": "all",
    "split": "auto",
    "preset": "auto",
    "text_column_names": "text",
    "label_column_name": "label",
    "baselines": False,
    "keep_checkpoints": False,
    "resume": True,
    "overwrite": False,
    "push_to_hub": False,
    **dict.fromkeys(("label_mapping", "unlabelled_value", "encoding", "dataset_revision", "max_train_samples")),
}


class FoldRun(FinetuningRun):
    """A fine-tuning whose adaptation, if there is one, may have read the tested texts, but not their labels."""

    def describe_base_model(self, model_path: str, _: DatasetDict) -> dict[str, Any] | None:
        """None; raises InputError for a model that was trained on labels before, perhaps those that are tested."""
        for run_dir in list_base_runs(model_path):
            require(not reads_labels(run_dir), f"the run starts from {run_dir}, which may have seen the labels")
        return None


@dataclass(frozen=True)
class Fold:
    """A fold: its folder, the positions of its rows, and the split of each row in its run (test for its own rows)."""

    folder: Path
    rows: np.ndarray
    split_of: np.ndarray


def audit_label_issues(
    run: str | Path, output_dir: str | Path = "outputs/label_issues", folds: int = 5, data_dir: str | None = None
) -> dict[str, Any]:
    """Find rows of all splits of a fine-tuning whose label is most likely wrong; write a table and a report.

    Each row is judged by a model trained with the run's options on the other folds. A text and one that contains it are
    in one fold, near-duplicates may not be: the list names those with another label. Trained folds are kept, and an
    interrupted one is resumed. Returns the content of label_issues.json.

    Raises:
        InputError: no finished fine-tuning, other data than it was trained on, or too few rows of a class.
    """
    check_cleanlab()
    require(2 <= folds <= 20, f"--folds {folds}: from 2 to 20")
    output = Path(output_dir)
    check_output_dir(output, "list of label issues", WRITTEN_FILES, (FOLDS_FOLDER,))
    finished = read_finished_run(Path(run))
    options = finished.options | ({"data_dir": data_dir} if data_dir else {})
    _, data_args, _ = build_arguments(finetuning.ARGUMENTS, options | {"resume": False})
    reviews = load_split_reviews(data_args, options["seed"])
    check_same_data(Path(run), reviews.fingerprints)
    rows = concatenate_datasets(list(reviews.splits.values()))
    clusters = assign_clusters(rows["text"][:])
    splits = [name for name, part in reviews.splits.items() for _ in range(len(part))]
    probabilities = np.empty((len(rows), len(finished.class_names)))
    for number, fold in enumerate(build_folds(rows, clusters, folds, options["seed"], output / FOLDS_FOLDER), start=1):
        print(f"fold {number} of {folds}: {len(fold.rows):,} rows, in {fold.folder}", file=sys.stderr)
        probabilities[fold.rows] = predict_fold(rows, fold, finished.record["strategy"], options)
    issues = find_label_issues(rows["label"][:], probabilities, finished.class_names)
    found = list_issues(rows.add_column("split", splits), issues, probabilities, clusters)
    with write_atomically(output / ISSUES_FILE) as staged, staged.open("w", encoding="utf-8", newline="") as stream:
        CsvWriter(stream, COLUMNS).write(found)
    labels = np.asarray(rows["label"][:])
    suspected = np.bincount(labels[issues.rows], minlength=len(finished.class_names))
    summary = {
        "run": str(run),
        "run_dir": str(Path(run).resolve()),
        "test_fingerprint": reviews.fingerprints["test"],
        "dataset": options["dataset_name"],
        "folds": folds,
        "rows": len(rows),
        "suspected": len(found),
        "suspected_by_split": dict(Counter(row["split"] for row in found)),
        "estimated_share": issues.share,
        "accuracy_out_of_sample": float((probabilities.argmax(axis=1) == labels).mean()),
        "classes": {
            name: {"rows": int((labels == number).sum()), "suspected": int(count), "estimated_share": share}
            for number, ((name, share), count) in enumerate(zip(issues.shares.items(), suspected, strict=True))
        },
    }
    write_report_files(output, "label_issues.j2", {"summary": summary, "issues": found[:SHOWN_ISSUES]}, {})
    write_json(output / ISSUES_SUMMARY, summary)
    return summary


def build_folds(rows: Dataset, clusters: np.ndarray, folds: int, seed: int, folder: Path) -> list[Fold]:
    """The folds, stratified by class and grouped by cluster; of the rows of the others, a ninth is for validation.

    Raises InputError if a class has too few rows.
    """
    labels, names = np.asarray(rows["label"][:]), get_class_names(rows)
    counts = [len(np.unique(clusters[labels == label])) for label in range(len(names))]
    needed = math.ceil((TRAIN_SHARE + 1) * folds / (folds - 1)) + folds
    few = [f"{count} of {name!r}" for name, count in zip(names, counts, strict=True) if count < needed]
    require(
        not few,
        f"--folds {folds}: needs {needed} different texts of each class, and there are {shorten(', '.join(few))}: "
        "pass fewer folds, or train a run that joins or leaves out these classes (--label_mapping)",
    )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = []
    for number, (others, own) in enumerate(splitter.split(labels, labels, clusters), start=1):
        split_of = np.full(len(rows), "test", dtype=object)
        assigned = assign_stratified(clusters[others].tolist(), labels[others], (TRAIN_SHARE, 1), seed, names)
        split_of[others] = np.where(assigned == 1, "validation", "train")
        found.append(Fold(folder / f"fold_{number}_of_{folds}", own, split_of))
    return found


def predict_fold(rows: Dataset, fold: Fold, strategy: str, options: dict[str, Any]) -> np.ndarray:
    """The calibrated probabilities of the fold's rows by a model trained on the others; shape (rows, classes)."""
    files = {}
    for name in ("train", "validation", "test"):
        path = fold.folder.with_suffix(f".{name}.parquet")
        part = rows.select(np.flatnonzero(fold.split_of == name)).select_columns(["text", "label"])
        with write_atomically(path) as staged:
            part.to_parquet(str(staged))
        files[f"{name}_file"] = str(path)
    changed = FOLD_OPTIONS | files | {"dataset_name": files["train_file"], "output_dir": str(fold.folder)}
    try:
        FoldRun(strategy, *build_arguments(finetuning.ARGUMENTS, options | changed)).execute()
    except InputError as error:
        raise InputError(str(error).replace("or --overwrite", f"or remove {fold.folder}")) from error
    predictions = read_predictions(fold.folder / "predictions.parquet")
    require(predictions["text"] == rows["text"][fold.rows], f"{fold.folder} holds another fold: remove it")
    # Its predictions are kept.
    remove_checkpoints(fold.folder)
    shutil.rmtree(fold.folder / "model", ignore_errors=True)
    return stack_probabilities(predictions)


def list_issues(
    rows: Dataset, issues: LabelIssues, probabilities: np.ndarray, clusters: np.ndarray
) -> list[dict[str, Any]]:
    """The suspected rows by `COLUMNS`: `score` is the probability of the suggested label, `label_score` of the given.

    `row` counts from 1 in the order of the files. `similar_text` is a near-duplicate with another label, or else a text
    with another label that contains this one or is contained in it.
    """
    names, labels = get_class_names(rows), rows["label"][:]
    members = defaultdict(list)
    for position, cluster in enumerate(clusters.tolist()):
        members[cluster].append(position)
    near = find_near_duplicates(rows["text"][:], issues.rows.tolist())
    found = []
    for position, suggested in zip(issues.rows.tolist(), issues.suggested.tolist(), strict=True):
        alike = [*near.get(position, ()), *members[clusters[position]]]
        similar = [other for other in alike if labels[other] != labels[position]]
        scores, row = probabilities[position], rows[position]
        found.append(
            {
                "row": row["row"] + 1,
                "split": row["split"],
                "label": names[row["label"]],
                "suggested_label": names[suggested],
                "score": round(float(scores[suggested]), 6),
                "label_score": round(float(scores[row["label"]]), 6),
                "text": row["text"],
                "similar_text": rows[similar[0]]["text"] if similar else None,
                "similar_label": names[labels[similar[0]]] if similar else None,
            }
        )
    return found
