"""Results of a finished fine-tuning, read from its folder."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet

from sentiment.data.labels import PROBABILITY_PREFIX
from sentiment.exceptions import InputError, first_line, require
from sentiment.runs.folder import ADAPTATION_STRATEGY
from sentiment.storage import read_json, write_atomically

if TYPE_CHECKING:
    from datasets import Dataset

# Keys that must be in each file, with dots between levels.
RECORD_KEYS = (
    "data.fingerprints",
    *(f"options.{name}" for name in ("model_name_or_path", "dataset_name", "cleaning", "seed")),
)
METRICS_KEYS = (
    *(f"test.after.{name}" for name in ("accuracy_ci95", "loss", "per_class", "confusion_matrix")),
    *("history", "best_epoch", "resources.train_seconds"),
)
ADAPTATION_KEYS = ("steps", "history", "validation.after.loss")
COLUMNS = ("row", "text", "label", "predicted", "score")
ISSUES_SUMMARY = "label_issues.json"
ISSUES_FILE = "label_issues.csv"


@dataclass(frozen=True)
class FinishedRun:
    """A run's run.json (`record`, with `options`, `hardware`, `adaptation`), metrics.json and predictions by column."""

    folder: Path
    record: dict[str, Any]
    options: dict[str, Any]
    hardware: dict[str, Any]
    adaptation: dict[str, Any] | None
    metrics: dict[str, Any]
    predictions: dict[str, list[Any]]

    @property
    def correct(self) -> np.ndarray:
        """Whether each test row is classified correctly; shape (rows,)."""
        return np.equal(self.predictions["label"], self.predictions["predicted"])

    @property
    def language(self) -> str:
        """The language of the texts, as the run found it."""
        return get_language(self.record)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of their ids."""
        return list(self.metrics["test"]["after"]["per_class"])


def get_language(record: Mapping[str, Any]) -> str:
    """The language of a run's texts; English for records of before it was recorded, whose reports took all for it."""
    language: str = ((record.get("data") or {}).get("audit") or {}).get("language", "en")
    return language


def read_finished_run(folder: Path) -> FinishedRun:
    """The fine-tuning in a folder; raises InputError if it is missing, unfinished, damaged or inconsistent."""
    require((folder / "run.json").is_file(), f"no run in {folder}: pass the folder of a fine-tuning, like outputs/e2e")
    record = read_json_object(folder / "run.json", ["strategy"])
    require(
        record["strategy"] != ADAPTATION_STRATEGY,
        f"{folder} holds an adaptation: pass the fine-tuning that started from it",
    )
    require((folder / "metrics.json").is_file(), f"{folder} holds an unfinished run: finish it with --resume")
    record = read_json_object(folder / "run.json", RECORD_KEYS)
    metrics = read_json_object(folder / "metrics.json", METRICS_KEYS)
    predictions = read_predictions(folder / "predictions.parquet")
    counts = np.zeros_like(metrics["test"]["after"]["confusion_matrix"])
    try:
        np.add.at(counts, (predictions["label"], predictions["predicted"]), 1)
    except IndexError:
        counts[:] = -1
    if counts.tolist() != metrics["test"]["after"]["confusion_matrix"]:
        raise build_damage_error(folder / "predictions.parquet", "its labels do not match metrics.json")
    options, hardware, adaptation = record["options"], record.get("hardware") or {}, record.get("adaptation")
    return FinishedRun(folder, record, options, hardware, adaptation, metrics, predictions)


