"""Corpora: splits that are read, dropped rows, the random split, and hashes of texts."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st

from sentiment.config.arguments import CorpusArguments
from sentiment.data.cleaning import compute_text_key
from sentiment.data.corpus import (
    Corpus,
    choose_splits,
    collect_published_test_keys,
    count_seen,
    hash_keys,
    load_corpus,
    prepare_corpus,
)
from sentiment.data.sources import load_reviews
from sentiment.exceptions import InputError


def build_corpus(texts: list[str], source: str = "own") -> Dataset:
    return Dataset.from_dict({"text": texts, "source": [source] * len(texts)})


def prepare(corpus: Dataset, seed: int = 1, forbidden: Collection[str] = (), **options: Any) -> Corpus:
    return prepare_corpus(corpus, CorpusArguments(**({"max_rows": "all"} | options)), forbidden, seed)


def texts_of(corpus: Corpus) -> list[str]:
    return [text for part in corpus.splits.values() for text in part["text"]]


# --- sources ---


@pytest.mark.parametrize(
    ("dataset", "names", "split", "chosen"),
    [
        ("imdb", ["train", "test", "unsupervised"], "auto", ["unsupervised"]),
        ("imdb", ["train", "test", "unsupervised"], "all", ["train", "unsupervised"]),
        ("sst2", ["train", "validation", "test"], "auto", ["train"]),
        ("sst2", ["train", "validation", "test"], "test", ["test"]),
        ("snippets", ["train", "unsupervised"], "auto", ["train", "unsupervised"]),
        ("snippets_nyt", ["train", "unsupervised"], "unsupervised", ["unsupervised"]),
        ("mine", ["train", "extra"], "auto", ["train", "extra"]),
    ],
)
def test_splits_that_a_corpus_reads(dataset: str, names: list[str], split: str, chosen: list[str]) -> None:
    assert choose_splits(dataset, names, split) == chosen


@pytest.mark.parametrize(("names", "split"), [(["test"], "auto"), (["train"], "unsupervised")])
def test_source_without_a_split_to_read_is_refused(names: list[str], split: str) -> None:
    with pytest.raises(InputError, match=f"dataset mine has nothing to read for --split {split}: it has {names[0]}"):
        choose_splits("mine", names, split)


def test_sources_are_concatenated_and_labels_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "unsupervised.txt").write_text("first\n\nsecond\n")
    (tmp_path / "test.csv").write_text("text,label\nnever,1\n")
    stars = tmp_path / "stars.csv"
    stars.write_text("review,label,sentiment\nthird,5 stars,great\n")
    corpus = load_corpus(CorpusArguments(dataset_name=[str(tmp_path), str(stars)]))
    assert corpus.to_dict() == {
        "text": ["first", "second", "third"],
        "source": [str(tmp_path), str(tmp_path), str(stars)],
    }


# --- rows ---


def test_unusable_rows_are_dropped_and_counted_after_max_rows() -> None:
    fresh = [f"review number {row} ends here" for row in range(20)]
    raw = [text.replace("ends", "ends<br />") for text in fresh]
    texts = ["", "A fine film.", "<br />", "a FINE film", "seen in test", *raw, "never read"]
    corpus = prepare(build_corpus(texts), max_rows="25", forbidden={compute_text_key("Seen in test!")})
    assert corpus.rows_read == 25
    assert corpus.dropped == {"empty": 2, "duplicates": 1, "in_test": 1, "overlaps": 0, "over_max_rows": 1}
    assert sorted(texts_of(corpus)) == sorted(["A fine film.", *fresh])


def test_texts_that_cleaning_empties_count_as_empty() -> None:
    texts = [":-)", *(f"review {row}" for row in range(20))]
    assert prepare(build_corpus(texts), cleaning="light").dropped["empty"] == 0
    assert prepare(build_corpus(texts), cleaning="classic").dropped["empty"] == 1


@pytest.mark.parametrize("text", ["it does n't work", "it doesn't work", "It does<br />n't WORK .", "itdoesntwork"])
def test_test_texts_are_found_whatever_their_spacing(text: str) -> None:
    texts = [text, *(f"review {row}" for row in range(20))]
    assert prepare(build_corpus(texts), forbidden={compute_text_key("it does n't work")}).dropped["in_test"] == 1


def test_parts_of_test_texts_and_texts_that_hold_one_are_dropped() -> None:
    texts = [f"review {row}" for row in range(20)]
    overlapping = ["Of a fine film", "I saw a part of a fine film again!", "so a part of a fine film"]
    chance = ["a fine film", "part of it", "a part of the fine film"]
    corpus = prepare(build_corpus([*texts, *overlapping, *chance]), forbidden={"a part of a fine film", "a film"})
    assert (corpus.dropped["in_test"], corpus.dropped["overlaps"]) == (0, 3)
    assert sorted(texts_of(corpus)) == sorted([*texts, *chance])


def test_random_split_depends_on_the_seed_and_keeps_the_order() -> None:
    texts = [f"review {row:03}" for row in range(100)]
    corpus = prepare(build_corpus(texts))
    train, validation = corpus.splits["train"]["text"][:], corpus.splits["validation"]["text"][:]
    assert (len(train), len(validation)) == (80, 20)
    assert sorted(train + validation) == texts
    assert train == sorted(train)
    assert validation == sorted(validation)
    assert corpus.splits["train"]["key"][:] == train
    assert prepare(build_corpus(texts)).splits["validation"]["text"][:] == validation
    assert prepare(build_corpus(texts), seed=2).splits["validation"]["text"][:] != validation
    assert len(prepare(build_corpus(texts), validation_split_percentage=10).splits["validation"]) == 10


@pytest.mark.parametrize("sample", ["first", "random"])
def test_max_rows_takes_the_first_rows_or_a_random_sample(sample: str) -> None:
    texts = [f"review {row:03}" for row in range(100)]
    found = sorted(texts_of(prepare(build_corpus(texts), max_rows="30", sample=sample)))
    assert len(set(found)) == 30
    assert (found == texts[:30]) == (sample == "first")


def test_first_rows_that_lack_a_source_are_refused() -> None:
    texts = [f"review {row}" for row in range(20)]
    both = concatenate_datasets([build_corpus(texts, "imdb"), build_corpus([f"{t}!?" for t in texts], "mine")])
    with pytest.raises(InputError, match=r"the first 20 of 40 reviews hold none of mine: pass --sample random"):
        prepare(both, max_rows="20")
    assert prepare(both, max_rows="21").rows_read == 21
    assert prepare(both, max_rows="20", sample="random").rows_read == 20


def test_too_few_usable_reviews_are_refused_with_the_reasons() -> None:
    texts = ["", *["again"] * 5, *(f"review {row}" for row in range(9))]
    with pytest.raises(
        InputError, match=r"only 9 of 15 .*\(empty 1, duplicates 4, in_test 1, overlaps 0\), and 10 are needed"
    ):
        prepare(build_corpus(texts), forbidden={"again"})


def test_two_processes_give_equal_rows_and_a_second_call_uses_the_cache(tmp_path: Path) -> None:
    (tmp_path / "reviews.txt").write_text("\n".join(f"review {row} &amp; <b>more</b>" for row in range(50)))
    corpus_args = CorpusArguments(dataset_name=[str(tmp_path / "reviews.txt")])
    one, two, again = (
        prepare(load_corpus(corpus_args), preprocessing_num_workers=workers).splits for workers in (1, 2, 1)
    )
    for name in ("train", "validation"):
        assert one[name].to_dict() == two[name].to_dict()
        assert one[name].cache_files
        assert one[name].cache_files == again[name].cache_files
        assert one[name]._fingerprint == again[name]._fingerprint


# --- held-out texts ---


def test_all_texts_of_validation_and_test_are_held_out(build_reviews: Callable[..., DatasetDict]) -> None:
    reviews = build_reviews(
        train=[("for training", 1)],
        validation=[("To validate!", 0), ("unlabelled", -1)],
        test=[("To test.", 1)],
        unsupervised=[("for adaptation", -1)],
    )
    assert collect_published_test_keys(reviews) == {"to validate", "unlabelled", "to test"}
    assert collect_published_test_keys(build_reviews(train=[("for training", 1)])) == set()


# --- hashes ---


@given(st.lists(st.text(alphabet="ab é")), st.lists(st.text(alphabet="ab é")))
def test_seen_keys_are_those_with_equal_letters(keys: list[str], others: list[str]) -> None:
    letters = {key.replace(" ", "") for key in keys}
    assert count_seen(others, hash_keys(keys)) == sum(key.replace(" ", "") in letters for key in others)


def test_hashes_are_sorted_distinct_and_stable(tmp_path: Path) -> None:
    hashes = hash_keys(["good film", "bad film", "goodfilm"])
    assert hashes.dtype == np.uint64
    # Of blake2b with a digest of 8 bytes, little end first: runs of other machines and days look these up.
    assert hashes.tolist() == [7_400_308_534_296_124_356, 15_268_877_358_723_103_202]
    np.save(tmp_path / "keys.npy", hashes)
    assert count_seen(["bad film", "new film"], np.load(tmp_path / "keys.npy")) == 1
    assert hash_keys([]).tolist() == []


# --- the published files ---


@pytest.mark.real_data
def test_no_unlabelled_review_of_imdb_is_in_its_test_split(real_data_dir: str) -> None:
    published = load_reviews("imdb", real_data_dir)
    unlabelled, tested = set(published["unsupervised"]["text"]), set(published["test"]["text"])
    assert len(unlabelled & tested) == 109  # letter by letter; with other tags or spaces there are more
    forbidden = collect_published_test_keys(published)
    assert len(forbidden) == 24_798
    corpus = prepare(load_corpus(CorpusArguments(data_dir=real_data_dir)), forbidden=forbidden)
    assert corpus.rows_read == 50_000
    assert corpus.dropped == {"empty": 0, "duplicates": 497, "in_test": 265, "overlaps": 1, "over_max_rows": 0}
    for part in corpus.splits.values():
        assert count_seen(part["key"], hash_keys(forbidden)) == 0


@pytest.mark.real_data
def test_validation_and_test_texts_of_sst2_are_held_out(real_data_dir: str) -> None:
    published = load_reviews("sst2", real_data_dir)
    held_out = [*published["validation"]["text"], *published["test"]["text"]]
    assert collect_published_test_keys(published) == {compute_text_key(text) for text in held_out}
    assert choose_splits("sst2", list(published), "auto") == ["train"]
