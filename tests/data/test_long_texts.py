"""Blocks hold every token of every review once, and the counts of both ways are those of a count by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentiment.data.tokenization import (
    LONG_TEXTS,
    chunk_tokens,
    compare_long_text_modes,
    compute_padding_share,
    group_by_length,
    tokenize_long_texts,
)

WORDS = ["the", "film", "is", "not", "good", "but", "very", "funny", "and", "the", "ending", "is", "a", "bad", "plot"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


def build_splits(*word_counts: int) -> DatasetDict:
    texts = [" ".join((WORDS * count)[:count]) for count in word_counts]
    return DatasetDict({"train": Dataset.from_dict({"text": texts, "key": texts})})


@given(st.lists(st.integers(0, 30_000)), st.integers(3, 64))
def test_blocks_lose_and_double_no_token(tokens: list[int], max_seq_length: int) -> None:
    pieces = chunk_tokens(tokens, max_seq_length, "chunk")
    assert [token for piece in pieces for token in piece] == tokens
    assert len(pieces) == math.ceil(len(tokens) / (max_seq_length - 2))
    lengths = [len(piece) for piece in pieces]
    assert all(0 < length <= max_seq_length - 2 for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


@given(st.lists(st.integers(0, 30_000)), st.integers(3, 64))
def test_cut_keeps_the_beginning(tokens: list[int], max_seq_length: int) -> None:
    assert chunk_tokens(tokens, max_seq_length, "truncate") == ([tokens[: max_seq_length - 2]] if tokens else [])


@pytest.mark.parametrize("long_texts", ["chunk", "truncate"])
def test_columns_of_both_ways(tokenizer: PreTrainedTokenizerBase, long_texts: str) -> None:
    splits = build_splits(3, 13, 6)
    part = tokenize_long_texts(splits, tokenizer, max_seq_length=8, long_texts=long_texts)["train"]
    assert sorted(part.column_names) == ["input_ids", "length", "special_tokens_mask"]
    assert part["length"][:] == ([5, 6, 6, 7, 8] if long_texts == "chunk" else [5, 8, 8])
    inner = []
    for row in part:
        ids = row["input_ids"]
        assert len(ids) == len(row["special_tokens_mask"]) == row["length"]
        assert row["special_tokens_mask"] == [1, *[0] * (len(ids) - 2), 1]
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        inner.append(tokenizer.decode(ids[1:-1]))
    texts = splits["train"]["text"][:]
    if long_texts == "chunk":
        assert [inner[0], " ".join(inner[1:4]), inner[4]] == texts
    else:
        assert inner == [" ".join(text.split()[:6]) for text in texts]


def test_cut_texts_are_those_of_a_truncating_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = build_splits(3, 60, 6)
    part = tokenize_long_texts(splits, tokenizer, max_seq_length=16, long_texts="truncate")["train"]
    expected = tokenizer(splits["train"]["text"][:], truncation=True, max_length=16, return_special_tokens_mask=True)
    assert part["input_ids"][:] == expected["input_ids"]
    assert part["special_tokens_mask"][:] == expected["special_tokens_mask"]


def test_review_without_a_token_gives_no_text(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = DatasetDict({"train": Dataset.from_dict({"text": ["\u200b", "a film"]})})
    for way in ("chunk", "truncate"):
        assert tokenize_long_texts(splits, tokenizer, 8, way)["train"]["length"][:] == [4]


def test_two_processes_give_the_same(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = build_splits(*range(1, 40))
    one = tokenize_long_texts(splits, tokenizer, 8, "chunk", num_proc=1)["train"]
    two = tokenize_long_texts(splits, tokenizer, 8, "chunk", num_proc=2)["train"]
    assert one.to_dict() == two.to_dict()


def test_text_is_tokenized_once(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reviews.txt").write_text("a good film\n" * 12)
    splits = DatasetDict({"train": Dataset.from_text(str(tmp_path / "reviews.txt"), cache_dir=str(tmp_path))})
    first = tokenize_long_texts(splits, tokenizer, 8, "chunk")["train"]
    tokenizer("another text", truncation=True, max_length=4, padding="max_length")  # leaves its traces in a tokenizer
    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", None)
    again = tokenize_long_texts(splits, tokenizer, 8, "chunk")["train"]
    assert again.cache_files == first.cache_files
    assert compare_long_text_modes(splits["train"], tokenizer, 8, 4)["truncate"]["texts"] == 12


def test_ways_are_counted_as_by_hand(tokenizer: PreTrainedTokenizerBase) -> None:
    ways = compare_long_text_modes(build_splits(3, 13, 6)["train"], tokenizer, max_seq_length=8, batch_size=5)
    # 3, 4, 4, 5 and 6 words and two special tokens each, padded to 8; and 3, 6 and 6 words
    assert ways["chunk"] == {"texts": 5, "tokens": 32, "lost_tokens": 0, "padding_share": pytest.approx(8 / 40)}
    assert ways["truncate"] == {"texts": 3, "tokens": 21, "lost_tokens": 7, "padding_share": pytest.approx(3 / 24)}


def test_counts_are_those_of_the_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = build_splits(*range(1, 60))
    ways = compare_long_text_modes(splits["train"], tokenizer, max_seq_length=16, batch_size=8)
    for way in LONG_TEXTS:
        lengths = tokenize_long_texts(splits, tokenizer, 16, way)["train"]["length"][:]
        assert (ways[way]["texts"], ways[way]["tokens"]) == (len(lengths), sum(lengths))
        assert ways[way]["padding_share"] == compute_padding_share(lengths, 8)


def test_padding_is_that_of_the_trainers_batches() -> None:
    lengths = np.random.default_rng(0).integers(3, 129, size=2000).tolist()
    order = group_by_length(lengths, 32, torch.Generator().manual_seed(1))
    batches = [[lengths[row] for row in order[start : start + 32]] for start in range(0, len(order), 32)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    assert compute_padding_share(lengths, 32) == pytest.approx(1 - sum(lengths) / padded, abs=0.005)
    assert compute_padding_share([7] * 50, 8) == 0
    assert compute_padding_share([4, 8], 2) == 0.25
