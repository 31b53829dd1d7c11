"""The Trainer's order of texts: with less padding, and from the seed and the epoch alone."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import RandomSampler, Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from sentiment.data.tokenization import group_by_length


class EpochSampler(Sampler[int]):
    """Rows in an order that is made anew for each epoch, from no other random numbers than its own."""

    def __init__(
        self, order: Callable[[torch.Generator], Iterable[int]], count: int, seed: int, get_epoch: Callable[[], int]
    ) -> None:
        self.order = order
        self.count = count
        self.seed = seed
        self.get_epoch = get_epoch

    def __len__(self) -> int:
        """How many rows an epoch has."""
        return self.count

    def __iter__(self) -> Iterator[int]:
        """The rows of the epoch that the training is in."""
        return iter(self.order(build_generator(self.seed, self.get_epoch())))


class LengthGroupedTrainer(Trainer):
    """A Trainer whose `train_sampling_strategy="group_by_length"` means batches of `group_by_length`.

    Its order of texts, in this strategy and in `random`, depends on the seed and the epoch alone. Transformers draws it
    from the random numbers that dropout and masks are drawn from too, so that a training that was cut off within an
    epoch goes on in another order, in which some texts come twice and others not at all.
    """

    _epoch = 0

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        """Transformers' sampler, in our order.

        Batches of several processes are taken from one group, so that none waits for another's longer texts.
        """
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            batch_size = sampler.batch_size * self.args.world_size
            order: Callable[[torch.Generator], list[int]] = partial(group_by_length, sampler.lengths[:], batch_size)
        elif isinstance(sampler, RandomSampler):
            order = partial(permute, len(sampler))
        else:
            return sampler
        return EpochSampler(order, len(sampler), self.args.seed, self.get_epoch)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self._epoch = kwargs["epoch"]
        super()._run_epoch(*args, **kwargs)

    def get_epoch(self) -> int:
        """The number of the epoch that is being trained, from 0; of a stream, how often it came to its end."""
        return self._epoch


def permute(count: int, generator: torch.Generator) -> list[int]:
    """The numbers below `count` in random order."""
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def build_generator(*keys: int) -> torch.Generator:
    """A generator for these numbers, such as a seed and an epoch; others have unrelated ones (`numpy.SeedSequence`)."""
    (seed,) = np.random.SeedSequence(keys).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))
