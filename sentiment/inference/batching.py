"""Batches of texts of similar length: sorting, padding, and probabilities in the order of the texts."""

from collections.abc import Callable, Sequence

import numpy as np

from sentiment.exceptions import require

BATCH_SIZE = 32
# Computes logits, shape (texts, classes), for the token ids of one batch.
ComputeLogits = Callable[[Sequence[Sequence[int]]], np.ndarray]


def pad_batch(input_ids: Sequence[Sequence[int]], pad_token_id: int, min_length: int = 1) -> dict[str, np.ndarray]:
    """`input_ids` and `attention_mask` as int64, padded to the longest text; each of shape (texts, tokens).

    >>> pad_batch([[2, 7, 3], [2, 3]], pad_token_id=0)["input_ids"].tolist()
    [[2, 7, 3], [2, 3, 0]]
    """
    length = max(min_length, *map(len, input_ids))
    padded = np.full((len(input_ids), length), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros_like(padded)
    for row, ids in enumerate(input_ids):
        padded[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return {"input_ids": padded, "attention_mask": attention_mask}


def sort_into_batches(input_ids: Sequence[Sequence[int]], batch_size: int = BATCH_SIZE) -> list[list[int]]:
    """Positions of the texts in batches of similar length, shortest first.

    >>> sort_into_batches([[1, 2, 3], [1], [1, 2]], batch_size=2)
    [[1, 2], [0]]
    """
    order = sorted(range(len(input_ids)), key=lambda position: len(input_ids[position]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def compute_probabilities(logits: np.ndarray) -> np.ndarray:
    """Probability of each class from logits, in fp64; both of shape (texts, classes)."""
    # In a fifth of the time of scipy's softmax, which checks its input.
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def predict_in_batches(
    compute_logits: ComputeLogits,
    input_ids: Sequence[Sequence[int]],
    batch_size: int = BATCH_SIZE,
    temperature: float = 1.0,
) -> np.ndarray:
    """Probability of each class for each text, in order; shape (texts, classes), or (0, 0) without texts.

    Logits are divided by `temperature`.
    """
    probabilities = np.empty((0, 0))
    for batch in sort_into_batches(input_ids, batch_size):
        found = compute_probabilities(compute_logits([input_ids[position] for position in batch]) / temperature)
        if not probabilities.size:
            probabilities = np.empty((len(input_ids), found.shape[1]))
        probabilities[batch] = found
    return probabilities


def check_finite(outputs: np.ndarray, model: str = "the model") -> None:
    """Raise InputError if logits or probabilities hold NaN or infinity."""
    require(
        bool(np.isfinite(outputs).all()),
        f"{model} answers with NaN: its weights are damaged, or training diverged (lower --learning_rate)",
    )
