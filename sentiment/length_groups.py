"""Batches of texts of like lengths, which leave little padding, in random order."""

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


def group_by_length(lengths: Sequence[int], batch_size: int, generator: torch.Generator | None = None) -> list[int]:
    """Indices of all texts: each `batch_size` of them, from the first on, are of like lengths, in random order.

    All texts are sorted, those of equal length at random, and cut into batches, which are then shuffled. Only the batch
    of the longest ones comes first, as in transformers' `get_length_grouped_indices`, so that memory is short sooner
    rather than later. That function sorts within some pools at a time and leaves them sorted: of SST-2's first 10,000
    rows in batches of 128 it makes 18.5% padding where this one makes 3.5%; and each pool goes from long to short.

    >>> sorted(group_by_length([5, 1, 5, 1, 9], batch_size=2))
    [0, 1, 2, 3, 4]
    """
    count = len(lengths)
    shuffled = torch.randperm(count, generator=generator)
    order = shuffled[torch.as_tensor(lengths)[shuffled].argsort(stable=True)]
    full, rest = divmod(count, batch_size)
    if rest:  # The smaller batch can only be the last; it is as likely of one length as of another.
        start = batch_size * int(torch.randint(full + 1, (), generator=generator))
        order = torch.cat([order[:start], order[start + rest :], order[start : start + rest]])
    places = torch.randperm(full, generator=generator)
    if full:
        longest = int(places.argmax())
        places[[0, longest]] = places[[longest, 0]]
    groups = order[: full * batch_size].view(full, batch_size)[places]
    return [*groups.flatten().tolist(), *order[full * batch_size :].tolist()]


class ShuffledGroupsSampler(LengthGroupedSampler):
    """Transformers' sampler, in the order of `group_by_length`."""

    def __iter__(self) -> Iterator[int]:
        """The indices of one epoch."""
        return iter(group_by_length(self.lengths, self.batch_size, self.generator))