def read_json_object(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The content of a JSON file; raises InputError if it lacks one of the keys."""
    try:
        content: dict[str, Any] = read_json(path)
    except InputError as error:
        raise build_damage_error(path, first_line(error)) from error
    for key in keys:
        part: Any = content
        for name in key.split("."):
            if not isinstance(part, dict) or name not in part:
                raise build_damage_error(path, f"it has no {key}")
            part = part[name]
    return content


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """The columns of a predictions.parquet: `COLUMNS`, then the probability of each class, in order."""
    try:
        columns: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    except (OSError, pyarrow.ArrowException) as error:
        raise build_damage_error(path, first_line(error)) from error
    if tuple(columns)[: len(COLUMNS)] != COLUMNS:
        raise build_damage_error(path, f"it does not have the columns {', '.join(COLUMNS)}")
    return columns


def read_label_issues(folder: Path, run: FinishedRun) -> tuple[set[int], Path]:
    """The test rows of a run, as in its predictions, that the list of a folder suspects, and the run with its recipe.

    Raises:
        InputError: no list of label issues, or one of other data or another split.
    """
    csv.field_size_limit(2**31 - 1)  # the default is 131,072 characters
    try:
        summary = read_json_object(folder / ISSUES_SUMMARY, ("run_dir", "test_fingerprint"))
        with (folder / ISSUES_FILE).open(encoding="utf-8", newline="") as stream:
            suspected = {int(row["row"]) - 1 for row in csv.DictReader(stream) if row["split"] == "test"}
    except (OSError, KeyError, ValueError, csv.Error, InputError) as error:
        way_out = "pass the --output_dir of sentiment audit --label_issues"
        raise InputError(f"no list of label issues in {folder} ({first_line(error)}): {way_out}") from error
    is_of_run = summary["test_fingerprint"] == run.record["data"]["fingerprints"]["test"]
    is_of_run = is_of_run and suspected <= {*run.predictions["row"]}
    require(is_of_run, f"{folder} lists rows of other data or another split than {run.folder}: list its label issues")
    return suspected, Path(summary["run_dir"])


def stack_probabilities(predictions: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """The probability of each class for each row of a predictions.parquet; shape (rows, classes)."""
    columns = [values for name, values in predictions.items() if name.startswith(PROBABILITY_PREFIX)]
    return np.asarray(columns, dtype=np.float64).T


def build_damage_error(path: Path, reason: str) -> InputError:
    """The error for a file of a run that cannot be read."""
    return InputError(f"{path} is missing or damaged ({reason}): train that run again, with --overwrite")


def read_adaptation_metrics(run: FinishedRun) -> dict[str, Any] | None:
    """The metrics.json of the adaptation that a run started from; None if there is none or it cannot be read."""
    if not run.adaptation:
        return None
    recorded = Path(run.adaptation["run_dir"])
    # In the recorded folder, or beside this run if both were moved.
    for folder in (recorded, run.folder.parent / recorded.name):
        try:
            metrics = read_json_object(folder / "metrics.json", ADAPTATION_KEYS)
        except InputError:
            continue
        # The folder may hold another adaptation by now.
        if metrics["steps"] and metrics["validation"]["after"]["loss"] == run.adaptation["loss_after"]:
            return metrics
    return None


def build_prediction_columns(
    rows: Mapping[str, Any], class_names: Sequence[str], probabilities: np.ndarray
) -> dict[str, Any]:
    """The `COLUMNS`, then the probability of each class, from `row`, `text`, `label`, and shape (rows, classes)."""
    from sentiment.evaluation.metrics import choose_labels  # imports `evaluate`, which readers need not wait for

    columns = {name: rows[name] for name in ("row", "text", "label")}
    columns |= {"predicted": choose_labels(probabilities), "score": probabilities.max(axis=1)}
    return columns | {
        PROBABILITY_PREFIX + name: column for name, column in zip(class_names, probabilities.T, strict=True)
    }


def write_predictions(path: Path, split: "Dataset", probabilities: np.ndarray) -> None:
    """Write the columns of `build_prediction_columns` for a split as Parquet."""
    rows = {name: split[name][:] for name in ("row", "text", "label")}
    columns = build_prediction_columns(rows, split.features["label"].names, probabilities)
    with write_atomically(path) as staged:
        pyarrow.parquet.write_table(pyarrow.table(columns), staged)
