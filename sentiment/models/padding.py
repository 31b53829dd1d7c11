"""Texts of different lengths in one batch."""

from collections.abc import Sequence

import torch


def pad_batch(rows: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of the rows, padded to the longest; each of shape (rows, tokens)."""
    tensors = [torch.tensor(row) for row in rows]
    return {
        "input_ids": torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=pad_token_id),
        "attention_mask": torch.nn.utils.rnn.pad_sequence(
            [torch.ones_like(tensor) for tensor in tensors], batch_first=True
        ),
    }
