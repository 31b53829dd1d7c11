"""Labelled reviews dealt into train, validation and test: caps, leaks closed, three ways to split."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from sklearn.model_selection import train_test_split

from sentiment.data.cleaning import CLEANINGS, compute_text_key
from sentiment.data.containment import find_containers
from sentiment.exceptions import InputError

SIDES = ("train", "validation", "test")
SPLITS = ("stratified", "official", "grouped")


@dataclass
class SplitReviews:
    """Three disjoint splits with the columns `text` (cleaned), `label`, `row` and `key`, and what was left out.

    `row` counts from 0 in the published splits joined (train, validation, then test where the official split uses
    it); `key` is what equal texts share (`compute_text_key`); `dropped` maps a reason to a number of rows.
    """

    splits: DatasetDict
    dropped: dict[str, int] = field(default_factory=dict)


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
    - `official`: the published train split, capped, of which a tenth is held out for early stopping; the published
      validation split (or test, where that is the labelled one) is the test.
    - `grouped`: like stratified, but only texts that are part of no other text are dealt; a phrase goes with the
      sentences that contain it, and is left out if these lie on several sides.

    Equal texts (`compute_text_key`) always share a side, texts with both labels or with no text left are dropped;
    `keep_duplicates` deals every row by itself instead, as the lab report did, leaks included.

    Raises:
        InputError: too few rows, one class only, or a split that the source cannot give.
    """
    if split == "grouped" and keep_duplicates:
        raise InputError("--split grouped keeps equal texts on one side by its nature: leave out --keep_duplicates")
    published_test = choose_published_test(reviews) if split == "official" else None
    pool = join_labelled(reviews, [name for name in ("train", "validation") if name != published_test])
    row_offset = len(pool)
    pool = cap_rows(pool, max_rows, sample, seed)
    pool = add_keys(pool, cleaning, num_proc)
    kept, dropped = np.arange(len(pool)), Counter[str]()
    if not keep_duplicates:
        kept, dropped = drop_unusable(pool)
    if published_test is None:
        sides = deal(pool, kept, split, seed, keep_duplicates, dropped)
        splits = DatasetDict({side: pool.select(np.flatnonzero(sides == i)) for i, side in enumerate(SIDES)})
    else:
        test = join_labelled(reviews, [published_test], row_offset)
        test = add_keys(test, cleaning, num_proc)
        if not keep_duplicates:
            test_kept, test_dropped = drop_unusable(test)
            test, dropped = test.select(test_kept), dropped + test_dropped
            test_keys = set(test["key"])
            leaking = np.array([key in test_keys for key in pool["key"]], dtype=bool)[kept]
            dropped["in_test"] = int(leaking.sum())
            kept = kept[~leaking]
        sides = deal_stratified(pool, kept, (9, 1), seed, keep_duplicates)
        splits = DatasetDict(
            train=pool.select(np.flatnonzero(sides == 0)),
            validation=pool.select(np.flatnonzero(sides == 1)),
            test=test,
        )
    check_classes(splits)
    return SplitReviews(splits, {reason: count for reason, count in dropped.items() if count})


def choose_published_test(reviews: DatasetDict) -> str:
    """The published split to test on: validation, or test where only that one is labelled (IMDB)."""
    for name in ("validation", "test"):
        if name in reviews and any(label >= 0 for label in reviews[name]["label"]):
            return name
    raise InputError(
        f"--split official needs a labelled validation or test split, and the dataset has {', '.join(reviews)}: "
        "use --split stratified or grouped"
    )


def join_labelled(reviews: DatasetDict, names: Iterable[str], row_offset: int = 0) -> Dataset:
    """The labelled rows of these splits in one dataset, with a column `row` that counts all of their rows."""
    parts = [reviews[name] for name in names if name in reviews]
    if not parts or not sum(len(part) for part in parts):
        raise InputError(f"no rows to train on: the dataset has the splits {', '.join(reviews) or 'none'}")
    joined = concatenate_datasets(parts)
    joined = joined.add_column("row", np.arange(row_offset, row_offset + len(joined)))
    labelled = np.flatnonzero(np.asarray(joined["label"]) >= 0)
    if not len(labelled):
        raise InputError(
            f"none of the {len(joined):,} rows is labelled: the file needs a column 'label' with 0/1 or "
            "negative/positive"
        )
    return joined if len(labelled) == len(joined) else joined.select(labelled)


def cap_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """The first `max_rows` rows (`sample="first"`, the lab's way), or as many drawn at random, in their old order."""
    if max_rows is None or max_rows >= len(pool):
        return pool
    if sample == "random":
        chosen = np.sort(np.random.default_rng(seed).choice(len(pool), max_rows, replace=False))
        return pool.select(chosen)
    capped = pool.select(range(max_rows))
    if len(set(capped["label"])) < len(set(pool["label"])):
        raise InputError(
            f"the first {max_rows:,} of {len(pool):,} rows have one label only, since the rows are ordered by label: "
            "pass --sample random or --max_rows all"
        )
    return capped


def add_keys(pool: Dataset, cleaning: str, num_proc: int | None) -> Dataset:
    """The dataset with its `text` cleaned and a column `key` that equal texts share."""
    return pool.map(
        clean_batch,
        batched=True,
        num_proc=num_proc if num_proc and len(pool) >= 1000 * num_proc else None,
        fn_kwargs={"cleaning": cleaning},
        desc="Cleaning",
    )


