"""Unlabelled reviews as a corpus: which are read, cleaned, kept apart from test texts and split in two."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets, interleave_datasets
from sklearn.model_selection import train_test_split

from sentiment.config.arguments import CorpusArguments
from sentiment.data.assignment import limit_rows
from sentiment.data.caching import map_batches
from sentiment.data.cleaning import CLEANINGS, clean_light, compute_text_key, is_blank
from sentiment.data.leaks import OverlapIndex
from sentiment.data.sources import SNIPPETS, load_reviews
from sentiment.data.splits import compute_fingerprint
from sentiment.exceptions import require

HELD_OUT = ("validation", "test")
MIN_REVIEWS = 10


@dataclass(frozen=True)
class Corpus:
    """Train and validation with the columns `text` (cleaned) and `key`; the number of dropped rows by reason."""

    splits: DatasetDict
    dropped: dict[str, int]
    rows_read: int

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of the texts of each split (`compute_fingerprint`)."""
        return {name: compute_fingerprint(part, ["text"]) for name, part in self.splits.items()}


def load_corpus(args: CorpusArguments) -> Any:
    """The raw reviews of all sources in order: `text` and `source`, the name of the dataset.

    With `streaming`, an `IterableDataset` of `text` that takes turns between the sources until all are read.
    """
    datasets, revision = args.dataset_name, args.dataset_revision
    require(not revision or len(datasets) == 1, f"--dataset_revision {revision}: pass one dataset, not several")
    parts = []
    for dataset in datasets:
        reviews = load_source(dataset, args, args.streaming)
        for name in choose_splits(dataset, list(reviews), args.split):
            part = reviews[name].select_columns(["text"])
            parts.append(part if args.streaming else part.add_column("source", [dataset] * len(part)))
    if args.streaming:
        return interleave_datasets(parts, stopping_strategy="all_exhausted_without_replacement")
    return concatenate_datasets(parts)


def load_source(dataset: str, args: CorpusArguments, streaming: bool) -> Any:
    """All splits of one source, by name; labels are not read."""
    return load_reviews(
        dataset,
        args.data_dir,
        with_labels=False,
        text_column_names=args.text_column_names,
        text_column_delimiter=args.text_column_delimiter,
        encoding=args.encoding,
        revision=args.dataset_revision,
        streaming=streaming,
    )


