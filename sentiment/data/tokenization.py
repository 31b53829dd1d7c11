"""Texts to token ids through `datasets.map`: one sequence a review, or a long review in several."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, List, Value
from transformers import PreTrainedTokenizerBase

from sentiment.data.word_pieces import TextEncoder
from sentiment.environment import choose_num_proc

LONG_TEXTS = ("chunk", "cut")
BLOCKS = Features(
    {"input_ids": List(Value("int32")), "special_tokens_mask": List(Value("int8")), "length": Value("int32")}
)
SPECIAL_TOKENS = 2  # one before each block, one after it
JITTER = 0.1  # of a length, over both sides of it


def tokenize_long_texts(
    splits: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    long_texts: str,
    num_proc: int | None = None,
) -> DatasetDict:
    """The texts as the model reads them, unpadded: `input_ids`, `special_tokens_mask` and `length`, in tokens.

    `long_texts`: what becomes of a review that is longer than `max_seq_length` tokens, the two special ones included.
    `blocks`: as few texts as can hold it, of about equal length, none with tokens of another review; nothing is lost.
    `cut`: its first `max_seq_length` tokens. A review without any token gives no text.
    """
    encoder = TextEncoder(tokenizer)
    return DatasetDict(
        {
            name: encode_texts(part, encoder, num_proc).map(
                chunk_batch,
                batched=True,
                num_proc=choose_num_proc(len(part), num_proc),
                remove_columns=["tokens"],
                features=BLOCKS,
                fn_kwargs={
                    "special": encoder.special,
                    "max_seq_length": max_seq_length,
                    "long_texts": long_texts,
                },
                desc="Cutting",
            )
            for name, part in splits.items()
        }
    )


def encode_texts(part: Dataset, encoder: TextEncoder, num_proc: int | None = None) -> Dataset:
    """The `tokens` of each review, without special ones, uncut, and their number, `length`; both ways start from it."""
    return part.select_columns(["text"]).map(
        encode_batch,
        batched=True,
        num_proc=choose_num_proc(len(part), num_proc),
        remove_columns=["text"],
        features=Features({"tokens": List(Value("int32")), "length": Value("int32")}),
        fn_kwargs={"encoder": encoder},
        desc="Tokenizing",
    )


def encode_batch(batch: dict[str, list[str]], encoder: TextEncoder) -> dict[str, list[Any]]:
    """One batch of `datasets.map`: texts become token ids and their number."""
    tokens = encoder.encode(batch["text"])
    return {"tokens": tokens, "length": [len(ids) for ids in tokens]}


def chunk_batch(
    batch: dict[str, list[Any]], special: tuple[int, int], max_seq_length: int, long_texts: str
) -> dict[str, list[Any]]:
    """One batch of `datasets.map`: reviews become texts with special tokens around each, in another number."""
    first, last = special
    blocks = [
        [first, *block, last]
        for tokens in batch["tokens"]
        for block in chunk_tokens(tokens, max_seq_length, long_texts)
    ]
    masks = {length: [1, *[0] * (length - SPECIAL_TOKENS), 1] for length in {len(block) for block in blocks}}
    return {
        "input_ids": blocks,
        "special_tokens_mask": [masks[len(block)] for block in blocks],
        "length": [len(block) for block in blocks],
    }


def chunk_tokens(tokens: Sequence[int], max_seq_length: int, long_texts: str) -> list[Sequence[int]]:
    """The tokens of one review in pieces that leave room for the special tokens.

    A review of 130 tokens becomes two blocks of 65 rather than one of 126 and one of 4, in which a masked word has
    hardly a neighbour to be guessed from.

    >>> chunk_tokens(range(7), max_seq_length=5, long_texts="chunk")
    [range(0, 2), range(2, 4), range(4, 7)]
    >>> chunk_tokens(range(7), max_seq_length=5, long_texts="cut")
    [range(0, 3)]
    """
    size = max_seq_length - SPECIAL_TOKENS
    if long_texts == "truncate":
        return [tokens[:size]] if tokens else []
    count = -(-len(tokens) // size)
    bounds = [len(tokens) * block // count for block in range(count + 1)] if count else []
    return [tokens[start:end] for start, end in pairwise(bounds)]


def compare_long_text_modes(
    part: Dataset, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, batch_size: int, num_proc: int | None = None
) -> dict[str, Any]:
    """For `blocks` and for `cut`: number of `texts`, their `tokens`, `lost_tokens` and `padding_share`.

    `tokens` counts the special ones of each text, `lost_tokens` are those of the reviews that no text holds, and
    `padding_share` is that of batches of like lengths (`compute_padding_share`).
    """
    reviews = np.asarray(encode_texts(part, TextEncoder(tokenizer), num_proc)["length"][:])
    ways = {}
    for way in LONG_TEXTS:
        lengths = [len(block) for tokens in reviews for block in chunk_tokens(range(tokens), max_seq_length, way)]
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


def tokenize_reviews(
    splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, num_proc: int | None = None
) -> DatasetDict:
    """The splits with `input_ids` cut at `max_seq_length` tokens, their `length`, `row` and `labels`, without texts.

    Nothing is padded here: the collator pads each batch to its own longest text.
    """
    encoder = TextEncoder(tokenizer)
    return DatasetDict({name: tokenize_split(part, encoder, max_seq_length, num_proc) for name, part in splits.items()})


def tokenize_split(part: Dataset, encoder: TextEncoder, max_seq_length: int, num_proc: int | None = None) -> Dataset:
    """One split for `tokenize_reviews`."""
    tokenized = part.select_columns(["text", "label", "row"]).map(
        tokenize_batch,
        batched=True,
        num_proc=choose_num_proc(len(part), num_proc),
        remove_columns=["text"],
        fn_kwargs={"encoder": encoder, "max_seq_length": max_seq_length},
        desc="Tokenizing",
    )
    return tokenized.rename_column("label", "labels")


def tokenize_batch(batch: dict[str, list[str]], encoder: TextEncoder, max_seq_length: int) -> dict[str, list[Any]]:
    """One batch of `datasets.map`: cleaned texts become token ids and their number."""
    first, last = encoder.special
    input_ids = [[first, *ids[: max_seq_length - len(encoder.special)], last] for ids in encoder.encode(batch["text"])]
    return {"input_ids": input_ids, "length": [len(ids) for ids in input_ids]}


def group_by_length(lengths: Sequence[int], batch_size: int, generator: torch.Generator | None = None) -> list[int]:
    """Indices of all texts: each `batch_size` of them, from the first on, are of like lengths, in random order.

    All texts are sorted by their lengths, each made up to a twentieth longer or shorter at random so that texts meet
    others in each epoch, and cut into batches, which are then shuffled. Only a batch with the longest text comes first,
    as in transformers' `get_length_grouped_indices`, so that memory is short sooner rather than later. That function
    sorts within some pools at a time and leaves them sorted: of SST-2's first 10,000 rows in batches of 128 it makes
    18.5% padding where this one makes 5.8%; and each pool goes from long to short.

    >>> sorted(group_by_length([5, 1, 5, 1, 9], batch_size=2))
    [0, 1, 2, 3, 4]
    """
    count = len(lengths)
    real = torch.as_tensor(lengths)
    order = (real * (1 + JITTER * (torch.rand(count, generator=generator) - 0.5))).argsort()
    full, rest = divmod(count, batch_size)
    if rest:  # The smaller batch can only be the last; it is as likely of one length as of another.
        start = batch_size * int(torch.randint(full + 1, (), generator=generator))
        order = torch.cat([order[:start], order[start + rest :], order[start : start + rest]])
    groups = order[: full * batch_size].view(full, batch_size)[torch.randperm(full, generator=generator)]
    if full:
        longest = int(real[groups].amax(1).argmax())
        groups[[0, longest]] = groups[[longest, 0]]
    return [*groups.flatten().tolist(), *order[full * batch_size :].tolist()]
