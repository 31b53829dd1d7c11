"""Batches of like lengths in random order."""

import numpy as np
import pytest
import torch

from sentiment.training.sampler import LengthGroupedBatchSampler

LENGTHS = np.random.default_rng(0).integers(3, 60, 1003).tolist()


def draw(seed: int) -> list[int]:
    torch.manual_seed(seed)
    return list(LengthGroupedBatchSampler(LENGTHS, 32))


def batch_lengths(rows: list[int]) -> list[list[int]]:
    return [[LENGTHS[row] for row in rows[start : start + 32]] for start in range(0, len(rows), 32)]


def test_each_row_comes_once_in_an_order_of_its_seed() -> None:
    assert sorted(draw(1)) == list(range(1003))
    assert draw(1) == draw(1) != draw(2)


def test_batches_hold_like_lengths() -> None:
    spread = [max(lengths) - min(lengths) for lengths in batch_lengths(draw(1))]
    assert np.median(spread) < 12  # of 57


@pytest.mark.parametrize("seed", range(5))
def test_batches_do_not_go_from_long_to_short(seed: int) -> None:
    means = [np.mean(lengths) for lengths in batch_lengths(draw(seed))]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5
    falls = np.mean(np.diff(means) < 0)
    assert 0.25 < falls < 0.75  # sorted groups fall nearly always


def test_an_epoch_shorter_than_a_batch() -> None:
    assert sorted(LengthGroupedBatchSampler([3, 5, 4], 32)) == [0, 1, 2]
