"""Padding, batches by length, and probabilities from logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from sentiment.exceptions import InputError
from sentiment.inference.batching import (
    check_finite,
    compute_probabilities,
    pad_batch,
    predict_in_batches,
    sort_into_batches,
)

TEXTS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), max_size=30)


def test_padding_is_masked() -> None:
    batch = pad_batch([[2, 7, 3], [2, 3]], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert {array.dtype for array in batch.values()} == {np.dtype("int64")}


def test_short_batches_are_padded_to_the_minimum_length() -> None:
    batch = pad_batch([[2], [3]], pad_token_id=0, min_length=3)
    assert batch["input_ids"].tolist() == [[2, 0, 0], [3, 0, 0]]
    assert batch["attention_mask"].sum() == 2


@given(TEXTS, st.integers(1, 7))
def test_batches_are_sorted_by_length_and_hold_every_text_once(texts: list[list[int]], batch_size: int) -> None:
    batches = sort_into_batches(texts, batch_size)
    order = [position for batch in batches for position in batch]
    assert sorted(order) == list(range(len(texts)))
    assert [len(texts[position]) for position in order] == sorted(map(len, texts))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(TEXTS, st.integers(1, 7))
def test_probabilities_are_in_the_order_of_the_texts(texts: list[list[int]], batch_size: int) -> None:
    found = predict_in_batches(lambda batch: np.array([[0, len(ids)] for ids in batch]), texts, batch_size)
    assert found.shape == ((len(texts), 2) if texts else (0, 0))
    assert found[:, 1:].ravel() == pytest.approx([1 / (1 + np.exp(-len(ids))) for ids in texts])


def test_probabilities_are_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(scale=300, size=(20, 5)).astype(np.float32)
    assert compute_probabilities(logits) == pytest.approx(softmax(logits.astype(np.float64), axis=-1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    check_finite(np.array([0.0, 1.0]))
    with pytest.raises(InputError, match="the model in a/b answers with NaN"):
        check_finite(np.array([0.5, value]), "the model in a/b")
