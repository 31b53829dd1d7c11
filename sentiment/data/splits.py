"""Labelled reviews as train, validation and test: caps, unusable rows, three ways to split."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from sentiment.data.assignment import assign_grouped, assign_stratified, limit_labelled_rows, merge_equal_keys
from sentiment.data.cleaning import CLEANINGS, clean_light, compute_text_key
from sentiment.environment import choose_num_proc
from sentiment.exceptions import InputError

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitReviews:
    """Train, validation and test with the columns `text` (cleaned), `label`, `row` and `key`, and what was left out.

    `row` counts from 0 over the published splits that were joined; `key` is what equal texts share
    (`compute_text_key`); `dropped` maps a reason to a number of rows.
    """

    splits: DatasetDict
    dropped: dict[str, int]


def split_reviews(
    reviews: DatasetDict,
    split: str = "stratified",
    max_rows: int | None = 10_000,
    sample: str = "first",
    seed: int = 42,
    cleaning: str = "light",
    keep_duplicates: bool = False,
    num_proc: int | None = None,
) -> SplitReviews:
    """The labelled reviews as train, validation and test.

    - `stratified`: published train and validation joined, capped at `max_rows`, dealt 8:1:1 with equal label shares.
    - `grouped`: the same, but only texts that are part of no other text are dealt; a phrase goes with the sentences
      that contain it, and is left out if these lie on several sides.
    - `official`: the published train split, capped, of which a tenth is held out for early stopping, and the
      published validation split (or test, where only that is labelled) as the test.

    Equal texts (`compute_text_key`) always share a side; texts with both labels or with no text left are dropped.
    `keep_duplicates` deals every row by itself instead, as the lab report did, leaks included.

    Raises:
        InputError: too few rows, one class only, or a split that the source cannot give.
    """
    if split == "grouped" and keep_duplicates:
        raise InputError("--split grouped keeps equal texts on one side by its nature: leave out --keep_duplicates")
    if split == "official":
        return split_officially(reviews, max_rows, sample, seed, cleaning, keep_duplicates, num_proc)
    pool = limit_labelled_rows(join_labelled(reviews, ["train", "validation"]), max_rows, sample, seed)
    pool, dropped = drop_unusable(add_keys(pool, cleaning, num_proc), keep_duplicates)
    labels = np.asarray(pool["label"][:], dtype=int)
    if split == "grouped":
        sides = assign_grouped(pool["key"][:], labels, (8, 1, 1), seed)
        dropped["in_several_splits"] = int((sides == -1).sum())
    else:
        sides = assign_stratified(choose_units(pool, keep_duplicates), labels, (8, 1, 1), seed)
    splits = {side: pool.select(np.flatnonzero(sides == position)) for position, side in enumerate(SPLIT_NAMES)}
    return finish_split(DatasetDict(splits), dropped, keep_duplicates)


def split_officially(
    reviews: DatasetDict,
    max_rows: int | None,
    sample: str,
    seed: int,
    cleaning: str,
    keep_duplicates: bool,
    num_proc: int | None,
) -> SplitReviews:
    """`split_reviews` along the published splits; training rows whose text is also in the test are dropped."""
    test_name = choose_labelled_split(reviews, ("validation", "test"))
    train_names = [name for name in ("train", "validation") if name != test_name]
    joined = join_labelled(reviews, train_names)
    first_test_row = sum(len(reviews[name]) for name in train_names if name in reviews)
    pool = limit_labelled_rows(joined, max_rows, sample, seed)
    test = join_labelled(reviews, [test_name], first_test_row)
    both = add_keys(concatenate_datasets([pool, test]), cleaning, num_proc)
    test, dropped_from_test = drop_unusable(both.select(range(len(pool), len(both))), keep_duplicates)
    pool, dropped = drop_unusable(both.select(range(len(pool))), keep_duplicates)
    dropped += dropped_from_test
    if not keep_duplicates:
        test_keys = set(test["key"][:])
        in_test = np.array([key in test_keys for key in pool["key"][:]], dtype=bool)
        dropped["in_test"] = int(in_test.sum())
        pool = pool.select(np.flatnonzero(~in_test))
    sides = assign_stratified(
        choose_units(pool, keep_duplicates), np.asarray(pool["label"][:], dtype=int), (9, 1), seed
    )
    splits = {side: pool.select(np.flatnonzero(sides == position)) for position, side in enumerate(SPLIT_NAMES[:2])}
    return finish_split(DatasetDict(splits | {"test": test}), dropped, keep_duplicates)


def choose_labelled_split(reviews: DatasetDict, names: Iterable[str]) -> str:
    """The first of these splits that is there and has labelled rows.

    Raises:
        InputError: none is.
    """
    for name in names:
        if name in reviews and any(label >= 0 for label in reviews[name]["label"]):
            return name
    raise InputError(
        f"no labelled {' or '.join(names)} split: the dataset has {', '.join(reviews)}, "
        "and a labelled row has 0 or 1, negative or positive, in its column 'label'"
    )


def join_labelled(reviews: DatasetDict, names: Iterable[str], first_row: int = 0) -> Dataset:
    """The labelled rows of these splits in one dataset; its column `row` counts all rows, labelled or not.

    Raises:
        InputError: there are no rows, or none is labelled.
    """
    parts = [reviews[name] for name in names if name in reviews]
    if not sum(len(part) for part in parts):
        raise InputError(f"no {' or '.join(names)} rows: the dataset has the splits {', '.join(reviews) or 'none'}")
    joined = concatenate_datasets(parts)
    joined = joined.add_column("row", np.arange(first_row, first_row + len(joined)))
    labelled = np.flatnonzero(np.asarray(joined["label"][:]) >= 0)
    if not len(labelled):
        raise InputError(
            f"none of the {len(joined):,} rows is labelled: a column 'label' must hold 0 or 1, negative or positive"
        )
    return joined if len(labelled) == len(joined) else joined.select(labelled)


def drop_unusable(pool: Dataset, keep_duplicates: bool) -> tuple[Dataset, Counter[str]]:
    """The rows without those that hold no text at all or both labels, and how many these were."""
    if keep_duplicates:
        return pool, Counter()
    labels_of: dict[str, set[int]] = defaultdict(set)
    keys = pool["key"][:]
    for key, label in zip(keys, pool["label"][:], strict=True):
        labels_of[key].add(label)
    empty = np.array([not key for key in keys], dtype=bool)
    both = np.array([len(labels_of[key]) > 1 for key in keys], dtype=bool) & ~empty
    dropped = Counter(empty=int(empty.sum()), both_labels=int(both.sum()))
    return pool.select(np.flatnonzero(~empty & ~both)), dropped


def add_keys(pool: Dataset, cleaning: str, num_proc: int | None) -> Dataset:
    """The dataset with its `text` cleaned and a column `key` that equal texts share, equal after either cleaning."""
    cleaned = pool.map(
        clean_batch,
        batched=True,
        num_proc=choose_num_proc(len(pool), num_proc),
        fn_kwargs={"cleaning": cleaning},
        desc="Cleaning",
    )
    keys = cleaned["key"][:]
    united = merge_equal_keys(keys, map(clean_light, pool["text"][:]))
    return cleaned if united == keys else cleaned.remove_columns("key").add_column("key", united)


def clean_batch(batch: dict[str, list[str]], cleaning: str) -> dict[str, list[str]]:
    """One batch of `datasets.map`: raw texts become cleaned texts and their keys."""
    clean = CLEANINGS[cleaning]
    return {
        "text": [clean(text) for text in batch["text"]],
        "key": [compute_text_key(text) for text in batch["text"]],
    }


def choose_units(pool: Dataset, keep_duplicates: bool) -> list[str] | range:
    """What is dealt as one: the rows of equal key, or each row by itself."""
    return range(len(pool)) if keep_duplicates else pool["key"][:]


def finish_split(splits: DatasetDict, dropped: Counter[str], keep_duplicates: bool) -> SplitReviews:
    """The splits, once each is seen to have both labels, and the reasons that dropped any row.

    Texts that this run's cleaning leaves nothing of (classic: those of punctuation alone) go only now, so that the
    others lie on the same sides whatever the cleaning.

    Raises:
        InputError: a split lacks a label; names both.
    """
    for name, part in splits.items():
        filled = np.flatnonzero([keep_duplicates or bool(text) for text in part["text"][:]])
        if len(filled) < len(part):
            dropped["empty"] += len(part) - len(filled)
            part = splits[name] = part.select(filled)
        present = set(part["label"][:])
        if len(present) < 2:
            only = part.features["label"].int2str(present.pop()) if present else "no"
            raise InputError(f"the {name} split has {only} rows only ({len(part):,}): each split needs both labels")
    return SplitReviews(splits, {reason: count for reason, count in dropped.items() if count})


def compute_fingerprint(dataset: Dataset, columns: Sequence[str] = ("row", "label", "text")) -> str:
    """SHA-256 (first 16 hex digits) of these columns, row by row: equal data in equal order, equal fingerprint."""
    digest = hashlib.sha256()
    for batch in dataset.select_columns(list(columns)).iter(batch_size=1000):
        for values in zip(*(batch[name] for name in columns), strict=True):
            digest.update(("\t".join(map(str, values)) + "\n").encode())
    return digest.hexdigest()[:16]
