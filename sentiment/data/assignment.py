"""Texts dealt to sides at random: equal label shares on every side, equal texts together, phrases with their sentences.

A side is a position in `shares`: with shares (8, 1, 1), side 0 gets 80% and sides 1 and 2 get 10% each; -1 is none.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from datasets import Dataset
from sklearn.model_selection import train_test_split

from sentiment.data.leaks import find_containers
from sentiment.exceptions import InputError


def merge_equal_keys(keys: Sequence[str], texts: Iterable[str]) -> list[str]:
    """The keys, made equal for rows of equal text: rows that share either then share their key.

    >>> merge_equal_keys(["goodfilm", "good film", "goodfilm"], ["good film", "good film", "goodfilm"])
    ['goodfilm', 'goodfilm', 'goodfilm']
    """
    united: dict[str, str] = {}

    def find(key: str) -> str:
        while key in united:
            key = united[key]
        return key

    key_of: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        first, other = find(key_of.setdefault(text, key)), find(key)
        if first != other:
            united[other] = first
    return [find(key) for key in keys]


def assign_stratified(keys: Sequence[object], labels: np.ndarray, shares: Sequence[int], seed: int) -> np.ndarray:
    """The side of each row, shape (rows,); rows of equal key share a side.

    Raises:
        InputError: too few different keys of a label, or one label only.
    """
    first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
    side_of = dict(zip(first_row, assign_units(labels[list(first_row.values())], shares, seed), strict=True))
    return np.array([side_of[key] for key in keys], dtype=int)


def assign_grouped(keys: Sequence[str], labels: np.ndarray, shares: Sequence[int], seed: int) -> np.ndarray:
    """The side of each row, shape (rows,): a text goes with the texts that contain it, to -1 if these lie apart.

    Only texts that are part of no other are dealt, so that no phrase of a tested sentence is trained on.

    Raises:
        InputError: too few texts of a label that are part of no other, or one label only.
    """
    label_of = dict(zip(reversed(keys), reversed(labels), strict=True))
    texts = list(label_of)
    containers = find_containers(texts)
    wholes = [position for position, text in enumerate(texts) if text not in containers]
    whole_sides = assign_units(np.array([label_of[texts[position]] for position in wholes]), shares, seed)
    side_of_whole = dict(zip(wholes, whole_sides.tolist(), strict=True))
    side_of = {texts[position]: side for position, side in side_of_whole.items()}
    for text, holders in containers.items():
        sides = {side_of_whole[position] for position in holders}
        side_of[text] = sides.pop() if len(sides) == 1 else -1
    return np.array([side_of[key] for key in keys], dtype=int)


def assign_units(labels: np.ndarray, shares: Sequence[int], seed: int) -> np.ndarray:
    """The side of each unit, shape (units,), by scikit-learn's stratified splitting.

    Raises:
        InputError: one label only, or fewer units of a label than the shares add up to.
    """
    negative, positive = np.bincount(labels, minlength=2)[:2]
    if not len(labels):
        raise InputError("no usable rows: none has a text that bears one label")
    if not negative or not positive:
        only = "positive" if positive else "negative"
        raise InputError(f"all {len(labels):,} usable rows are {only}: a classifier needs rows of both labels")
    if min(negative, positive) < sum(shares):
        raise InputError(
            f"too few rows to split {':'.join(map(str, shares))}: {negative:,} different negative and {positive:,} "
            f"different positive texts are usable, and {sum(shares)} of each are needed"
        )
    sides = np.zeros(len(labels), dtype=int)
    rest, rest_share = np.arange(len(labels)), sum(shares)
    for side in range(len(shares) - 1, 0, -1):
        rest, chosen = train_test_split(
            rest, test_size=shares[side] / rest_share, random_state=seed, stratify=labels[rest]
        )
        sides[chosen] = side
        rest_share -= shares[side]
    return sides


def limit_labelled_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """The first `max_rows` rows (`sample="first"`, the lab's way), or as many drawn at random, in their old order.

    Raises:
        InputError: the first rows have one label only, where later ones have the other.
    """
    capped = limit_rows(pool, max_rows, sample, seed)
    if sample == "first" and capped is not pool and len(set(capped["label"][:])) < len(set(pool["label"][:])):
        raise InputError(
            f"the first {len(capped):,} of {len(pool):,} rows have one label only, since the rows are ordered by "
            "label: pass --sample random or --max_rows all"
        )
    return capped


def limit_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """The first `max_rows` rows (`sample="first"`), or as many drawn at random, in their old order."""
    if max_rows is None or max_rows >= len(pool):
        return pool
    if sample == "first":
        return pool.select(range(max_rows))
    return pool.select(np.sort(np.random.default_rng(seed).choice(len(pool), max_rows, replace=False)))


def sample_training_rows(part: Dataset, rows: int, seed: int) -> Dataset:
    """As many rows of the split, drawn at random with its label shares; those of a smaller budget are among them.

    Raises:
        InputError: the split has fewer rows, or the budget leaves a label out.
    """
    labels = np.asarray(part["label"][:])
    if rows > len(part):
        raise InputError(f"--max_train_samples {rows:,}: the training split has {len(part):,} rows")
    shuffled = np.random.default_rng(seed).permutation(len(part))
    ranks = np.empty(len(part))  # of each row among those of its label, as a share: equal shares, equal ranks
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        ranks[own] = (np.arange(len(own)) + 0.5) / len(own)
    chosen = np.sort(np.argsort(ranks, kind="stable")[:rows])
    if len(np.unique(labels[chosen])) < len(np.unique(labels)):
        raise InputError(f"--max_train_samples {rows}: too few to hold rows of both labels")
    return part.select(chosen)
