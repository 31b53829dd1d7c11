"""Random numbers that depend on nothing but what they are for."""

import numpy as np
import torch


def make_generator(*keys: int) -> torch.Generator:
    """A generator for these numbers, such as a seed and an epoch; others have unrelated ones (`numpy.SeedSequence`)."""
    (seed,) = np.random.SeedSequence(keys).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))
