"""What is kept of long texts, with the special tokens of each kind of tokenizer, in training and in use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentiment.config.data_arguments import TRUNCATIONS
from sentiment.data.tokenization import get_backend, tokenize_reviews
from sentiment.data.truncation import CHARACTERS_PER_TOKEN, encode_truncated, find_special_tokens, truncate


@pytest.mark.parametrize(("truncation", "first", "last"), [("head", 510, 0), ("tail", 0, 510), ("head_tail", 128, 382)])
def test_published_shares(truncation: str, first: int, last: int) -> None:
    """Sun et al. 2019 keep the first 128 and the last 382 tokens of 510."""
    tokens = list(range(1000))
    assert truncate(tokens, 510, truncation) == tokens[:first] + tokens[1000 - last :]


@given(st.lists(st.integers(), max_size=30), st.integers(1, 40), st.sampled_from(TRUNCATIONS))
def test_parts_of_a_text_are_kept_in_order(tokens: list[int], size: int, truncation: str) -> None:
    kept = truncate(tokens, size, truncation)
    assert len(kept) == min(size, len(tokens))
    if len(tokens) <= size:
        assert kept == tokens
        return
    first = next(
        (n for n in range(size, -1, -1) if kept[:n] == tokens[:n] and kept[n:] == tokens[len(tokens) - size + n :]),
        None,
    )
    assert first is not None
    if truncation != "head_tail":
        assert kept == (tokens[:size] if truncation == "head" else tokens[-size:])


def test_special_tokens_are_those_of_the_tokenizer(tiny_encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    expected = ([tokenizer.cls_token_id], [tokenizer.sep_token_id])
    assert find_special_tokens(get_backend(tokenizer)) == expected


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("words", [0, 1, 5, 6, 7, 60])
def test_head_and_tail_are_the_truncation_of_transformers(tiny_encoder: Path, side: str, words: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder, truncation_side=side)
    text = " ".join((["good", "film", "very", "dull", "and"] * 12)[:words])
    expected = tokenizer(text, truncation=True, max_length=8)["input_ids"]
    whole = len(tokenizer(text)["input_ids"])
    truncation = "head" if side == "right" else "tail"
    assert encode_truncated(get_backend(tokenizer), [text], 8, truncation) == ([expected], [whole > 8])


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_very_long_texts_keep_their_ends(tokenizer: PreTrainedTokenizerBase, truncation: str) -> None:
    """Characters are cut before tokens, since the tokenizer reads a whole text first."""
    middle = "very " * 8 * CHARACTERS_PER_TOKEN
    ((ids,), (is_longer,)) = encode_truncated(
        get_backend(tokenizer), [f"good film is a {middle} bad story was a the"], 8, truncation
    )
    words = {
        "head": "good film is a very very",
        "tail": "very bad story [UNK] a the",
        "head_tail": "good film story [UNK] a the",
    }
    assert tokenizer.decode(ids) == f"[CLS] {words[truncation]} [SEP]"
    assert is_longer


def test_texts_that_fit_are_not_called_truncated(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = ["", "good", "a good film is a film", "a good film is a good film"]
    assert encode_truncated(get_backend(tokenizer), texts, 8, "tail")[1] == [False, False, False, True]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_training_texts_are_truncated_as_others(
    tokenizer: PreTrainedTokenizerBase, truncation: str, build_reviews: Callable[..., DatasetDict]
) -> None:
    texts = ["a good film", "a very good film " * 10, "good " * 3000 + "bad"]
    part: Dataset = build_reviews(train=[(text, 1) for text in texts])["train"].add_column("row", [0, 1, 2])
    tokenized = tokenize_reviews(DatasetDict(train=part), tokenizer, 16, truncation=truncation)["train"]
    assert tokenized["input_ids"][:] == encode_truncated(get_backend(tokenizer), texts, 16, truncation)[0]
