"""Texts dealt to sides at random: equal label shares on every side, equal texts together, phrases with their sentences.

A side is a position in `shares`: with shares (8, 1, 1), side 0 gets 80% and sides 1 and 2 get 10% each; -1 is none.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from sentiment.data.containment import find_containers
from sentiment.exceptions import InputError


def unite_keys(keys: Sequence[str], texts: Iterable[str]) -> list[str]:
    """The keys, made equal for rows of equal text: rows that share either then share their key.

    >>> unite_keys(["goodfilm", "good film", "goodfilm"], ["good film", "good film", "goodfilm"])
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


def deal_stratified(keys: Sequence[object], labels: np.ndarray, shares: Sequence[int], seed: int) -> np.ndarray:
    """The side of each row, shape (rows,); rows of equal key share a side.

    Raises:
        InputError: too few different keys of a label, or one label only.
    """
    first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
    side_of = dict(zip(first_row, deal_units(labels[list(first_row.values())], shares, seed), strict=True))
    return np.array([side_of[key] for key in keys], dtype=int)


def deal_grouped(keys: Sequence[str], labels: np.ndarray, shares: Sequence[int], seed: int) -> np.ndarray:
    """The side of each row, shape (rows,): a text goes with the texts that contain it, to -1 if these lie apart.

    Only texts that are part of no other are dealt, so that no phrase of a tested sentence is trained on.

    Raises:
        InputError: too few texts of a label that are part of no other, or one label only.
    """
    label_of = dict(zip(reversed(keys), reversed(labels), strict=True))
    texts = list(label_of)
    containers = find_containers(texts)
    wholes = [position for position, text in enumerate(texts) if text not in containers]
    whole_sides = deal_units(np.array([label_of[texts[position]] for position in wholes]), shares, seed)
    side_of_whole = dict(zip(wholes, whole_sides.tolist(), strict=True))
    side_of = {texts[position]: side for position, side in side_of_whole.items()}
    for text, holders in containers.items():
        sides = {side_of_whole[position] for position in holders}
        side_of[text] = sides.pop() if len(sides) == 1 else -1
    return np.array([side_of[key] for key in keys], dtype=int)


def deal_units(labels: np.ndarray, shares: Sequence[int], seed: int) -> np.ndarray:
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
