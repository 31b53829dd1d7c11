"""Probabilities for texts, in the order in which the texts came."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import ArrayLike
from transformers import PreTrainedModel

from sentiment.evaluation.metrics import compute_log_loss, compute_metrics
from sentiment.exceptions import InputError
from sentiment.models.padding import pad_batch


@torch.inference_mode()
def predict_probabilities(
    model: PreTrainedModel, input_ids: Sequence[Sequence[int]], pad_token_id: int, batch_size: int = 32
) -> np.ndarray:
    """Probability of `positive` for each text, in fp32 and in the given order; shape (texts,).

    Batches hold texts of like length, and padding is masked, so that batch-mates change an answer by rounding only.

    Raises:
        InputError: the model's weights give no finite answer.
    """
    was_training = model.training
    model.eval()
    order = sorted(range(len(input_ids)), key=lambda position: len(input_ids[position]))
    probabilities = np.empty(len(input_ids), dtype=np.float64)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = pad_batch([input_ids[position] for position in chosen], pad_token_id)
        logits = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).logits
        probabilities[chosen] = logits.float().softmax(dim=-1)[:, 1].cpu().numpy()
    model.train(was_training)
    if not np.isfinite(probabilities).all():
        raise InputError("the model answers with NaN: its weights are damaged, or training diverged (lower --lr)")
    return probabilities


def choose_labels(probabilities: np.ndarray) -> np.ndarray:
    """1 where `positive` is the likelier label, else 0; shape as given."""
    return (probabilities > 0.5).astype(int)


def evaluate_probabilities(probabilities: np.ndarray, labels: ArrayLike) -> dict[str, Any]:
    """The `loss` (mean cross-entropy in nats) and the figures of `compute_metrics` for the likelier label."""
    return {"loss": compute_log_loss(probabilities, labels)} | compute_metrics(choose_labels(probabilities), labels)


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
