"""The order in which texts are trained on: batches of like lengths, in random order."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedBatchSampler(Sampler[int]):
    """Row numbers such that each `batch_size` of them have like lengths, the batches in random order.

    The Trainer's own sampler goes from the longest to the shortest texts of 50 batches, again and again: each epoch
    then ends with the shortest of all, and the weights that are evaluated have just been fitted to them.
    Random numbers are torch's own, so that they go on where they were when a run is resumed.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int):
        self.lengths = lengths
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Each row number once."""
        rows = torch.tensor(get_length_grouped_indices(self.lengths, self.batch_size))
        whole = len(rows) // self.batch_size  # a smaller batch stays last, where it shifts no other
        order = torch.randperm(whole)
        batches = rows[: whole * self.batch_size].view(whole, self.batch_size)[order]
        return iter([*batches.flatten().tolist(), *rows[whole * self.batch_size :].tolist()])


class LengthGroupedTrainer(Trainer):
    """A Trainer whose `group_by_length` is a `LengthGroupedBatchSampler`; its data has a column `length`."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        own: Any = self.train_dataset  # with the lengths, which the dataset that is given has lost: no model takes it
        # Of the batch that all processes share: theirs are parts of it, and none waits for another's longer texts.
        batch_size = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return LengthGroupedBatchSampler(own["length"][:], batch_size)
