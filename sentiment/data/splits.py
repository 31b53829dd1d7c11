"""Labelled reviews as train, validation and test: which rows are used, and three ways to split them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from sentiment.config.arguments import DataArguments
from sentiment.data.assignment import assign_grouped, assign_stratified, limit_rows, merge_equal_keys
from sentiment.data.caching import map_batches
from sentiment.data.cleaning import CLEANINGS, clean_light, compute_text_key, is_blank
from sentiment.data.labels import LEFT_OUT, UNLABELLED, shorten
from sentiment.exceptions import InputError, require

SPLIT_NAMES = ("train", "validation", "test")


class UnlabelledError(InputError):
    """The rows to be split have no label."""


@dataclass(frozen=True)
class SplitReviews:
    """Train, validation and test with `text` (cleaned), `label`, `row` and `key`; dropped rows by reason; the method;
    the published splits that they come from, and those that are not used.

    `row` counts the rows of the published splits from 0; equal texts share a `key` (`compute_text_key`).
    """

    splits: DatasetDict
    dropped: dict[str, int]
    method: str = "stratified"
    published: tuple[str, ...] = ()  # published splits that are used, of those that there are
    unused: tuple[str, ...] = ()

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each split (`compute_fingerprint`)."""
        return {name: compute_fingerprint(part) for name, part in self.splits.items()}


def split_reviews(reviews: DatasetDict, args: DataArguments, seed: int) -> SplitReviews:
    """The labelled reviews as train, validation and test, split by `split_seed` or else by `seed`.

    - `stratified`: `max_rows` rows of published train and validation, split 8:1:1 with equal label shares.
    - `grouped`: the same, but only texts contained in no other are assigned at random; a phrase goes with the
      sentences that contain it, and is dropped if these are in several splits.
    - `official`: published splits as they are. Without a labelled test split, published validation is the test split;
      without a validation split, train is split 9:1. `max_rows` rows of published train are used, without texts of the
      other splits.
    - `auto`: `official` for data of one's own with a labelled test split, else `stratified`.

    Equal texts are in one split; texts with several labels and empty texts are dropped. With `keep_duplicates`, rows
    are assigned one by one and none is dropped, as in the lab report: texts leak from train to test.
    Raises InputError for too few rows of a class, one class only, or no labelled test split.
    """
    split, keep_duplicates = choose_split(reviews, args), args.keep_duplicates
    seed = seed if args.split_seed is None else args.split_seed
    grouped_duplicates = split == "grouped" and keep_duplicates
    require(not grouped_duplicates, "--split grouped keeps equal texts in one split: omit --keep_duplicates")
    published = choose_published_splits(reviews) if split == "official" else {}
    pool_names = [name for name in ("train", "validation") if name not in published.values()]
    labelled_pool = join_labelled(reviews, pool_names)
    parts = [limit_labelled_rows(labelled_pool, args.row_limit, args.sample, seed)]
    first_row = sum(len(reviews[name]) for name in pool_names if name in reviews)
    for name in published.values():
        parts.append(join_labelled(reviews, [name], first_row))
        first_row += len(reviews[name])
    keyed = add_keys(concatenate_datasets(parts), args.cleaning, args.preprocessing_num_workers)
    ends = np.cumsum([len(part) for part in parts])
    pool, dropped = drop_unusable(keyed.select(range(ends[0])), keep_duplicates)
    dropped |= count_left_out(reviews, [*pool_names, *published.values()])
    dropped["over_max_rows"] = len(labelled_pool) - len(parts[0])
    splits: dict[str, Dataset] = {}
    held_out: set[str] = set()
    for name, first, end in zip(published, ends, ends[1:], strict=False):
        part, dropped_here = drop_unusable(keyed.select(range(first, end)), keep_duplicates)
        splits[name] = drop_texts(part, held_out, dropped)
        dropped += dropped_here
        held_out |= set() if keep_duplicates else set(part["key"][:])
    usable = len(pool)
    pool = drop_texts(pool, held_out, dropped)
    require(
        len(pool) > 0 or not usable, f"all {usable:,} training texts are also in the {' or '.join(published)} split"
    )
    assigned = assign_pool(pool, split, published, keep_duplicates, seed)
    dropped["in_several_splits"] += int((assigned == -1).sum())
    own = {name: pool.select(np.flatnonzero(assigned == position)) for position, name in enumerate(SPLIT_NAMES)}
    classes = set(pool["label"][:])
    checked = {
        name: check_split(name, part, classes, dropped, keep_duplicates, name in splits)
        for name, part in (own | splits).items()
    }
    used = tuple(name for name in reviews if name in (*pool_names, *published.values()))
    unused = tuple(name for name in reviews if name not in (*used, "unsupervised"))
    counted = {reason: count for reason, count in dropped.items() if count}
    return SplitReviews(DatasetDict(checked), counted, split, used, unused)


