"""Which rows of a dataset are used: the first or random ones, or a label budget."""

import numpy as np
from datasets import Dataset

from sentiment.exceptions import InputError


def cap_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """The first `max_rows` rows (`sample="first"`, the lab's way), or as many drawn at random, in their old order.

    Raises:
        InputError: the first rows have one label only, where later ones have the other.
    """
    capped = take_rows(pool, max_rows, sample, seed)
    if sample == "first" and capped is not pool and len(set(capped["label"][:])) < len(set(pool["label"][:])):
        raise InputError(
            f"the first {len(capped):,} of {len(pool):,} rows have one label only, since the rows are ordered by "
            "label: pass --sample random or --max_rows all"
        )
    return capped


def take_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """The first `max_rows` rows (`sample="first"`), or as many drawn at random, in their old order."""
    if max_rows is None or max_rows >= len(pool):
        return pool
    if sample == "first":
        return pool.select(range(max_rows))
    return pool.select(np.sort(np.random.default_rng(seed).choice(len(pool), max_rows, replace=False)))


def draw_budget(part: Dataset, rows: int, seed: int) -> Dataset:
    """As many rows of the split, drawn at random with its label shares; those of a smaller budget are among them.

    Raises:
        InputError: the split has fewer rows, or the budget leaves a label out.
    """
    labels = np.asarray(part["label"][:])
    if rows > len(part):
        raise InputError(f"--train_rows {rows:,}: the training split has {len(part):,} rows")
    shuffled = np.random.default_rng(seed).permutation(len(part))
    ranks = np.empty(len(part))  # of each row among those of its label, as a share: equal shares, equal ranks
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        ranks[own] = (np.arange(len(own)) + 0.5) / len(own)
    chosen = np.sort(np.argsort(ranks, kind="stable")[:rows])
    if len(np.unique(labels[chosen])) < len(np.unique(labels)):
        raise InputError(f"--train_rows {rows}: too few to hold rows of both labels")
    return part.select(chosen)
