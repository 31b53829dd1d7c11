"""Words left out and weighed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.serving.explanation import MAX_WORDS, Occlusions, build_occlusions, compute_word_weights


@given(st.text())
def test_each_variant_lacks_one_word(text: str) -> None:
    marking = build_occlusions(text)
    assert marking.words == text.split()
    assert marking.variants[0] == text
    for place, variant in enumerate(marking.variants[1:]):
        assert variant.split() == marking.words[:place] + marking.words[place + 1 :]


@pytest.mark.parametrize(("words", "variants"), [(0, 1), (1, 2), (MAX_WORDS, MAX_WORDS + 1), (500, MAX_WORDS + 1)])
def test_number_of_variants_is_bounded(words: int, variants: int) -> None:
    assert len(build_occlusions("word " * words).variants) == variants


def test_weight_is_what_the_label_loses() -> None:
    marking = Occlusions(["good", "film"], ["good film", "film", "good"])
    assert compute_word_weights(marking, np.array([0.9, 0.4, 0.95])) == pytest.approx([0.5, -0.05])
    # The label is negative here: what makes the text more positive when it goes spoke for the label.
    assert compute_word_weights(marking, np.array([0.1, 0.6, 0.05])) == pytest.approx([0.5, -0.05])


def test_words_past_the_limit_are_not_weighed() -> None:
    marking = build_occlusions("word " * (MAX_WORDS + 2))
    weights = compute_word_weights(marking, np.linspace(0.9, 0.1, MAX_WORDS + 1))
    assert len(weights) == len(marking.words)
    assert weights[-2:] == [None, None]
    assert None not in weights[:-2]
