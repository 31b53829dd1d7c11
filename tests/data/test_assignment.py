"""The split of each row: ratios, labels, equal texts, phrases with their sentences; label budgets."""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.data.assignment import (
    assign_grouped,
    assign_stratified,
    assign_units,
    merge_equal_keys,
    sample_training_rows,
)
from sentiment.exceptions import InputError

RATIOS = (8, 1, 1)


def test_label_shares_are_equal_in_every_split() -> None:
    labels = np.array([0] * 300 + [1] * 700)
    splits = assign_units(labels, RATIOS, seed=1)
    counts = Counter(zip(splits.tolist(), labels.tolist(), strict=True))
    assert counts == {(0, 0): 240, (0, 1): 560, (1, 0): 30, (1, 1): 70, (2, 0): 30, (2, 1): 70}


def test_assignment_depends_on_the_seed() -> None:
    labels = np.arange(200) % 2
    first, again, other = (assign_units(labels, RATIOS, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_rows_of_equal_key_share_a_split() -> None:
    keys = [f"text {row // 3}" for row in range(300)]
    labels = np.array([row // 3 % 2 for row in range(300)])
    splits = assign_stratified(keys, labels, RATIOS, seed=0)
    assert len(set(zip(keys, splits.tolist(), strict=True))) == 100
    assert Counter(splits.tolist()) == {0: 240, 1: 30, 2: 30}


def test_a_phrase_has_the_split_of_its_sentences_or_none() -> None:
    rng = np.random.default_rng(0)
    words = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    sentences = [" ".join(rng.choice(words, 8)) for _ in range(60)]
    phrases = [" ".join(sentence.split()[2:5]) for sentence in sentences] + list("abc")
    keys = sentences + phrases + sentences[:5]
    labels = np.array([number % 2 for number in range(60)] * 2 + [0, 1, 0] + [0, 1, 0, 1, 0])
    splits = assign_grouped(keys, labels, RATIOS, seed=0)
    split_of = dict(zip(keys, splits.tolist(), strict=True))
    assert Counter(split_of[sentence] for sentence in sentences) == {0: 48, 1: 6, 2: 6}
    assert [split_of[key] for key in keys] == splits.tolist()
    assert {split_of[letter] for letter in "abc"} == {-1}, "letters are in sentences of every split"
    for phrase in phrases:
        homes = {split_of[sentence] for sentence in sentences if f" {phrase} " in f" {sentence} "}
        assert split_of[phrase] == (homes.pop() if len(homes) == 1 else -1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no usable rows"),
        ([1] * 30, "all 30 usable rows are '1': a classifier needs two classes"),
        ([0] * 30, "all 30 usable rows are '0': a classifier needs two classes"),
        (
            [0] * 30 + [1] * 9,
            "of different texts there are 9 of '1', and 10 of each class are needed",
        ),
    ],
)
def test_too_few_units(labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        assign_units(np.array(labels, dtype=int), RATIOS, seed=0)


def test_too_few_units_of_a_misspelt_class() -> None:
    labels, names = np.array([0] * 30 + [1] * 2 + [2] * 9 + [3] * 40), ("disagree", "disagre", "agree", "neutral")
    message = "there are 2 of 'disagre' (one letter from 'disagree'), 9 of 'agree', and 10 of each class are needed; "
    message += "join classes, or leave them out, with --label_mapping disagree=disagree,disagre=disagree,agree=agree,"
    message += "neutral=neutral"
    with pytest.raises(InputError, match=re.escape(message)):
        assign_units(labels, RATIOS, seed=0, class_names=names)


def test_ten_texts_of_each_label_are_enough() -> None:
    splits = assign_units(np.array([0, 1] * 10), RATIOS, seed=0)
    assert Counter(splits.tolist()) == {0: 16, 1: 2, 2: 2}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=12))
def test_merged_keys_are_equal_where_keys_or_texts_are(rows: list[tuple[str, str]]) -> None:
    # Rows are linked by a key or a text; those that a chain of links joins form a group.
    groups: list[set[str]] = []
    for row in rows:
        linked = [group for group in groups if group & set(row)]
        groups = [group for group in groups if group not in linked] + [set(row).union(*linked)]
    merged = merge_equal_keys([key for key, _ in rows], [text for _, text in rows])
    for one, (key, _) in zip(merged, rows, strict=True):
        group = next(group for group in groups if key in group)
        assert one in group
        assert [one == other for other in merged] == [other_key in group for other_key, _ in rows]


# --- label budgets ---


@pytest.fixture
def part(build_reviews: Callable[..., DatasetDict]) -> Dataset:
    """400 rows, a quarter of them positive."""
    return build_reviews(train=[(f"text {row}", int(row % 4 == 0)) for row in range(400)])["train"]


@pytest.mark.parametrize("rows", [4, 10, 100, 399, 400])
def test_sample_has_the_label_shares(part: Dataset, rows: int) -> None:
    drawn = sample_training_rows(part, rows, seed=1)
    assert len(set(drawn["text"])) == len(drawn) == rows
    assert abs(sum(drawn["label"]) - rows / 4) <= 1
    order = [int(text.split()[1]) for text in drawn["text"]]
    assert order == sorted(order)


def test_smaller_sample_is_a_subset_of_a_larger_one_and_seeds_differ(part: Dataset) -> None:
    drawn = {rows: set(sample_training_rows(part, rows, seed=1)["text"]) for rows in (10, 50, 200)}
    assert drawn[10] < drawn[50] < drawn[200]
    assert drawn[50] != set(sample_training_rows(part, 50, seed=2)["text"])


@pytest.mark.parametrize(("rows", "message"), [(401, "has 400 rows"), (1, "all classes")])
def test_impossible_sample_is_refused(part: Dataset, rows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_training_rows(part, rows, seed=1)
