"""Corpora that are larger than memory: read, cleaned, tokenized and shuffled as they are asked for."""

from collections.abc import Collection, Iterator, Sequence
from itertools import compress
from typing import Any

import numpy as np
from datasets import Dataset, Features, IterableDataset, Value, interleave_datasets
from transformers import PreTrainedTokenizerBase

from sentiment.data.corpus import choose_splits, hash_batch, hash_keys
from sentiment.data.files import read_file
from sentiment.data.hub import check_hub
from sentiment.data.labels import match_columns, parse_row
from sentiment.data.sources import HUB_IDS, SNIPPETS, find_files, load_hub, load_reviews
from sentiment.data.tokenization import BLOCKS, chunk_batch, encode_batch
from sentiment.data.word_pieces import TextEncoder
from sentiment.exceptions import require

TEXTS = Features({"text": Value("string")})
REVIEWS_AT_ONCE = 100  # cleaned and tokenized together


def stream_corpus(
    datasets: Sequence[str],
    data_dir: str | None,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_length: int,
    long_texts: str,
    cleaning: str,
    held_out_keys: Collection[str],
    seed: int,
    buffer_size: int,
    validation_rows: int,
) -> tuple[IterableDataset, Dataset]:
    """A stream of training texts, and the texts of the first `validation_rows` usable reviews, held in memory.

    Both have the columns of `tokenize_long_texts`. Several datasets take turns, review by review, until all are read.
    The stream draws each text at random from `buffer_size` texts that it holds; equal seeds give equal orders, and
    each epoch (`set_epoch`) another one. No review of the validation texts is in the stream, nor one with one of the
    `held_out_keys`; other reviews that occur twice stay, since finding them takes memory that grows with the corpus.

    Raises:
        InputError: nothing is left to train on; see also `load_corpus`. Faults in a file show when they are reached.
    """
    reviews = stream_reviews(datasets, data_dir, split)
    forbidden = hash_keys(held_out_keys)
    held_out: dict[int, str] = {}
    for review in keep_usable(reviews, cleaning, forbidden):
        held_out.setdefault(review["hash"], review["text"])
        if len(held_out) == validation_rows:
            break
    encoder = TextEncoder(tokenizer)
    cutting: dict[str, Any] = {
        "encoder": encoder,
        "special": encoder.special,
        "max_seq_length": max_seq_length,
        "long_texts": long_texts,
    }
    validation = Dataset.from_dict(block_batch({"text": list(held_out.values())}, **cutting), features=BLOCKS)
    forbidden = np.union1d(forbidden, np.fromiter(held_out, dtype=np.uint64))
    usable = keep_usable(reviews, cleaning, forbidden)
    train = usable.map(
        block_batch,
        batched=True,
        batch_size=REVIEWS_AT_ONCE,
        remove_columns=["text", "hash"],
        features=BLOCKS,
        fn_kwargs=cutting,
    )
    require(
        next(iter(train), None) is not None,
        f"the stream holds no review to train on beside the {len(held_out):,} for validation: leave out --streaming",
    )
    return train.shuffle(seed=seed, buffer_size=buffer_size), validation


def stream_reviews(datasets: Sequence[str], data_dir: str | None, split: str) -> IterableDataset:
    """The raw `text` of the reviews that `load_corpus` gives, read as they are asked for, the datasets by turns."""
    streams = []
    for dataset in datasets:
        splits = stream_splits(dataset, data_dir)
        streams += [splits[name] for name in choose_splits(dataset, list(splits), split)]
    if len(streams) == 1:
        return streams[0]
    return interleave_datasets(streams, stopping_strategy="all_exhausted_without_replacement")


def stream_splits(dataset: str, data_dir: str | None) -> dict[str, IterableDataset]:
    """The raw `text` of each split of a source, read as it is asked for."""
    files = None if dataset in SNIPPETS else find_files(dataset, data_dir)
    if files is not None:
        return {
            split: IterableDataset.from_generator(
                read_files, features=TEXTS, gen_kwargs={"paths": [str(path) for path in paths]}
            )
            for split, paths in files.items()
        }
    repo_id = HUB_IDS.get(dataset, dataset)
    if dataset in SNIPPETS or not check_hub(repo_id, "dataset"):  # they lie on disk, ready to be read
        loaded = load_reviews(dataset, data_dir, with_labels=False)
        return {split: part.select_columns(["text"]).to_iterable_dataset() for split, part in loaded.items()}
    published = load_hub(repo_id, streaming=True)
    return {split: take_texts(rows, f"{repo_id} ({split})") for split, rows in published.items()}


def read_files(paths: list[str]) -> Iterator[dict[str, str]]:
    """The texts of files that follow each other."""
    for path in paths:
        for row in read_file(path, with_labels=False):
            yield {"text": row["text"]}


def take_texts(rows: IterableDataset, place: str) -> IterableDataset:
    """The text column of a stream alone, named `text`."""
    names = rows.column_names or list(next(iter(rows)))
    columns = match_columns(place, names, with_labels=False)

    def parse(row: dict[str, Any], index: int) -> dict[str, str]:
        return {"text": parse_row(place, index + 1, columns, row[columns[0]], None)["text"]}

    return rows.map(parse, with_indices=True, remove_columns=names, features=TEXTS)


def keep_usable(reviews: IterableDataset, cleaning: str, forbidden: np.ndarray) -> IterableDataset:
    """The cleaned `text` and the `hash` of the reviews that hold a text whose hash is not forbidden."""
    return reviews.map(
        keep_batch,
        batched=True,
        batch_size=REVIEWS_AT_ONCE,
        features=Features({**TEXTS, "hash": Value("uint64")}),
        fn_kwargs={"cleaning": cleaning, "forbidden": forbidden},
    )


def keep_batch(batch: dict[str, list[str]], cleaning: str, forbidden: np.ndarray) -> dict[str, list[Any]]:
    """One batch of `map`: see `keep_usable`."""
    hashed = hash_batch(batch, cleaning)
    kept = np.asarray(hashed["filled"], dtype=bool) & ~np.isin(hashed["hash"], forbidden)
    return {"text": list(compress(hashed["text"], kept)), "hash": hashed["hash"][kept].tolist()}


def block_batch(batch: dict[str, list[str]], encoder: TextEncoder, **cutting: Any) -> dict[str, Any]:
    """One batch of `map`: cleaned texts become blocks of token ids, see `chunk_batch`."""
    return chunk_batch(encode_batch(batch, encoder), **cutting)
