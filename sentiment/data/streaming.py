"""Corpora larger than memory: reviews are read, cleaned, tokenized and shuffled while training."""

from collections.abc import Collection, Iterator
from itertools import compress, count
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, IterableDataset, Value
from torch.utils.data import get_worker_info
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import CorpusArguments
from sentiment.data.caching import map_batches
from sentiment.data.corpus import hash_batch, hash_keys, load_corpus
from sentiment.data.leaks import OverlapIndex
from sentiment.data.tokenization import SEQUENCES, SEQUENCES_WITH_TEXTS, Batch, chunk_batch, chunk_texts, encode_batch
from sentiment.exceptions import InputError, require

HASHED_TEXTS = Features({"text": Value("string"), "hash": Value("uint64")})
BATCH_SIZE = 100  # reviews that are cleaned and tokenized together


class EndlessDataset(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Passes over an `IterableDataset` without end, each shuffled in another order (`set_epoch`).

    To the Trainer it is one epoch. Every iteration starts with the first pass, so that skipping the batches of a
    checkpoint resumes the training exactly.
    """

    def __init__(self, rows: IterableDataset) -> None:
        self.rows = rows
        self.features = rows.features

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows; raises InputError if a pass has none, unless another data loader worker has them."""
        for epoch in count():
            self.rows.set_epoch(epoch)
            row = None
            for row in self.rows:
                yield row
            if row is None and get_worker_info() is not None:
                return
            if row is None:
                raise InputError(f"the stream holds no review to train on in pass {epoch + 1}: omit --streaming")


def stream_corpus(
    args: CorpusArguments,
    tokenizer: PreTrainedTokenizerBase,
    held_out_keys: Collection[str],
    seed: int,
    validation_rows: int,
    keep_texts: bool = False,
) -> tuple[IterableDataset, Dataset]:
    """A shuffled stream of training sequences, and those of the first `validation_rows` usable reviews, in memory.

    Both have the columns of `tokenize_long_texts`, with `keep_texts` also `text`. Each sequence is drawn at random from
    a buffer; the order depends on the seed and on `set_epoch`. No review of the validation set and none with one of the
    `held_out_keys`, or that overlaps with one (`OverlapIndex`), is in the stream; other duplicates stay, since finding
    them takes memory that grows with the corpus.
    Raises InputError if nothing is left to train on.
    """
    reviews, forbidden, index = load_corpus(args), hash_keys(held_out_keys), OverlapIndex(held_out_keys)
    held_out: dict[int, str] = {}
    for review in keep_usable(reviews, args.cleaning, forbidden, index):
        held_out.setdefault(review["hash"], review["text"])
        if len(held_out) == validation_rows:
            break
    arguments: dict[str, Any] = {
        "tokenizer": tokenizer,
        "max_seq_length": args.max_seq_length,
        "long_texts": args.long_texts,
    }
    build, features = (chunk_texts, SEQUENCES_WITH_TEXTS) if keep_texts else (build_sequences, SEQUENCES)
    validation = Dataset.from_dict(build({"text": list(held_out.values())}, **arguments), features=features)
    forbidden = np.union1d(forbidden, np.fromiter(held_out, dtype=np.uint64))
    train = map_batches(
        keep_usable(reviews, args.cleaning, forbidden, index),
        build,
        fn_kwargs=arguments,
        batch_size=BATCH_SIZE,
        remove_columns=["hash"] if keep_texts else list(HASHED_TEXTS),
        features=features,
    )
    require(
        next(iter(train), None) is not None,
        f"the stream holds no review to train on beside the {len(held_out):,} for validation: omit --streaming",
    )
    return train.shuffle(seed=seed, buffer_size=args.shuffle_buffer_size), validation


def keep_usable(reviews: IterableDataset, cleaning: str, forbidden: np.ndarray, index: OverlapIndex) -> IterableDataset:
    """The cleaned `text` and the `hash` of reviews that are not empty, not forbidden, and overlap with no other text.

    `forbidden` are hashes, and `index` has the texts that may not overlap.
    """
    arguments = {"cleaning": cleaning, "forbidden": forbidden, "index": index}
    return map_batches(reviews, keep_batch, fn_kwargs=arguments, batch_size=BATCH_SIZE, features=HASHED_TEXTS)


def keep_batch(batch: Batch, cleaning: str, forbidden: np.ndarray, index: OverlapIndex) -> Batch:
    """`keep_usable` for one batch."""
    hashed = hash_batch(batch, cleaning)
    kept = np.asarray(hashed["filled"], dtype=bool) & ~np.isin(hashed["hash"], forbidden)
    kept &= [not index.overlaps(key) for key in hashed["key"]]
    return {"text": list(compress(hashed["text"], kept)), "hash": hashed["hash"][kept].tolist()}


def build_sequences(batch: Batch, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, long_texts: str) -> Batch:
    """The sequences of a batch of cleaned texts, see `chunk_batch`."""
    return chunk_batch(encode_batch(batch, tokenizer), tokenizer, max_seq_length, long_texts)
