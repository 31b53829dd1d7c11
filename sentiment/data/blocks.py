"""Texts for masked-language modelling: whole reviews in blocks, or cut at a length, and what either way costs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, List, Value
from transformers import PreTrainedTokenizerBase

from sentiment.data.word_pieces import TextEncoder
from sentiment.data.workers import count_workers
from sentiment.length_groups import group_by_length

LONG_TEXTS = ("blocks", "cut")
BLOCKS = Features(
    {"input_ids": List(Value("int32")), "special_tokens_mask": List(Value("int8")), "length": Value("int32")}
)
SPECIAL_TOKENS = 2  # one before each block, one after it


def tokenize_corpus(
    splits: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    long_texts: str,
    num_proc: int | None = None,
) -> DatasetDict:
    """The texts as the model reads them, unpadded: `input_ids`, `special_tokens_mask` and `length`, in tokens.

    `long_texts`: what becomes of a review that is longer than `max_length` tokens, the two special ones included.
    `blocks`: as few texts as can hold it, of about equal length, none with tokens of another review; nothing is lost.
    `cut`: its first `max_length` tokens. A review without any token gives no text.
    """
    encoder = TextEncoder(tokenizer)
    return DatasetDict(
        {
            name: encode_reviews(part, encoder, num_proc).map(
                cut_batch,
                batched=True,
                num_proc=count_workers(len(part), num_proc),
                remove_columns=["tokens"],
                features=BLOCKS,
                fn_kwargs={
                    "special": encoder.special,
                    "max_length": max_length,
                    "long_texts": long_texts,
                },
                desc="Cutting",
            )
            for name, part in splits.items()
        }
    )


def encode_reviews(part: Dataset, encoder: TextEncoder, num_proc: int | None = None) -> Dataset:
    """The `tokens` of each review, without special ones, uncut, and their number, `length`; both ways start from it."""
    return part.select_columns(["text"]).map(
        encode_batch,
        batched=True,
        num_proc=count_workers(len(part), num_proc),
        remove_columns=["text"],
        features=Features({"tokens": List(Value("int32")), "length": Value("int32")}),
        fn_kwargs={"encoder": encoder},
        desc="Tokenizing",
    )


def encode_batch(batch: dict[str, list[str]], encoder: TextEncoder) -> dict[str, list[Any]]:
    """One batch of `datasets.map`: texts become token ids and their number."""
    tokens = encoder.encode(batch["text"])
    return {"tokens": tokens, "length": [len(ids) for ids in tokens]}


def cut_batch(
    batch: dict[str, list[Any]], special: tuple[int, int], max_length: int, long_texts: str
) -> dict[str, list[Any]]:
    """One batch of `datasets.map`: reviews become texts with special tokens around each, in another number."""
    first, last = special
    blocks = [
        [first, *block, last] for tokens in batch["tokens"] for block in cut_tokens(tokens, max_length, long_texts)
    ]
    masks = {length: [1, *[0] * (length - SPECIAL_TOKENS), 1] for length in {len(block) for block in blocks}}
    return {
        "input_ids": blocks,
        "special_tokens_mask": [masks[len(block)] for block in blocks],
        "length": [len(block) for block in blocks],
    }


def cut_tokens(tokens: Sequence[int], max_length: int, long_texts: str) -> list[Sequence[int]]:
    """The tokens of one review in pieces that leave room for the special tokens.

    A review of 130 tokens becomes two blocks of 65 rather than one of 126 and one of 4, in which a masked word has
    hardly a neighbour to be guessed from.

    >>> cut_tokens(range(7), max_length=5, long_texts="blocks")
    [range(0, 2), range(2, 4), range(4, 7)]
    >>> cut_tokens(range(7), max_length=5, long_texts="cut")
    [range(0, 3)]
    """
    size = max_length - SPECIAL_TOKENS
    if long_texts == "cut":
        return [tokens[:size]] if tokens else []
    count = -(-len(tokens) // size)
    bounds = [len(tokens) * block // count for block in range(count + 1)] if count else []
    return [tokens[start:end] for start, end in pairwise(bounds)]


def describe_ways(
    part: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, batch_size: int, num_proc: int | None = None
) -> dict[str, Any]:
    """For `blocks` and for `cut`: number of `texts`, their `tokens`, `lost_tokens` and `padding_share`.

    `tokens` counts the special ones of each text, `lost_tokens` are those of the reviews that no text holds, and
    `padding_share` is that of batches of like lengths (`compute_padding_share`).
    """
    reviews = np.asarray(encode_reviews(part, TextEncoder(tokenizer), num_proc)["length"][:])
    ways = {}
    for way in LONG_TEXTS:
        lengths = [len(block) for tokens in reviews for block in cut_tokens(range(tokens), max_length, way)]
        ways[way] = {
            "texts": len(lengths),
            "tokens": sum(lengths) + SPECIAL_TOKENS * len(lengths),
            "lost_tokens": int(reviews.sum()) - sum(lengths),
            "padding_share": compute_padding_share([length + SPECIAL_TOKENS for length in lengths], batch_size),
        }
    return ways


def compute_padding_share(lengths: list[int], batch_size: int) -> float:
    """Share of the positions that only fill up a text to the longest of its batch, batches as the Trainer groups them.

    That is, `train_sampling_strategy="group_by_length"`, in one order of many.
    """
    order = group_by_length(lengths, batch_size, torch.Generator().manual_seed(0))
    batches = np.split(np.array(lengths)[order], range(batch_size, len(order), batch_size))
    return 1 - sum(lengths) / sum(len(batch) * int(batch.max()) for batch in batches)
