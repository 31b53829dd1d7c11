"""Every number of an audit, on texts few enough to count by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import DatasetDict
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentiment.data.audit import audit_splits, find_contained
from sentiment.data.splits import add_keys

TRAIN = [
    ("A good film .", 1),  # 6 tokens with [CLS] and [SEP]
    ("a good film", 1),  # 5, duplicate
    ("a GOOD film!", 0),  # 6 ("!" is [UNK]), duplicate, both labels
    ("the story is not dull but funny", 1),  # 9
    ("bad", 0),  # 3
    ("", 0),  # 2
]
VALIDATION = [("a good film", 1), ("Bad.", 0), ("great", 1)]
TEST = [
    ("a good film", 1),  # word for word
    ("A good film...", -1),  # word for word
    ("not dull", 1),  # part of a training text
    ("good films", 1),  # "film" is no word of it
    ("the story", -1),  # part
    ("very good film", 0),  # neither
    ("great", 1),
    ("bad", -1),  # word for word
]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture(scope="module")
def audit(build_reviews: Callable[..., DatasetDict], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    source = build_reviews(train=TRAIN, validation=VALIDATION, test=TEST)
    splits = DatasetDict({name: add_keys(part, "light", None) for name, part in source.items()})
    return audit_splits(splits, tokenizer, max_seq_length=5)


def test_training_split(audit: dict[str, Any]) -> None:
    assert audit["splits"]["train"] == {
        "rows": 6,
        "labels": {"negative": 3, "positive": 3, "unlabelled": 0},
        "left_out_by_mapping": 0,
        "empty": 1,
        "duplicates": 2,
        "both_labels": 1,
        # of 2, 3, 5, 6, 6, 9
        "tokens": {"mean": 5.17, "median": 5.5, "p95": 8.25, "max": 9},
        "share_unknown": pytest.approx(1 / 19),
        "share_cut": 0.5,
        "share_cut_by_class": {"negative": pytest.approx(1 / 3), "positive": pytest.approx(2 / 3)},
    }
    assert audit["max_seq_length"] == 5


def test_unlabelled_rows_give_no_second_label(audit: dict[str, Any]) -> None:
    assert audit["splits"]["test"]["labels"] == {"negative": 1, "positive": 4, "unlabelled": 3}
    assert audit["splits"]["test"]["both_labels"] == 0


def test_across_counts_rows_of_the_second(audit: dict[str, Any]) -> None:
    assert audit["across"] == {"train & validation": 2, "train & test": 3, "validation & test": 4}


def test_leaks_from_training_to_test(audit: dict[str, Any]) -> None:
    assert audit["test_in_train"] == {"rows": 3, "share": 3 / 8}
    assert audit["test_contained_in_train"] == {"rows": 5, "share": 5 / 8}


def test_without_a_test_split_leaks_are_not_reported(
    build_reviews: Callable[..., DatasetDict], tokenizer: PreTrainedTokenizerBase
) -> None:
    splits = DatasetDict({"train": add_keys(build_reviews(train=TRAIN)["train"], "light", None)})
    audit = audit_splits(splits, tokenizer, max_seq_length=128)
    assert list(audit) == ["max_seq_length", "splits", "across"]
    assert audit["across"] == {}
    assert audit["splits"]["train"]["share_cut"] == 0.0


def test_texts_that_cleaning_empties_count_as_empty(
    build_reviews: Callable[..., DatasetDict], tokenizer: PreTrainedTokenizerBase
) -> None:
    part = build_reviews(train=[(":-)", 1), ("good", 1), ("<br />", 0), ("\u200b", 0)])["train"]
    for cleaning, empty in (("light", 2), ("classic", 3)):
        audit = audit_splits(DatasetDict({"train": add_keys(part, cleaning, None)}), tokenizer, max_seq_length=128)
        assert audit["splits"]["train"]["empty"] == empty


def test_lengths_above_the_model_limit_are_counted_without_a_warning(
    build_reviews: Callable[..., DatasetDict], tokenizer: PreTrainedTokenizerBase
) -> None:
    part = add_keys(build_reviews(train=[("good " * 500, 1), ("bad", 0)])["train"], "light", None)
    audit = audit_splits(DatasetDict({"train": part}), tokenizer, max_seq_length=502)
    assert audit["splits"]["train"]["tokens"]["max"] == 502
    assert audit["splits"]["train"]["share_cut"] == 0.0


def test_contained_phrases_are_whole_words() -> None:
    assert find_contained({"film", "a film", "films", "ilm"}, {"a film here", "filmstar"}) == {"film", "a film"}
    assert find_contained({"x"}, set()) == find_contained(set(), {"x"}) == set()
