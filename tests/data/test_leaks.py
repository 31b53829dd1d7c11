"""Spans found by hashing, against a search that looks at every span of words."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentiment.config.arguments import DataArguments
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.leaks import FEWEST_WORDS, OverlapIndex, SpanIndex, assign_clusters, find_containers

REAL_DATA = os.environ.get("SENTIMENT_DATA_DIR")
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
@given(st.lists(TEXT, max_size=12), TEXT)
@example(["a b a b a"], "b a b a")
@example([], "a b a b")
def test_overlaps_are_parts_and_texts_that_hold_one(texts: list[str], text: str) -> None:
    def is_part(one: str, of: str) -> bool:
        return len(one.split()) >= FEWEST_WORDS and count_places(one, of) > 0

    index = OverlapIndex(texts)
    assert index.overlaps(text) == any(is_part(text, other) or is_part(other, text) for other in texts)


def test_an_index_works_in_a_process_with_other_hashes(tmp_path: Path) -> None:
    """Data loader workers may be such processes."""
    path = tmp_path / "index"
    path.write_bytes(pickle.dumps(OverlapIndex(["a part of a fine film"])))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).overlaps('so a part of a fine film'))"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    found = subprocess.run([sys.executable, "-c", code, path], env=environment, capture_output=True, check=True)
    assert found.stdout == b"True\n"


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12, unique=True))
def test_containers_are_maximal_texts(texts: list[str]) -> None:
    def is_part(one: str, of: str) -> bool:
        return one != of and count_places(one, of) > 0

    wholes = {position for position, text in enumerate(texts) if not any(is_part(text, other) for other in texts)}
    expected = {
        text: {position for position in wholes if is_part(text, texts[position])}
        for text in texts
        if any(is_part(text, other) for other in texts)
    }
    assert find_containers(texts) == expected


def test_only_whole_words_count() -> None:
    assert find_containers(["film", "films", "a film of films"]) == {"film": {2}, "films": {2}}
    assert find_containers(["art", "a party"]) == {}


def test_nothing_and_empty_texts_contain_nothing() -> None:
    assert find_containers([]) == {}
    assert find_containers(["", "a"]) == {}
    assert list(SpanIndex(["", "a"]).find_in("")) == []


def test_search_in_a_long_text_is_linear() -> None:
    # 20,000 words, each of which starts a phrase: every span of them would be 200 million.
    words = [f"w{number}" for number in range(20_000)]
    text = " ".join(words)
    index = SpanIndex([*words, text])
    started = time.process_time()
    assert sum(1 for _ in index.find_in(text)) == 20_001
    assert time.process_time() - started < 5


def test_clusters_join_equal_texts_and_phrases_with_their_sentence() -> None:
    texts = ["dull", "A fine film .", "fine", "a dull and endless story", "a fine film", "no plot", "a dull story"]
    assert assign_clusters(texts).tolist() == [0, 1, 1, 2, 1, 3, 0]  # "dull" joins the shorter of its two sentences


def test_a_common_word_does_not_merge_the_sentences_that_contain_it() -> None:
    texts = ["not", *(f"not film {number}" for number in range(50))]
    clusters = assign_clusters(texts)
    assert len(set(clusters)) == 50
    assert clusters[0] == clusters[1]  # the first of equal length


def test_clusters_of_no_rows_and_of_empty_texts() -> None:
    assert assign_clusters([]).shape == (0,)
    assert assign_clusters(["", "a", " "]).tolist() == [0, 1, 0]


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12))
def test_each_cluster_is_one_maximal_text_and_parts_of_it(texts: list[str]) -> None:
    clusters = assign_clusters(texts)
    assert sorted(set(clusters)) == list(range(len(set(clusters))))
    for cluster in set(clusters):
        members = {text for text, own in zip(texts, clusters, strict=True) if own == cluster}
        whole = max(members, key=len)
        assert all(count_places(text, whole) for text in members)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="SENTIMENT_DATA_DIR is not set: no published files to read")
def test_clusters_of_sst2_stay_small() -> None:
    test = load_split_reviews(DataArguments(dataset_name="sst2", max_rows="all"), seed=42).splits["test"]
    sizes = np.bincount(assign_clusters(test["text"][:]))
    assert (len(test), len(sizes), sizes.max()) == (6_822, 4_225, 8)
