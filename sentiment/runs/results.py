"""A finished fine-tuning, read back from its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset

from sentiment.evaluation.metrics import choose_labels
from sentiment.exceptions import InputError, first_line, require
from sentiment.storage import read_json

RECORD_KEYS = (
    "data.fingerprints",
    "options.model_name_or_path",
    "options.dataset_name",
    "options.cleaning",
    "options.seed",
)
METRICS_KEYS = (
    *(f"test.after.{name}" for name in ("accuracy_ci95", "loss", "per_class", "confusion_matrix")),
    *("history", "best_epoch", "resources.train_seconds"),
)
ADAPTATION_KEYS = ("steps", "history", "validation.after.loss")
COLUMNS = ("row", "text", "label", "predicted", "probability")


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, what its run.json and metrics.json hold, and the columns of its predictions.parquet."""

    folder: Path
    record: dict[str, Any]
    metrics: dict[str, Any]
    predictions: dict[str, list[Any]]

    @property
    def options(self) -> dict[str, Any]:
        """The options that it ran with."""
        options: dict[str, Any] = self.record["options"]
        return options

    @property
    def adaptation(self) -> dict[str, Any] | None:
        """What run.json says of the adaptation that its base model comes from; None where it is not from one."""
        return self.record.get("adaptation")

    @property
    def right(self) -> list[bool]:
        """Whether each test row got its label."""
        labels, predicted = self.predictions["label"], self.predictions["predicted"]
        return [label == guess for label, guess in zip(labels, predicted, strict=True)]


def read_finished_run(folder: Path) -> FinishedRun:
    """The fine-tuning in a folder.

    Raises:
        InputError: there is none, it is not finished, or its files are damaged or contradict each other.
    """
    require((folder / "run.json").is_file(), f"no run in {folder}: pass the folder of a fine-tuning, as outputs/e2e")
    record = read_object(folder / "run.json", ["strategy"])
    require(record["strategy"] != "mlm", f"{folder} holds an adaptation: pass the fine-tuning that started from it")
    require((folder / "metrics.json").is_file(), f"{folder} holds an unfinished run: finish it with --resume")
    check_keys(folder / "run.json", record, RECORD_KEYS)
    metrics = read_object(folder / "metrics.json", METRICS_KEYS)
    predictions = read_predictions(folder / "predictions.parquet")
    counts = [[0, 0], [0, 0]]
    for label, guess in zip(predictions["label"], predictions["predicted"], strict=True):
        counts[label == 1][guess == 1] += 1
    if counts != metrics["test"]["after"]["confusion_matrix"]:
        raise damage(folder / "predictions.parquet", "metrics.json counts other labels")
    return FinishedRun(folder, record, metrics, predictions)


def read_object(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """What a JSON file holds, once each of the keys, with dots between levels, is seen to be in it."""
    try:
        content: dict[str, Any] = read_json(path)
    except InputError as error:
        raise damage(path, first_line(error)) from error
    check_keys(path, content, keys)
    return content


def check_keys(path: Path, content: Any, keys: Sequence[str]) -> None:
    """Refuses what was read from a file where one of the keys, with dots between levels, is not in it."""
    for key in keys:
        part = content
        for name in key.split("."):
            if not isinstance(part, dict) or name not in part:
                raise damage(path, f"it has no {key}")
            part = part[name]


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """The columns of a run's predictions.parquet."""
    try:
        columns: dict[str, list[Any]] = pyarrow.parquet.read_table(path, columns=list(COLUMNS)).to_pydict()
    except (OSError, pyarrow.ArrowException) as error:
        raise damage(path, first_line(error)) from error
    if tuple(columns) != COLUMNS:
        raise damage(path, f"it has not the columns {', '.join(COLUMNS)}")
    return columns


def damage(path: Path, what: str) -> InputError:
    """The error that says what is wrong with a file of a run that cannot be read."""
    return InputError(f"{path} is missing or damaged ({what}): train that run again, with --overwrite")


def read_adaptation_metrics(run: FinishedRun) -> dict[str, Any] | None:
    """What metrics.json of the adaptation holds that a run started from; None where it cannot be read any more."""
    if not run.adaptation:
        return None
    recorded = Path(run.adaptation["run_dir"])
    # As recorded, or beside this run: the folders of runs are moved together.
    for folder in (recorded, run.folder.parent / recorded.name):
        try:
            metrics = read_object(folder / "metrics.json", ADAPTATION_KEYS)
        except InputError:
            continue
        # Another adaptation may have been written there since.
        if metrics["steps"] and metrics["validation"]["after"]["loss"] == run.adaptation["loss_after"]:
            return metrics
    return None


def write_predictions(path: Path, part: Dataset, probabilities: np.ndarray) -> None:
    """Writes `row`, `text`, `label`, `predicted` and `probability` (of positive) of a split as Parquet."""
    Dataset.from_dict(
        {
            "row": part["row"][:],
            "text": part["text"][:],
            "label": part["label"][:],
            "predicted": choose_labels(probabilities),
            "probability": probabilities,
        }
    ).to_parquet(path)
