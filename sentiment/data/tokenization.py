"""Texts to token ids, through `datasets.map`."""

from typing import Any

from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.data.word_pieces import TextEncoder
from sentiment.data.workers import count_workers


def tokenize_reviews(
    splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int, num_proc: int | None = None
) -> DatasetDict:
    """The splits with `input_ids` cut at `max_length` tokens, their `length`, `row` and `labels`, without texts.

    Nothing is padded here: the collator pads each batch to its own longest text.
    """
    encoder = TextEncoder(tokenizer)
    return DatasetDict({name: tokenize_split(part, encoder, max_length, num_proc) for name, part in splits.items()})


def tokenize_split(part: Dataset, encoder: TextEncoder, max_length: int, num_proc: int | None = None) -> Dataset:
    """One split for `tokenize_reviews`."""
    tokenized = part.select_columns(["text", "label", "row"]).map(
        tokenize_batch,
        batched=True,
        num_proc=count_workers(len(part), num_proc),
        remove_columns=["text"],
        fn_kwargs={"encoder": encoder, "max_length": max_length},
        desc="Tokenizing",
    )
    return tokenized.rename_column("label", "labels")


def tokenize_batch(batch: dict[str, list[str]], encoder: TextEncoder, max_length: int) -> dict[str, list[Any]]:
    """One batch of `datasets.map`: cleaned texts become token ids and their number."""
    first, last = encoder.special
    input_ids = [[first, *ids[: max_length - len(encoder.special)], last] for ids in encoder.encode(batch["text"])]
    return {"input_ids": input_ids, "length": [len(ids) for ids in input_ids]}