def choose_splits(dataset: str, names: Sequence[str], split: str) -> list[str]:
    """The splits of a source that a corpus reads; raises InputError if there is none.

    `all` are all but validation and test; `auto` is `unsupervised` if there is one, else `all`, and `all` for the
    embedded sentences, whose `unsupervised` has only those of uncertain rating.

    >>> choose_splits("imdb", ["train", "test", "unsupervised"], "auto")
    ['unsupervised']
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
    args: CorpusArguments,
    held_out_keys: Collection[str],
    seed: int,
    labelled_keys: Collection[str] = (),
) -> Corpus:
    """The reviews of `load_corpus`, limited to `max_rows`, cleaned, and split at random into train and validation.

    Empty reviews, duplicates, and reviews with one of the `held_out_keys`, compared by `hash_keys`, or that overlap
    with one (`OverlapIndex`), are dropped. So are those with one of the `labelled_keys`. Raises InputError if too few
    are left, or the first rows lack a source.
    """
    read = limit_rows(corpus, args.row_limit, args.sample, seed)
    missing = set(corpus.unique("source")) - set(read.unique("source"))
    require(
        not missing or args.sample != "first",
        f"the first {len(read):,} of {len(corpus):,} reviews hold none of {', '.join(sorted(missing))}: "
        "pass --sample random or --max_rows all",
    )
    columns, workers = read.select_columns(["text"]), args.preprocessing_num_workers
    cleaned = map_batches(columns, hash_batch, workers, {"cleaning": args.cleaning}, desc="Cleaning")
    labelled = hash_keys(labelled_keys) if labelled_keys else None
    usable, dropped = find_usable(cleaned, hash_keys(held_out_keys), labelled)
    usable, dropped["overlaps"] = drop_overlaps(cleaned, usable, OverlapIndex(held_out_keys))
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in dropped.items())
    require(
        len(usable) >= MIN_REVIEWS,
        f"only {len(usable)} of {len(read):,} reviews can be used ({reasons}), and {MIN_REVIEWS} are needed: "
        "pass more, or another --dataset, --split or --max_rows",
    )
    share = args.validation_split_percentage / 100
    train, validation = train_test_split(usable, test_size=share, random_state=seed)
    texts = cleaned.select_columns(["text", "key"])
    splits = {"train": texts.select(np.sort(train)), "validation": texts.select(np.sort(validation))}
    return Corpus(DatasetDict(splits), dropped | {"over_max_rows": len(corpus) - len(read)}, len(read))


def find_usable(
    cleaned: Dataset, held_out: np.ndarray, labelled: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """The positions of the usable rows, in order, and the number of dropped rows by reason.

    `held_out` and `labelled` are hashes of texts that are not usable, for two reasons.
    """
    columns = cleaned.select_columns(["hash", "filled"]).with_format("arrow")[:]
    hashes, filled = columns["hash"].to_numpy(), np.flatnonzero(columns["filled"].to_numpy())
    _, first = np.unique(hashes[filled], return_index=True)
    distinct = filled[np.sort(first)]
    kept = distinct[~np.isin(hashes[distinct], held_out)]
    usable = kept if labelled is None else kept[~np.isin(hashes[kept], labelled)]
    dropped = {
        "empty": len(cleaned) - len(filled),
        "duplicates": len(filled) - len(distinct),
        "in_test": len(distinct) - len(kept),
    }
    return usable, dropped if labelled is None else dropped | {"labelled": len(kept) - len(usable)}


def drop_overlaps(cleaned: Dataset, usable: np.ndarray, index: OverlapIndex) -> tuple[np.ndarray, int]:
    """Those of the usable positions whose text overlaps with none of the index, and the number of the others."""
    keys = cleaned.select_columns(["key"]).with_format("arrow")[:]["key"].to_pylist()
    kept = np.array([place for place in usable.tolist() if not index.overlaps(keys[place])], dtype=usable.dtype)
    return kept, len(usable) - len(kept)


def hash_batch(batch: dict[str, list[str]], cleaning: str) -> dict[str, Any]:
    """The cleaned texts of a batch, the keys of the raw ones and their hashes, and whether any text is left."""
    light = [clean_light(text) for text in batch["text"]]
    texts = light if cleaning == "light" else [CLEANINGS[cleaning](text) for text in batch["text"]]
    keys = [compute_text_key(text) for text in light]  # compute_corpus_key without cleaning again
    return {"text": texts, "key": keys, "hash": hash_in_order(keys), "filled": [not is_blank(text) for text in texts]}


def collect_source_test_keys(args: CorpusArguments) -> set[str]:
    """Keys of all texts of the validation and test splits that the sources publish."""
    sources = (load_source(dataset, args, streaming=True) for dataset in args.dataset_name)
    return {key for splits in sources for key in collect_published_test_keys(splits)}


def collect_published_test_keys(splits: Mapping[str, Any]) -> set[str]:
    """Keys (`compute_corpus_key`) of all texts of a source's published validation and test splits."""
    return {compute_corpus_key(row["text"]) for name in HELD_OUT if name in splits for row in splits[name]}


def compute_corpus_key(text: str) -> str:
    """`compute_text_key` after the light cleaning: copies of a review differ in tags and character references.

    >>> compute_corpus_key("It&#39;s love &amp; war") == compute_corpus_key("It's love & war")
    True
    """
    return compute_text_key(clean_light(text))


def hash_keys(keys: Iterable[str]) -> np.ndarray:
    """The distinct hashes of these keys, sorted, as uint64.

    Spaces are ignored, since SST-2 writes `does n't` for `doesn't`: of its 872 validation sentences, 339 are among the
    embedded film sentences by their keys, and 692 by these hashes.
    """
    return np.unique(hash_in_order(keys))


def count_seen(keys: Iterable[str], hashes: np.ndarray) -> int:
    """The number of these keys whose hashes are among those of `hash_keys`."""
    return int(np.isin(hash_in_order(keys), hashes).sum())


def hash_in_order(keys: Iterable[str]) -> np.ndarray:
    """The hash of each key without its spaces, shape (keys,), uint64."""
    digests = (hashlib.blake2b(key.replace(" ", "").encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
