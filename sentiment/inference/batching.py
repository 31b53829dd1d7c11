"""Texts in batches of like length: sorted, padded, and answered in the order they came."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from sentiment.exceptions import InputError

BATCH_SIZE = 32


def pad_batch(rows: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of the rows, padded to the longest; each of shape (rows, tokens)."""
    tensors = [torch.tensor(row) for row in rows]
    return {
        "input_ids": torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=pad_token_id),
        "attention_mask": torch.nn.utils.rnn.pad_sequence(
            [torch.ones_like(tensor) for tensor in tensors], batch_first=True
        ),
    }


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


def sort_into_batches(input_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions of the texts in batches of `BATCH_SIZE`, short texts first.

    >>> sort_into_batches([[1, 2, 3], [1], [1, 2]])
    [[1, 2, 0]]
    """
    order = sorted(range(len(input_ids)), key=lambda position: len(input_ids[position]))
    return [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
