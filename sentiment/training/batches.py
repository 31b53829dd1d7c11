"""The order of training rows: it depends on the seed and the epoch alone, so that a resumed epoch continues in it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.data.tokenization import group_by_length


def build_generator(*keys: int) -> torch.Generator:
    """A generator seeded by these numbers, such as a seed and an epoch (`numpy.random.SeedSequence`)."""
    (seed,) = np.random.SeedSequence(keys).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))


class EpochTracker(TrainerCallback):
    """Knows the number of the current epoch, from 0, for samplers and collators."""

    def __init__(self) -> None:
        self.epoch = 0

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Reads the epoch, which is whole at its start and has a fraction where a run is resumed."""
        self.epoch = int(state.epoch or 0)


class EpochSampler(Sampler[int]):
    """Rows in the order of a sampling strategy, drawn anew for each epoch.

    Transformers draws the order from the global random state, which dropout and masks use too: a run that is resumed
    within an epoch would continue in another order, and train on some rows twice and on others not at all.

    Args:
        lengths: tokens of each row.
        strategy: `group_by_length`, `random` or `sequential`.
        batch_size: rows of a step, over all processes: they are of similar length, so that no process waits.
        seed: of the order.
        tracker: knows the epoch.
        labels: of each row; then each batch has as many rows of each class (`balance_batches`), whatever the strategy.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        strategy: str,
        batch_size: int,
        seed: int,
        tracker: EpochTracker,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.labels = labels
        self.lengths = lengths
        self.strategy = strategy
        self.batch_size = batch_size
        self.seed = seed
        self.tracker = tracker

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """The rows of the current epoch."""
        return iter(self.build_order(self.tracker.epoch))

    def build_order(self, epoch: int) -> list[int]:
        """The rows of an epoch, in order."""
        generator = build_generator(self.seed, epoch)
        if self.labels is not None:
            return balance_batches(self.labels, self.batch_size, generator)
        if self.strategy == "group_by_length":
            return group_by_length(self.lengths, self.batch_size, generator)
        if self.strategy == "random":
            order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
            return order
        return list(range(len(self.lengths)))


def balance_batches(labels: Sequence[int], batch_size: int, generator: torch.Generator) -> list[int]:
    """As many rows as there are, in an order in which each batch has equally many of each class, within one.

    Rows of each class come in random order, and again from the start where a class has fewer than others: its rows are
    repeated, and others left out until the next epoch. With more classes than half the batch size, a batch has some of
    them, with two rows each.

    >>> order = balance_batches([0, 0, 0, 1], batch_size=4, generator=build_generator(0))
    >>> sorted([0, 0, 0, 1][row] for row in order)
    [0, 0, 1, 1]
    """
    values = torch.as_tensor(labels)
    rows = {int(label): (values == label).nonzero()[:, 0] for label in values.unique()}
    queues: dict[int, list[int]] = {label: [] for label in rows}
    per_batch = max(1, min(len(rows), batch_size // 2))
    waiting: list[int] = []  # classes that the next batches take, so that all come equally often
    order: list[int] = []
    while len(order) < len(values):
        if len(waiting) < per_batch:
            shuffled = torch.tensor([*rows])[torch.randperm(len(rows), generator=generator)].tolist()
            waiting += [label for label in shuffled if label not in waiting]
        chosen, waiting = sorted(waiting[:per_batch]), waiting[per_batch:]
        for place in range(min(batch_size, len(values) - len(order))):
            label = chosen[place % per_batch]
            if not queues[label]:
                queues[label] = rows[label][torch.randperm(len(rows[label]), generator=generator)].tolist()
            order.append(queues[label].pop())
    return order
