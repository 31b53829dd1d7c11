"""Unlabelled reviews become the texts of an adaptation: chosen, cleaned, freed of test texts, dealt to two sides."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets
from sklearn.model_selection import train_test_split

from sentiment.data.assignment import limit_rows
from sentiment.data.cleaning import CLEANINGS, clean_light, compute_text_key
from sentiment.data.sources import SNIPPETS, load_reviews
from sentiment.environment import choose_num_proc
from sentiment.exceptions import require

HELD_OUT = ("validation", "test")
LEAST_REVIEWS = 10


@dataclass(frozen=True)
class Corpus:
    """Reviews to train on and to validate with, the columns `text` (cleaned) and `key`, and what was left out.

    `dropped` counts the rows of each reason, `empty`, `duplicates` and `in_test`, among the `rows_read`.
    """

    splits: DatasetDict
    dropped: dict[str, int]
    rows_read: int


def load_corpus(datasets: Sequence[str], data_dir: str | None = None, split: str = "auto") -> Dataset:
    """All rows of these sources in order, as they were published: `text` and `source`, the name of the dataset.

    `split`: see `choose_splits`. Raises `InputError` as `load_reviews` does, and for a source without such a split.
    """
    parts = []
    for dataset in datasets:
        reviews = load_reviews(dataset, data_dir, with_labels=False)
        for name in choose_splits(dataset, list(reviews), split):
            part = reviews[name].select_columns(["text"])
            parts.append(part.add_column("source", [dataset] * len(part)))
    return concatenate_datasets(parts)


def choose_splits(dataset: str, names: Sequence[str], split: str) -> list[str]:
    """Which of a source's splits a corpus takes.

    - `auto`: `unsupervised` where there is one; of the embedded sentences, whose `unsupervised` holds only those of
      uncertain rating, and of all other sources: `all`.
    - `all`: every split but validation and test, since models are tested on either (`--split official`).
    - else the split of this name, whichever it is; texts that a source is tested on are `prepare_corpus`'s to drop.

    >>> choose_splits("imdb", ["train", "test", "unsupervised"], "auto")
    ['unsupervised']
    >>> choose_splits("sst2", ["train", "validation", "test"], "auto")
    ['train']

    Raises:
        InputError: there is none.
    """
    chosen = [name for name in names if name == split]
    if split == "auto" and "unsupervised" in names and dataset not in SNIPPETS:
        chosen = ["unsupervised"]
    elif split in ("auto", "all"):
        chosen = [name for name in names if name not in HELD_OUT]
    require(bool(chosen), f"dataset {dataset} has nothing to read for --split {split}: it has {', '.join(names)}")
    return chosen


def prepare_corpus(
    corpus: Dataset,
    *,
    max_rows: int | None,
    sample: str,
    cleaning: str,
    seed: int,
    held_out_keys: Collection[str],
    validation_share: float = 0.2,
    num_proc: int | None = None,
) -> Corpus:
    """The first `max_rows` rows (or as many at random), cleaned, without unusable ones, dealt at random by the seed.

    Left out are rows that hold no text, that repeat an earlier row, or whose text has one of the `held_out_keys`.
    Texts are compared as `hash_keys` does.

    Raises:
        InputError: hardly any row is left, or the first rows leave a whole source out.
    """
    read = limit_rows(corpus, max_rows, sample, seed)
    missing = set(corpus.unique("source")) - set(read.unique("source"))
    require(
        not missing or sample != "first",
        f"the first {len(read):,} of {len(corpus):,} reviews hold none of {', '.join(sorted(missing))}: "
        "pass --sample random or --max_rows all",
    )
    cleaned = read.select_columns(["text"]).map(
        hash_batch,
        batched=True,
        num_proc=choose_num_proc(len(read), num_proc),
        fn_kwargs={"cleaning": cleaning},
        desc="Cleaning",
    )
    usable, dropped = find_usable(cleaned, hash_keys(held_out_keys))
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    require(
        len(usable) >= LEAST_REVIEWS,
        f"only {len(usable)} of {len(read):,} reviews can be used ({reasons}), and {LEAST_REVIEWS} are needed: "
        "pass more, or another --dataset, --split or --max_rows",
    )
    train, validation = train_test_split(usable, test_size=validation_share, random_state=seed)
    texts = cleaned.select_columns(["text", "key"])
    splits = {"train": texts.select(np.sort(train)), "validation": texts.select(np.sort(validation))}
    return Corpus(DatasetDict(splits), dropped, len(read))


def find_usable(cleaned: Dataset, forbidden: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The numbers of the rows that are used, in order, and how many rows are not, by reason."""
    columns = cleaned.select_columns(["hash", "filled"]).with_format("arrow")[:]
    hashes, filled = columns["hash"].to_numpy(), np.flatnonzero(columns["filled"].to_numpy())
    _, first = np.unique(hashes[filled], return_index=True)
    distinct = filled[np.sort(first)]
    usable = distinct[~np.isin(hashes[distinct], forbidden)]
    dropped = {
        "empty": len(cleaned) - len(filled),
        "duplicates": len(filled) - len(distinct),
        "in_test": len(distinct) - len(usable),
    }
    return usable, dropped


