"""Which side each row is dealt to: shares, labels, equal texts, and phrases with their sentences."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.data.assignment import assign_grouped, assign_stratified, assign_units, merge_equal_keys
from sentiment.exceptions import InputError

SHARES = (8, 1, 1)


def test_label_shares_are_equal_on_every_side() -> None:
    labels = np.array([0] * 300 + [1] * 700)
    sides = assign_units(labels, SHARES, seed=1)
    counts = Counter(zip(sides.tolist(), labels.tolist(), strict=True))
    assert counts == {(0, 0): 240, (0, 1): 560, (1, 0): 30, (1, 1): 70, (2, 0): 30, (2, 1): 70}


def test_the_seed_decides() -> None:
    labels = np.arange(200) % 2
    first, again, other = (assign_units(labels, SHARES, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_rows_of_equal_key_share_a_side() -> None:
    keys = [f"text {row // 3}" for row in range(300)]
    labels = np.array([row // 3 % 2 for row in range(300)])
    sides = assign_stratified(keys, labels, SHARES, seed=0)
    assert len(set(zip(keys, sides.tolist(), strict=True))) == 100
    assert Counter(sides.tolist()) == {0: 240, 1: 30, 2: 30}


def test_a_phrase_goes_with_its_sentences_or_nowhere() -> None:
    rng = np.random.default_rng(0)
    words = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    sentences = [" ".join(rng.choice(words, 8)) for _ in range(60)]
    phrases = [" ".join(sentence.split()[2:5]) for sentence in sentences] + list("abc")
    keys = sentences + phrases + sentences[:5]
    labels = np.array([number % 2 for number in range(60)] * 2 + [0, 1, 0] + [0, 1, 0, 1, 0])
    sides = assign_grouped(keys, labels, SHARES, seed=0)
    side_of = dict(zip(keys, sides.tolist(), strict=True))
    assert Counter(side_of[sentence] for sentence in sentences) == {0: 48, 1: 6, 2: 6}
    assert [side_of[key] for key in keys] == sides.tolist()
    assert {side_of[letter] for letter in "abc"} == {-1}, "letters stand in sentences of every side"
    for phrase in phrases:
        homes = {side_of[sentence] for sentence in sentences if f" {phrase} " in f" {sentence} "}
        assert side_of[phrase] == (homes.pop() if len(homes) == 1 else -1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no usable rows"),
        ([1] * 30, "all 30 usable rows are positive: a classifier needs rows of both labels"),
        ([0] * 30, "all 30 usable rows are negative: a classifier needs rows of both labels"),
        ([0] * 30 + [1] * 9, "too few rows to split 8:1:1: 30 different negative and 9 different positive"),
    ],
)
def test_too_little_to_deal(labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        assign_units(np.array(labels, dtype=int), SHARES, seed=0)


def test_ten_texts_of_each_label_are_enough() -> None:
    sides = assign_units(np.array([0, 1] * 10), SHARES, seed=0)
    assert Counter(sides.tolist()) == {0: 16, 1: 2, 2: 2}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=12))
def test_united_keys_are_equal_where_keys_or_texts_are(rows: list[tuple[str, str]]) -> None:
    # Rows are linked by a key or a text; those that a chain of links joins form a group.
    groups: list[set[str]] = []
    for row in rows:
        linked = [group for group in groups if group & set(row)]
        groups = [group for group in groups if group not in linked] + [set(row).union(*linked)]
    united = merge_equal_keys([key for key, _ in rows], [text for _, text in rows])
    for one, (key, _) in zip(united, rows, strict=True):
        group = next(group for group in groups if key in group)
        assert one in group
        assert [one == other for other in united] == [other_key in group for other_key, _ in rows]