def assign_pool(pool: Dataset, split: str, published: Collection[str], keep_duplicates: bool, seed: int) -> np.ndarray:
    """The split of each row of the pool, by its position in `SPLIT_NAMES`; -1 for none. See `split_reviews`."""
    labels, keys = np.asarray(pool["label"][:], dtype=int), pool["key"][:]
    class_names = pool.features["label"].names
    if split == "grouped":
        return assign_grouped(keys, labels, (8, 1, 1), seed, class_names)
    if "validation" in published:
        return np.zeros(len(pool), dtype=int)
    units = range(len(pool)) if keep_duplicates else keys
    return assign_stratified(units, labels, (9, 1) if published else (8, 1, 1), seed, class_names)


def choose_split(reviews: DatasetDict, args: DataArguments) -> str:
    """The method of `split_reviews` that `--split` stands for."""
    if "test" in args.files:
        require(is_labelled(reviews, "test"), f"--test_file {args.test_file}: no row has a label")
        return "official"
    if args.split != "auto":
        return args.split
    has_own_test = not args.has_lab_values and "train" in reviews and is_labelled(reviews, "test")
    return "official" if has_own_test else "stratified"


def choose_published_splits(reviews: DatasetDict) -> dict[str, str]:
    """The published split for test and, if there are both, for validation."""
    test_name = choose_labelled_split(reviews, ("test", "validation"))
    has_validation = test_name == "test" and is_labelled(reviews, "validation")
    return {"test": test_name} | ({"validation": "validation"} if has_validation else {})


def is_labelled(reviews: DatasetDict, name: str) -> bool:
    """Whether there is such a split with a labelled row."""
    return name in reviews and any(label >= 0 for label in reviews[name]["label"])


def drop_texts(part: Dataset, keys: set[str], dropped: Counter[str]) -> Dataset:
    """The rows whose text is not in another split, given by its keys; counts the others."""
    is_held_out = np.array([key in keys for key in part["key"][:]], dtype=bool)
    dropped["in_test"] += int(is_held_out.sum())
    return part.select(np.flatnonzero(~is_held_out)) if is_held_out.any() else part


def choose_labelled_split(reviews: DatasetDict, names: Iterable[str]) -> str:
    """The first of these splits that has labelled rows; raises InputError if none has."""
    for name in names:
        if is_labelled(reviews, name):
            return name
    raise InputError(f"no labelled {' or '.join(names)} split: the dataset has {', '.join(reviews)}")


def join_labelled(reviews: DatasetDict, names: Iterable[str], first_row: int = 0) -> Dataset:
    """The labelled rows of these splits, with a column `row` that counts all rows."""
    parts = [reviews[name] for name in names if name in reviews]
    found = ", ".join(reviews) or "none"
    require(any(map(len, parts)), f"no {' or '.join(names)} rows: the dataset has the splits {found}")
    joined = concatenate_datasets(parts)
    joined = joined.add_column("row", np.arange(first_row, first_row + len(joined)))
    labelled = np.flatnonzero(np.asarray(joined["label"][:]) >= 0)
    if len(labelled) == 0:
        raise UnlabelledError(f"none of the {len(joined):,} rows is labelled")
    return joined if len(labelled) == len(joined) else joined.select(labelled)


