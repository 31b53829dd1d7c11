"""Reversed sentiment on listed sentences, in what it refuses, and the antonyms against the ratings of VADER."""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.data.augmentation.antonyms import list_groups, load_antonyms
from sentiment.data.augmentation.lexicon import TOPICAL
from sentiment.data.augmentation.sentiment_rating import rate_sentiment
from sentiment.data.augmentation.sentiment_reversal import find_reversal, reverse_sentiment
from sentiment.demo.embedded import fetch_lexicon

SEEDS = range(12)


def reverse_all(text: str) -> set[str | None]:
    """What a text becomes with several generators."""
    return {reverse_sentiment(text, np.random.default_rng(seed)) for seed in SEEDS}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # negations taken away
        ("it 's not good", "it 's good"),
        ("It isn't funny.", "It is funny."),
        ("is n't funny", "is funny"),
        ("I don\u2019t like it", "I do like it"),
        ("I can't enjoy it", "I can enjoy it"),
        ("it ca n't be good", "it can be good"),
        ("you wo n't enjoy it", "you will enjoy it"),
        ("never dull", "always dull"),
        ("without charm or wit", "with charm or wit"),
        ("it lacks charm", "it has charm"),
        ("It never fails to be funny", "It never manages to be funny"),
        ("It's no masterpiece", "It's a masterpiece"),
        ("Not bad at all", "Bad at all"),
        ("dont like it , it isnt good", "do like it , it is good"),
        # negations added, where no antonym is known
        ("I would recommend it", "I would not recommend it"),
        ("the plot has been ruined", None),
    ],
)
def test_negations(text: str, expected: str | None) -> None:
    found = reverse_all(text)
    assert expected in found if expected else found
    if expected:
        assert found == {expected}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("I loved it.", r"I (hated|detested|loathed|despised) it\."),
        ("a good film", r"a (bad|poor|lousy|weak) film"),
        ("An awful mess", r"(An?) (great|excellent|terrific|superb) (masterpiece|gem|triumph|marvel)"),
        ("A Great movie", r"(An?) (Terrible|Awful|Dreadful|Horrible) movie"),
        (
            "BORING",
            r"(GRIPPING|THRILLING|RIVETING|COMPELLING|ENGROSSING|INTERESTING|FASCINATING|INTRIGUING|ABSORBING|FUN)",
        ),
        ("it is not only good but funny", r"it is not only (bad|poor|lousy|weak) but (unfunny|humorless|witless)"),
        ("The film is a masterpiece.", r"The film is (not a masterpiece|an? \w+)\."),
        ("a brilliant cast , but dull", r"an? \w+ cast , but \w+"),
    ],
)
def test_antonyms(text: str, pattern: str) -> None:
    for found in reverse_all(text):
        assert found is not None
        assert re.fullmatch(pattern, found), found
        assert found != text


def test_articles_fit_the_words_after_them() -> None:
    for found in reverse_all("A great, honest film with an ugly ending."):
        assert found is not None
        for article, word in re.findall(r"\b([Aa]n?) (\w+)", found):
            assert (article.lower() == "an") == (word[0].lower() in "aeiou"), found


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "...", "The film is set in Paris.", "a horror film about war and murder", "电影很好看", "12345 !!"),
        # most of the sentiment is in words that cannot be reversed
        "unbearable, excruciating torture",
        *("a film like this", "like a dream", "it drags , like swallowing a wafer"),
        "it goes as well as that",
    ],
)
def test_what_cannot_be_reversed_is_refused(text: str) -> None:
    assert reverse_all(text) == {None}


def test_the_rating_is_that_of_the_text_as_it_was() -> None:
    for text, sign in (("a great film", 1), ("not a great film", -1), ("not bad", 1), ("dull and tedious", -1)):
        reversal = find_reversal(text, np.random.default_rng(0))
        assert reversal is not None
        assert np.sign(reversal.rating) == sign


def test_the_same_generator_gives_the_same_text() -> None:
    text = "a brilliant and moving film, never dull, with a great cast"
    assert reverse_sentiment(text, np.random.default_rng(3)) == reverse_sentiment(text, np.random.default_rng(3))
    assert len(reverse_all(text)) > 3


def test_antonyms_have_opposite_signs_in_the_ratings_of_vader() -> None:
    lines = (fetch_lexicon() / "vader_lexicon.txt").read_text(encoding="utf-8").splitlines()
    ratings = {line.split("\t")[0]: float(line.split("\t")[1]) for line in lines}
    groups = list_groups()
    rated = 0
    for positive, negative in groups:
        for words, sign in ((positive, 1), (negative, -1)):
            for word in words:
                rated += word in ratings
                assert ratings.get(word, sign) * sign > 0, word
    assert rated > 300
    positives, negatives = ({word for group in groups for word in group[side]} for side in (0, 1))
    assert not positives & negatives
    assert sum(map(len, load_antonyms().values())) / 2 > 200  # pairs
    assert TOPICAL & load_antonyms().keys() == {"well"}  # which is looked at by itself


PIECES = "not n't no good bad 's is film , . a the ' \" Not NO I"
MIXED = st.lists(st.sampled_from(PIECES.split(" "))).map(" ".join)


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.text(), MIXED))
def test_any_text_goes_through(text: str) -> None:
    found = reverse_sentiment(text, np.random.default_rng(0))
    assert found is None or (isinstance(found, str) and found != text)


def test_long_texts_take_linear_time() -> None:
    def measure(words: int) -> float:
        start = time.perf_counter()
        reverse_sentiment("it is not good and never great " * words, np.random.default_rng(0))
        return time.perf_counter() - start

    measure(10)
    assert measure(4000) < 12 * measure(1000) + 0.05


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("It is set in Paris.", 0.0),
        ("A good film", 1.9),
        ("A good, great film", 1.9 + 3.1),
        ("GOOD but horrible", 1.9 - 2.5),
        ("it isn't good", -0.74 * 1.9),
        ("not only good but great", 1.9 + 3.1),
        ("It is not long. Good", 1.9),  # the negation is of another clause
        ("a good deal of war", 0.0),
        ("Without a doubt the best film", 3.2),
        ("without question good", 1.9),
        ("not without charm", 1.7),
        ("without charm", -0.74 * 1.7),
        ("it couldn't be better", 1.9),
        ("it could n't be worse", -2.1),
        ("it cannot be better", 1.9),
        ("Can't be better", 1.9),
        ("it isn't better", -0.74 * 1.9),
        ("never fails to entertain", 1.3),
        ("nobody likes it", -0.74 * 1.8),
    ],
)
def test_ratings_are_those_of_vader_turned_by_negations(text: str, rating: float) -> None:
    assert rate_sentiment(text) == pytest.approx(rating)
