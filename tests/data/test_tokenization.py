"""Token ids as the model gets them: cut, unpadded, each row with its number and label."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import DatasetDict
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentiment.data.splits import split_reviews
from sentiment.data.tokenization import tokenize_reviews


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture(scope="module")
def splits(build_reviews: Callable[..., DatasetDict]) -> DatasetDict:
    good = [(" ".join(["a", *["very"] * row, "good film"]), 1) for row in range(20)]
    bad = [(" ".join(["a", *["very"] * row, "bad film"]), 0) for row in range(20)]
    return split_reviews(build_reviews(train=good + bad)).splits


def test_rows_keep_order_number_and_label(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenized = tokenize_reviews(splits, tokenizer, max_seq_length=64)
    assert list(tokenized) == ["train", "validation", "test"]
    for name, part in splits.items():
        assert sorted(tokenized[name].column_names) == ["input_ids", "labels", "length", "row"]
        assert tokenized[name]["row"][:] == part["row"][:]
        assert tokenized[name]["labels"][:] == part["label"][:]
        for text, input_ids, length in zip(
            part["text"], tokenized[name]["input_ids"], tokenized[name]["length"], strict=True
        ):
            assert tokenizer.decode(input_ids) == f"[CLS] {text} [SEP]"
            assert length == len(input_ids) == len(text.split()) + 2


def test_texts_are_cut_and_not_padded(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    part = tokenize_reviews(splits, tokenizer, max_seq_length=8)["train"]
    lengths = [min(8, len(text.split()) + 2) for text in splits["train"]["text"]]
    assert part["length"][:] == lengths
    assert [len(input_ids) for input_ids in part["input_ids"]] == lengths
    assert {input_ids[-1] for input_ids in part["input_ids"]} == {tokenizer.sep_token_id}


def test_two_processes_give_the_same(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    one = tokenize_reviews(splits, tokenizer, max_seq_length=64, num_proc=1)
    two = tokenize_reviews(splits, tokenizer, max_seq_length=64, num_proc=2)
    assert one["train"].to_dict() == two["train"].to_dict()