def hash_batch(batch: dict[str, list[str]], cleaning: str) -> dict[str, Any]:
    """One batch of `datasets.map`: raw texts become cleaned texts, their keys and hashes, and whether they hold any."""
    light = [clean_light(text) for text in batch["text"]]
    texts = light if cleaning == "light" else [CLEANINGS[cleaning](text) for text in batch["text"]]
    keys = [compute_text_key(text) for text in light]  # `compute_corpus_key`, with what is cleaned already
    return {"text": texts, "key": keys, "hash": hash_in_order(keys), "filled": [bool(text) for text in texts]}


def collect_published_test_keys(reviews: DatasetDict | dict[str, IterableDataset]) -> set[str]:
    """Keys of the labelled texts of a source's published validation and test splits.

    Of what `stream_splits` gives, where labels are not read, keys of all texts of these splits.
    """
    held_out = [reviews[name] for name in HELD_OUT if name in reviews]
    keyed = [part.map(key_labelled_batch, batched=True, remove_columns=part.column_names) for part in held_out]
    return {row["key"] for part in keyed for row in part}


def key_labelled_batch(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
    """One batch of `map`: texts become their keys, but for those that have a label column and no label."""
    labels = batch.get("label", [0] * len(batch["text"]))
    return {"key": [compute_corpus_key(text) for text, label in zip(batch["text"], labels, strict=True) if label >= 0]}


def compute_corpus_key(text: str) -> str:
    """`compute_text_key` of the text with its character references decoded and its tags as spaces.

    Copies of a review from different places differ in these, and a text that is tested on must be found in any.

    >>> compute_corpus_key("It&#39;s love &amp; war") == compute_corpus_key("It's love & war")
    True
    """
    return compute_text_key(clean_light(text))


def hash_keys(keys: Iterable[str]) -> np.ndarray:
    """The distinct hashes of these keys, sorted, as uint64: 8 bytes a text, to save and to look texts up in.

    Spaces do not count: SST-2 writes `does n't` where other copies of its sentences have `doesn't`. Of its 872
    validation sentences 339 stand among the embedded film sentences by their keys, and 692 by these hashes.

    >>> bool(hash_keys(["does n t"]) == hash_keys(["doesn t"]))
    True
    """
    return np.unique(hash_in_order(keys))


def count_seen(keys: Iterable[str], hashes: np.ndarray) -> int:
    """How many of these keys are among those that were hashed by `hash_keys`."""
    return int(np.isin(hash_in_order(keys), hashes).sum())


def hash_in_order(keys: Iterable[str]) -> np.ndarray:
    """The hash of each key without its spaces, shape (keys,), uint64."""
    digests = (hashlib.blake2b(key.replace(" ", "").encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
