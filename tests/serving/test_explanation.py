"""Words of a text in any language, the text without each, their weights, and those that decide."""

import asyncio
import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.serving import explanation
from sentiment.serving.explanation import (
    MAX_CANDIDATES,
    MAX_EXPLAINED_WORDS,
    MAX_OMITTED_WORDS,
    compute_word_weights,
    find_counterfactual,
    find_explained_words,
    omit_words,
)

LETTERS = st.sampled_from([*"ab .\n", *"电影好看。", *"ひカ", *"หนังดี", "😀", "\u0301", "\u200d", "ش", "é"])


def build_occlusions(text: str) -> tuple[list[str], list[str]]:
    """The words, and the text without each of the first ones."""
    places = find_explained_words(text)
    return [text[start:end] for start, end in places], explanation.build_occlusions(text, places)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Not as good, at all!", ["Not", "as", "good,", "at", "all!"]),
        ("电影“很好看”。", ["电", "影“", "很", "好", "看”。"]),
        ("这部movie很好😀吗", ["这", "部", "movie", "很", "好", "😀", "吗"]),
        ("とても良い", ["と", "て", "も", "良", "い"]),
        ("か\u3099", ["か\u3099"]),  # a combining mark
        ("葛\U000e0100城", ["葛\U000e0100", "城"]),  # a variation selector
        ("หนังดี", ["ห", "นั", "ง", "ดี"]),  # vowels above and tone marks stay with their consonant
        ("영화가 좋았다", ["영화가", "좋았다"]),  # Korean has spaces
        ("فيلم رائع جدا", ["فيلم", "رائع", "جدا"]),
        ("good👩‍👧👍🏽 film", ["good👩‍👧👍🏽", "film"]),
        ("好👍🏽", ["好", "👍🏽"]),
        (" \n ", []),
    ],
)
def test_words_of_many_languages(text: str, words: list[str]) -> None:
    assert build_occlusions(text)[0] == words


@given(st.text() | st.text(LETTERS))
def test_each_occlusion_omits_one_word(text: str) -> None:
    words, occlusions = build_occlusions(text)
    assert "".join(words) == "".join(text.split())
    for position, occlusion in enumerate(occlusions):
        left = "".join(words[:position]), "".join(words[position + 1 :])
        assert "".join(occlusion.split()) == "".join(left)
    firsts = {piece[0] for piece in text.split()}
    assert all(word[0] in firsts for word in words if unicodedata.category(word[0])[0] == "M")


@given(st.text())
def test_other_words_stay_apart(text: str) -> None:
    words, occlusions = build_occlusions(text)
    for position, occlusion in enumerate(occlusions):
        if text.split() == words:
            assert occlusion.split() == words[:position] + words[position + 1 :]


def test_a_character_goes_without_its_space_only_where_both_stand_apart() -> None:
    assert build_occlusions("很 good 好")[1] == ["good 好", "很 好", "很 good"]
    assert build_occlusions("a好 b")[1] == ["好 b", "a b", "a好"]
    assert build_occlusions("a\n\ngood film")[1][1] == "a\n\nfilm"


@pytest.mark.parametrize(("words", "expected"), [(0, 0), (1, 1), (MAX_EXPLAINED_WORDS, 64), (500, 64)])
def test_the_number_of_occlusions_is_bounded(words: int, expected: int) -> None:
    assert len(build_occlusions("word " * words)[1]) == expected
    assert len(build_occlusions("好" * words)[1]) == expected


@pytest.mark.parametrize(("characters", "size"), [(64, 1), (65, 2), (128, 2), (190, 3), (256, 4), (1000, 4)])
def test_long_texts_without_spaces_have_words_of_several_characters(characters: int, size: int) -> None:
    words = build_occlusions("好" * characters)[0]
    assert {len(word) for word in words[:-1]} == {size}
    assert "".join(words) == "好" * characters


def test_a_weight_is_the_drop_in_probability_of_the_label() -> None:
    assert compute_word_weights(np.array([[0.1, 0.9], [0.6, 0.4], [0.05, 0.95]]), 2) == pytest.approx([0.5, -0.05])
    # The label is the first here: words without which the second becomes more probable support it.
    assert compute_word_weights(np.array([[0.9, 0.1], [0.4, 0.6], [0.95, 0.05]]), 2) == pytest.approx([0.5, -0.05])
    # Another class may be the most probable one without the word.
    assert compute_word_weights(np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]), 1) == pytest.approx([0.4])


def test_words_beyond_the_limit_have_no_weight() -> None:
    positive = np.linspace(0.9, 0.6, MAX_EXPLAINED_WORDS + 1)
    weights = compute_word_weights(np.stack([1 - positive, positive], axis=1), MAX_EXPLAINED_WORDS + 2)
    assert len(weights) == MAX_EXPLAINED_WORDS + 2
    assert weights[-2:] == [None, None]
    assert None not in weights[:-2]


@given(st.text(), st.sets(st.integers(0, 5)))
def test_several_words_can_be_left_out(text: str, omitted: set[int]) -> None:
    places = find_explained_words(text)
    chosen = {place for place in omitted if place < len(places)}
    left = [text[start:end] for place, (start, end) in enumerate(places) if place not in chosen]
    assert "".join(omit_words(text, [places[place] for place in chosen]).split()) == "".join(left)


class TestCounterfactual:
    """A model that counts words: +1 for "good", -1 for "bad", and positive above 0."""

    def compute(self, texts: Sequence[str]) -> np.ndarray:
        self.calls = getattr(self, "calls", 0) + len(texts)
        sums = np.array([text.count("good") - text.count("bad") for text in texts], dtype=float)
        positive = 1 / (1 + np.exp(0.5 - sums))
        return np.stack([1 - positive, positive], axis=1)

    def find(self, text: str) -> tuple[list[int], np.ndarray] | None:
        async def compute(texts: Sequence[str]) -> np.ndarray:
            return self.compute(texts)

        places = find_explained_words(text)
        probabilities = self.compute([text, *explanation.build_occlusions(text, places)])
        return asyncio.run(find_counterfactual(text, places, probabilities, compute))

    @pytest.mark.parametrize(
        ("text", "omitted"),
        [
            ("a good film", [1]),
            ("good film , good actors", [0, 3]),  # neither alone decides
            ("good good good bad film", [0, 1]),
            ("film bad good", [1]),
            ("good", None),  # nothing would be left
            ("good good", None),
            ("a film", None),
            ("good " * 7, None),
        ],
    )
    def test_the_words_that_decide_are_found(self, text: str, omitted: list[int] | None) -> None:
        found = self.find(text)
        assert (found and found[0]) == omitted
        if found:
            left = " ".join(word for place, word in enumerate(text.split()) if place not in found[0])
            assert found[1] == pytest.approx(self.compute([left])[0])
            assert found[1].argmax() != self.compute([text])[0].argmax()

    def test_the_texts_for_the_model_are_bounded(self) -> None:
        assert self.find("good " * 500) is None
        assert self.calls <= 1 + MAX_EXPLAINED_WORDS + (MAX_OMITTED_WORDS - 1) * MAX_CANDIDATES
