"""Whether an exported model still answers as torch does, and how much faster."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentiment.data.sources import load_reviews
from sentiment.data.splits import choose_labelled_split, join_labelled
from sentiment.evaluation.predictions import choose_labels
from sentiment.exceptions import InputError, require
from sentiment.models.classifier import BertSentimentClassifier
from sentiment.models.padding import pad_batch
from sentiment.runs.finished import read_predictions
from sentiment.serving.checkpoint import Checkpoint
from sentiment.serving.predictor import BATCH_SIZE, compute_probabilities

# Logits, shape (texts, 2), of one batch of token ids.
Compute = Callable[[Sequence[Sequence[int]]], np.ndarray]
TIMED_TEXTS = 256
TURNS = 5


@dataclass(frozen=True)
class LabelledTexts:
    """What models are compared on: token ids, labels (0 or 1), and in words where they come from."""

    source: str
    input_ids: list[list[int]]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


def load_labelled_texts(
    model_dir: str, checkpoint: Checkpoint, dataset: str | None, split: str | None, data_dir: str | None
) -> LabelledTexts:
    """The labelled rows of a dataset, chosen as `sentiment evaluate` does, or the run's own test rows without one.

    Raises:
        InputError: no dataset is given and the folder is not that of a run; or either cannot be read.
    """
    if dataset is not None:
        reviews = load_reviews(dataset, data_dir)
        name = choose_labelled_split(reviews, [split] if split else ["test", "validation", "train"])
        part = join_labelled(reviews, [name])
        input_ids = checkpoint.prepare(part["text"][:])
        return LabelledTexts(f"{dataset}, split {name}", input_ids, np.asarray(part["label"][:]))
    require(split is None and data_dir is None, "--split and --data_dir say more of --dataset: pass it too")
    path = Path(model_dir) / "predictions.parquet"
    require(
        path.is_file(),
        f"{model_dir} has no test rows to check the export on: pass the folder of a run, or --dataset",
    )
    columns = read_predictions(path)
    require(bool(columns["text"]), f"{path} has no rows: pass labelled texts by --dataset")
    # As the run's model saw them: cleaned, and cleaning once more could change them.
    return LabelledTexts("the run's test rows", checkpoint.tokenize(columns["text"]), np.asarray(columns["label"]))


def build_torch_compute(model: BertSentimentClassifier, pad_token_id: int) -> Compute:
    """The model run by torch in fp32, on the device where it is."""

    @torch.inference_mode()
    def compute(input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        batch = pad_batch(input_ids, pad_token_id)
        logits: np.ndarray = model(**batch).logits.numpy()
        return logits

    return compute


def compute_answers(compute: Compute, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Probability of `positive` for each text, in order; shape (texts,)."""
    probabilities = np.empty(len(input_ids))
    for chosen in sort_into_batches(input_ids):
        probabilities[chosen] = compute_probabilities(compute([input_ids[position] for position in chosen]))
    return probabilities


def compare_answers(answers: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, rows whose label is another than expected, and the largest difference in probability.

    An answer that is not a number counts as wrong, and as different as can be.

    >>> compare_answers(np.array([0.9, 0.4]), np.array([0.8, 0.6]), np.array([1, 1]))
    {'accuracy': 0.5, 'changed_labels': 1, 'largest_difference': 0.2}
    """
    is_number = np.isfinite(answers)
    predicted = np.where(is_number, choose_labels(answers), -1)
    difference = np.nan_to_num(np.abs(answers - expected), nan=1.0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "changed_labels": int((predicted != choose_labels(expected)).sum()),
        "largest_difference": round(float(difference.max()), 12),
    }


def measure_speed(computes: Mapping[str, Compute], input_ids: Sequence[Sequence[int]]) -> dict[str, float]:
    """Texts a second of each model, on up to `TIMED_TEXTS` of the texts, in batches of like length.

    The models take turns, so that a busy machine slows all alike; the medians of the turns count. Each must have run
    before.
    """
    by_length = sorted(input_ids, key=len)
    texts = by_length[:: -(-len(by_length) // TIMED_TEXTS)]
    batches = [[texts[position] for position in chosen] for chosen in sort_into_batches(texts)]
    seconds: dict[str, list[float]] = {name: [] for name in computes}
    for _ in range(TURNS):
        for name, compute in computes.items():
            started = time.perf_counter()
            for batch in batches:
                compute(batch)
            seconds[name].append(time.perf_counter() - started)
    return {name: len(texts) / statistics.median(values) for name, values in seconds.items()}


def sort_into_batches(input_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions of the texts in batches of `BATCH_SIZE`, short texts first.

    >>> sort_into_batches([[1, 2, 3], [1], [1, 2]])
    [[1, 2, 0]]
    """
    order = sorted(range(len(input_ids)), key=lambda position: len(input_ids[position]))
    return [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]


def check_finite(probabilities: np.ndarray) -> None:
    """Refuses a model of which nothing can be compared.

    Raises:
        InputError: it answers with NaN.
    """
    if not np.isfinite(probabilities).all():
        raise InputError("the model answers with NaN: its weights are damaged, or training diverged (lower --lr)")