def count_left_out(reviews: DatasetDict, names: Iterable[str]) -> dict[str, int]:
    """Rows of these splits that have no label, and those that --label_mapping leaves out."""
    labels = np.concatenate([np.asarray(reviews[name]["label"][:]) for name in names if name in reviews])
    return {"unlabelled": int((labels == UNLABELLED).sum()), "left_out_by_mapping": int((labels == LEFT_OUT).sum())}


def limit_labelled_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """`limit_rows`; raises InputError if the first rows lack a class."""
    limited = limit_rows(pool, max_rows, sample, seed)
    missing = set(pool["label"][:]) - set(limited["label"][:])
    names = ", ".join(repr(pool.features["label"].int2str(label)) for label in sorted(missing))
    require(
        sample != "first" or not missing,
        f"the first {len(limited):,} of {len(pool):,} rows have no row of {shorten(names)}: pass --sample random or "
        "--max_rows all",
    )
    return limited


def add_keys(pool: Dataset, cleaning: str, num_proc: int | None) -> Dataset:
    """The rows with cleaned `text` and a column `key`, which texts that are equal after either cleaning share."""
    cleaned = map_batches(pool, clean_batch, num_proc, {"cleaning": cleaning}, desc="Cleaning")
    keys = cleaned["key"][:]
    merged = merge_equal_keys(keys, map(clean_light, pool["text"][:]))
    return cleaned if merged == keys else cleaned.remove_columns("key").add_column("key", merged)


def clean_batch(batch: dict[str, list[str]], cleaning: str) -> dict[str, list[str]]:
    """The cleaned texts of a batch, and the keys of the raw ones."""
    return {"text": [*map(CLEANINGS[cleaning], batch["text"])], "key": [*map(compute_text_key, batch["text"])]}


def drop_unusable(pool: Dataset, keep_duplicates: bool) -> tuple[Dataset, Counter[str]]:
    """The rows without empty texts and texts with several labels, and how many of each were dropped."""
    if keep_duplicates:
        return pool, Counter()
    keys = pool["key"][:]
    labels_of = collect_labels(keys, pool["label"][:])
    empty = np.array([not key for key in keys], dtype=bool)
    both = np.array([len(labels_of[key]) > 1 for key in keys], dtype=bool) & ~empty
    dropped = Counter(empty=int(empty.sum()), both_labels=int(both.sum()))
    return pool.select(np.flatnonzero(~empty & ~both)), dropped


def collect_labels(keys: Iterable[str], labels: Iterable[int]) -> dict[str, set[int]]:
    """The labels of the rows with each key."""
    labels_of: dict[str, set[int]] = defaultdict(set)
    for key, label in zip(keys, labels, strict=True):
        labels_of[key].add(label)
    return labels_of


def check_split(
    name: str, part: Dataset, classes: set[int], dropped: Counter[str], keep_duplicates: bool, is_published: bool
) -> Dataset:
    """The split without texts that this run's cleaning empties; raises InputError for classes that train lacks.

    Published splits may lack classes of train, if they have two.

    They are dropped (and counted) after the assignment, so that it is the same for every cleaning.
    """
    filled = np.flatnonzero([keep_duplicates or not is_blank(text) for text in part["text"][:]])
    if len(filled) < len(part):
        dropped["empty"] += len(part) - len(filled)
        part = part.select(filled)
    present, class_names = set(part["label"][:]), part.features["label"].names
    missing, new = (
        shorten(", ".join(repr(class_names[label]) for label in sorted(labels)))
        for labels in (classes - present, present - classes)
    )
    needed = "two classes" if is_published else "all classes"
    lacks_class = len(present) < 2 if is_published else bool(missing)
    require(not lacks_class, f"the {name} split ({len(part):,} rows) has no row of {missing}: it needs {needed}")
    require(not new, f"the {name} split has rows of {new}, which no training row has")
    return part


def compute_fingerprint(dataset: Dataset, columns: Sequence[str] = ("row", "label", "text")) -> str:
    """SHA-256 (first 16 hex digits) of these columns, row by row."""
    digest = hashlib.sha256()
    for batch in dataset.select_columns(list(columns)).iter(batch_size=1000):
        for values in zip(*(batch[name] for name in columns), strict=True):
            digest.update(("\t".join(map(str, values)) + "\n").encode())
    return digest.hexdigest()[:16]