def clean_batch(batch: dict[str, list[str]], cleaning: str) -> dict[str, list[str]]:
    """One batch of `datasets.map`: raw texts become cleaned texts and their keys."""
    clean = CLEANINGS[cleaning]
    return {
        "text": [clean(text) for text in batch["text"]],
        "key": [compute_text_key(text) for text in batch["text"]],
    }


def drop_unusable(pool: Dataset) -> tuple[np.ndarray, Counter[str]]:
    """Positions of the rows that have a text and one label only, and how many rows were dropped for which reason."""
    labels_of: dict[str, set[int]] = defaultdict(set)
    keys, texts = pool["key"][:], pool["text"][:]
    for key, label in zip(keys, pool["label"][:], strict=True):
        labels_of[key].add(label)
    empty = np.array([not text for text in texts], dtype=bool)
    both = np.array([len(labels_of[key]) > 1 for key in keys], dtype=bool) & ~empty
    return np.flatnonzero(~empty & ~both), Counter(empty=int(empty.sum()), both_labels=int(both.sum()))


def deal(
    pool: Dataset, kept: np.ndarray, split: str, seed: int, keep_duplicates: bool, dropped: Counter[str]
) -> np.ndarray:
    """The side of each row (0 train, 1 validation, 2 test, -1 left out), 8:1:1; `dropped` is brought up to date."""
    if split == "stratified":
        return deal_stratified(pool, kept, (8, 1, 1), seed, keep_duplicates)
    sides, left_out = deal_grouped(pool, kept, (8, 1, 1), seed)
    dropped["on_several_sides"] = left_out
    return sides


def deal_stratified(
    pool: Dataset, kept: np.ndarray, shares: tuple[int, ...], seed: int, keep_duplicates: bool
) -> np.ndarray:
    """The side of each row, with equal label shares on all sides; equal texts go together unless kept apart."""
    keys, labels = pool["key"][:], np.asarray(pool["label"])
    units = {position if keep_duplicates else keys[position]: position for position in kept.tolist()}
    unit_sides = deal_units(labels[list(units.values())], shares, seed)
    side_of = dict(zip(units, unit_sides.tolist(), strict=True))
    sides = np.full(len(pool), -1)
    sides[kept] = [side_of[position if keep_duplicates else keys[position]] for position in kept.tolist()]
    return sides


def deal_grouped(pool: Dataset, kept: np.ndarray, shares: tuple[int, ...], seed: int) -> tuple[np.ndarray, int]:
    """The side of each row, phrases with the sentences that contain them, and how many rows were left out."""
    keys = pool["key"][:]
    label_of = {keys[position]: pool_label for position, pool_label in _labels_at(pool, kept)}
    texts = list(label_of)
    containers = find_containers(texts)
    wholes = [position for position, text in enumerate(texts) if text not in containers]
    whole_sides = deal_units(np.array([label_of[texts[position]] for position in wholes]), shares, seed)
    side_of_whole = dict(zip(wholes, whole_sides.tolist(), strict=True))
    side_of = {texts[position]: side for position, side in side_of_whole.items()}
    for text, holders in containers.items():
        holder_sides = {side_of_whole[position] for position in holders}
        side_of[text] = holder_sides.pop() if len(holder_sides) == 1 else -1
    sides = np.full(len(pool), -1)
    sides[kept] = [side_of[keys[position]] for position in kept.tolist()]
    return sides, int((sides[kept] == -1).sum())


def _labels_at(pool: Dataset, positions: np.ndarray) -> Iterable[tuple[int, int]]:
    labels = pool["label"][:]
    return ((position, labels[position]) for position in positions.tolist())


def deal_units(labels: np.ndarray, shares: tuple[int, ...], seed: int) -> np.ndarray:
    """The side of each unit, dealt in these shares at random with equal label shares on every side.

    Raises:
        InputError: fewer units of a label than there are sides, or too few to deal.
    """
    counts = np.bincount(labels, minlength=2)
    if counts.min() == 0:
        raise InputError(
            f"all {len(labels):,} usable rows have the label {'negative' if counts[1] == 0 else 'positive'}: "
            "a classifier needs both"
        )
    ratio = ":".join(str(share) for share in shares)
    if counts.min() < sum(shares):
        raise InputError(
            f"too few rows to split {ratio}: {counts[0]:,} different negative and {counts[1]:,} positive texts are "
            f"usable, and at least {sum(shares)} of each are needed"
        )
    sides = np.zeros(len(labels), dtype=int)
    rest, rest_share = np.arange(len(labels)), sum(shares)
    for side in range(len(shares) - 1, 0, -1):
        rest, chosen = train_test_split(
            rest, test_size=shares[side] / rest_share, random_state=seed, stratify=labels[rest]
        )
        sides[chosen] = side
        rest_share -= shares[side]
    return sides


def check_classes(splits: DatasetDict) -> None:
    """Refuses splits of which one lacks a class.

    Raises:
        InputError: names the split and the class that it has.
    """
    for name, part in splits.items():
        present = set(part["label"])
        if len(present) < 2:
            only = part.features["label"].int2str(present.pop()) if present else "no"
            raise InputError(f"the {name} split has {only} rows only ({len(part):,}): both labels are needed in each")


def compute_fingerprint(dataset: Dataset) -> str:
    """SHA-256 (first 16 hex digits) of the rows, labels and texts in order: equal data, equal fingerprint."""
    digest = hashlib.sha256()
    for batch in dataset.select_columns(["row", "label", "text"]).iter(batch_size=1000):
        for row, label, text in zip(batch["row"], batch["label"], batch["text"], strict=True):
            digest.update(f"{row}\t{label}\t{text}\n".encode())
    return digest.hexdigest()[:16]
