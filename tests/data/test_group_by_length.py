"""Batches of like lengths: every text once, little padding, in random order that the generator decides."""

from itertools import combinations

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from sentiment.data.tokenization import group_by_length


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_lengths(count: int) -> list[int]:
    """Lengths with a long tail, as those of sentences."""
    return np.random.default_rng(0).gamma(2, 6, size=count).astype(int).tolist()


def measure_padding(lengths: list[int], order: list[int], batch_size: int) -> float:
    batches = [
        [lengths[row] for row in order[start : start + batch_size]] for start in range(0, len(order), batch_size)
    ]
    return 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_every_text_comes_once(count: int) -> None:
    assert sorted(group_by_length(draw_lengths(count), 8, seeded(0))) == list(range(count))


@pytest.mark.parametrize(("count", "batch_size"), [(800, 128), (8000, 128), (8000, 32)])
def test_less_padding_than_in_transformers_order(count: int, batch_size: int) -> None:
    lengths = draw_lengths(count)
    ours = measure_padding(lengths, group_by_length(lengths, batch_size, seeded(0)), batch_size)
    theirs = measure_padding(lengths, get_length_grouped_indices(lengths, batch_size, generator=seeded(0)), batch_size)
    assert ours < 0.7 * theirs


def test_the_longest_texts_come_first_and_others_in_any_order() -> None:
    lengths = draw_lengths(803)
    first_lengths = []
    for seed in range(20):
        order = group_by_length(lengths, 8, seeded(seed))
        firsts = [max(lengths[row] for row in order[start : start + 8]) for start in range(0, 800, 8)]
        assert firsts[0] == max(firsts)
        first_lengths.append(firsts[1:])
    means = np.mean(first_lengths, axis=0)
    assert np.std(means) < np.std(first_lengths) / 3  # no place of an epoch has long texts as a rule
    last = [lengths[group_by_length(lengths, 8, seeded(seed))[-1]] for seed in range(20)]
    assert len(set(last)) > 5  # nor has the last batch, which is smaller


def test_texts_of_one_length_meet_others_each_time() -> None:
    lengths = [5] * 64
    orders = [group_by_length(lengths, 8, seeded(seed)) for seed in (0, 1)]
    batches = [{frozenset(order[start : start + 8]) for start in range(0, 64, 8)} for order in orders]
    assert not batches[0] & batches[1]
    assert group_by_length(lengths, 8, seeded(0)) == orders[0]


def test_texts_of_many_lengths_meet_others_each_time() -> None:
    lengths = np.random.default_rng(0).integers(20, 512, size=2000).tolist()
    pairs = []
    for seed in (0, 1):
        batches = np.array(group_by_length(lengths, 8, seeded(seed))).reshape(-1, 8)
        pairs.append({frozenset(pair) for batch in batches.tolist() for pair in combinations(batch, 2)})
    assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])
