"""Spans found by hashing, against a search that looks at every span of words."""

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentiment.data.leaks import SpanIndex, find_containers

WORD = st.sampled_from("ab")
TEXT = st.lists(WORD, min_size=1, max_size=9).map(" ".join)


def count_places(phrase: str, text: str) -> int:
    part, words = phrase.split(), text.split()
    return sum(words[start : start + len(part)] == part for start in range(len(words)))


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12), TEXT)
@example(["a b a b a", "a b a b"], "c a b a b")  # the longer phrase would begin here, and the text ends
def test_every_phrase_is_found_at_every_place(phrases: list[str], text: str) -> None:
    found = list(SpanIndex(phrases).find_in(text))
    for phrase in phrases:
        assert found.count(phrase) == count_places(phrase, text)
    assert set(found) <= set(phrases)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12, unique=True))
def test_containers_are_the_texts_that_are_part_of_no_other(texts: list[str]) -> None:
    def is_part(one: str, of: str) -> bool:
        return one != of and count_places(one, of) > 0

    wholes = {position for position, text in enumerate(texts) if not any(is_part(text, other) for other in texts)}
    expected = {
        text: {position for position in wholes if is_part(text, texts[position])}
        for text in texts
        if any(is_part(text, other) for other in texts)
    }
    assert find_containers(texts) == expected


def test_words_are_whole() -> None:
    assert find_containers(["film", "films", "a film of films"]) == {"film": {2}, "films": {2}}
    assert find_containers(["art", "a party"]) == {}


def test_nothing_and_empty_texts_contain_nothing() -> None:
    assert find_containers([]) == {}
    assert find_containers(["", "a"]) == {}
    assert list(SpanIndex(["", "a"]).find_in("")) == []


def test_a_long_text_costs_its_length() -> None:
    # 20,000 words, each of which starts a phrase: every span of them would be 200 million.
    words = [f"w{number}" for number in range(20_000)]
    text = " ".join(words)
    index = SpanIndex([*words, text])
    started = time.process_time()
    assert sum(1 for _ in index.find_in(text)) == 20_001
    assert time.process_time() - started < 5
