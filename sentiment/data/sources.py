"""Sources of reviews: the Hub or a local copy, a folder, a file, the embedded sentences."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict

from sentiment.config.data_arguments import CorpusArguments, DataArguments
from sentiment.data.caching import generate_rows
from sentiment.data.columns import LABEL_COLUMN, ColumnOptions, looks_like_rating
from sentiment.data.files import (
    SUFFIXES,
    find_class_names,
    is_data_file,
    list_file_columns,
    read_files,
    read_labelled_texts,
)
from sentiment.data.folders import SplitFiles, find_declared_classes, find_splits, is_saved_dataset, suggest_file
from sentiment.data.hub import load_hub_dataset, load_saved_dataset, open_hub_dataset, open_saved_dataset
from sentiment.data.labels import LABEL_NAMES, MASKED, UNLABELLED, LabelOptions, encode_labels
from sentiment.demo.embedded import fetch_snippets
from sentiment.exceptions import InputError, require

HUB_IDS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
SNIPPETS = {
    "snippets": "movieReviewSnippets_GroundTruth.txt",
    "snippets_amazon": "amazonReviewSnippets_GroundTruth.txt",
    "snippets_nyt": "nytEditorialSnippets_GroundTruth.txt",
    "snippets_tweets": "tweets_GroundTruth.txt",
}
# The mean of 15 to 20 ratings has a standard error of about 0.25 near zero: within two of them, the sign of the mean
# is uncertain. 562 (5%) of the film sentences are.
NEUTRAL_BOUND = 0.5


def load_reviews(
    dataset: str,
    data_dir: str | None = None,
    with_labels: bool = True,
    *,
    labels: LabelOptions | None = None,
    files: Mapping[str, str] | None = None,
    revision: str | None = None,
    streaming: bool = False,
    **columns: Any,
) -> DatasetDict:
    """The splits of a source, each with the columns `text` (string) and `label` (a `ClassLabel`; -1: unlabelled).

    `dataset` is `sst2`, `imdb`, one of `SNIPPETS`, a Hub id `owner/name`, a folder with files named after their
    splits, or one file (split `train`); `files`, the file of each split, replace it. `data_dir`, by default the
    variable `SENTIMENT_DATA_DIR`, holds local copies of Hub datasets. `columns` are the fields of `ColumnOptions`.
    With `streaming`, rows are read while iterating (`IterableDataset`), without labels. Raises InputError with
    file, row and column if the source cannot be read.
    """
    options = ColumnOptions(with_labels=with_labels and not streaming, **columns)
    given = {name: SplitFiles([check_file(file)]) for name, file in (files or {}).items()}
    splits, declared = load_splits(dataset, data_dir, options, revision, streaming, given)
    if not options.with_labels:
        return DatasetDict({name: part.select_columns(["text"]) for name, part in splits.items()})
    labels = labels or LabelOptions()
    if not declared and not labels.mapping and Path(dataset).is_dir():
        labels = name_declared_classes(Path(dataset), splits, labels)
    is_rating = looks_like_rating(options.label_column_name or LABEL_COLUMN)
    return encode_splits(dataset, splits, labels, declared, is_rating)


def load_splits(
    dataset: str,
    data_dir: str | None,
    options: ColumnOptions,
    revision: str | None,
    streaming: bool,
    given: dict[str, SplitFiles],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The splits of a source with `text` and `label` as strings, and the class names that it declares, if any."""
    if is_saved_dataset(Path(dataset)):
        return load_saved_dataset(dataset, options, streaming)
    files = given or ({} if dataset in SNIPPETS else find_files(dataset, data_dir))
    if files is None:
        return load_hub_dataset(HUB_IDS.get(dataset, dataset), options, revision, streaming)
    require(not revision, f"--dataset_revision {revision}: {dataset} is not read from the Hub, and has no revisions")
    require(
        not (options.text_column_names or options.label_column_name)
        or any(split.labels is None for split in files.values()),
        f"--text_column_names and --label_column_name: {dataset} has no named columns",
    )
    if not files:
        return load_snippets(SNIPPETS[dataset], streaming), LABEL_NAMES
    splits = {}
    for name, split in files.items():
        stamps = [(stat.st_mtime_ns, stat.st_size) for stat in map(Path.stat, split.paths)]
        arguments = {"paths": [str(path.absolute()) for path in split.paths], "stamps": stamps}
        if split.labels is None:
            splits[name] = generate_rows(name, read_files, arguments | {"options": options}, streaming)
        else:
            labelled = {"labels": split.labels, "encoding": options.encoding}
            splits[name] = generate_rows(name, read_labelled_texts, arguments | labelled, streaming)
    return splits, find_class_names([path for split in files.values() for path in split.paths], options)


def list_columns(
    dataset: str, data_dir: str | None = None, encoding: str | None = None, revision: str | None = None
) -> list[str]:
    """The names of the columns of a source, those of all its splits; none for texts without columns."""
    if is_saved_dataset(Path(dataset)):
        tables: Iterable[Iterable[str]] = (part.flatten().column_names for part in open_saved_dataset(dataset).values())
    elif dataset in SNIPPETS:
        return []
    elif files := find_files(dataset, data_dir):
        paths = [str(path) for split in files.values() if split.labels is None for path in split.paths]
        tables = (list_file_columns(path, encoding) for path in paths)
    else:
        published = open_hub_dataset(HUB_IDS.get(dataset, dataset), revision)
        tables = (part.column_names for part in published.values())
    return [*dict.fromkeys(name for names in tables for name in names)]


def name_declared_classes(folder: Path, splits: dict[str, Dataset], options: LabelOptions) -> LabelOptions:
    """The options with the names that a folder's README declares for ids, where the labels of all rows are ids."""
    names = find_declared_classes(folder)
    found = {label for part in splits.values() for label in part.unique("label")} - {None, MASKED}
    if not names or not found <= names.keys():
        return options
    return replace(options, mapping=dict(names), unlabelled_value=options.unlabelled_value or MASKED)


def encode_splits(
    where: str, splits: dict[str, Dataset], options: LabelOptions, declared: tuple[str, ...], is_rating: bool
) -> DatasetDict:
    """The splits with numbers of classes as labels, the same in all of them."""
    columns = {name: pa.chunked_array(part.data.column("label")) for name, part in splits.items()}
    counts = {
        name: dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))
        for name, found in ((name, column.value_counts()) for name, column in columns.items())
    }
    class_names, ids = encode_labels(where, counts, options, declared, is_rating)
    values = pa.array([*ids], pa.string())
    numbers = np.array([*ids.values(), UNLABELLED])  # the last is that of missing labels
    encoded = {}
    for name, part in splits.items():
        places = pc.fill_null(pc.index_in(columns[name], values), len(ids)).to_numpy()
        part = part.remove_columns("label")
        encoded[name] = part.add_column("label", numbers[places], feature=ClassLabel(names=[*class_names]))
    return DatasetDict(encoded)


def check_data_files(args: DataArguments | CorpusArguments) -> None:
    """Raises InputError if a file, folder or local copy that the options name does not exist."""
    given = args.files.values() if isinstance(args, DataArguments) else ()
    for name in given:
        check_file(name)
    names = [args.dataset_name] if isinstance(args.dataset_name, str) else args.dataset_name
    for name in names if not given else ():
        if name not in SNIPPETS:
            find_files(name, args.data_dir)


def check_file(name: str) -> Path:
    """The path of a file; raises InputError if there is none."""
    path = Path(name).expanduser()
    require(path.is_file(), f"no such file: {path}{suggest_file(path)}")
    return path


def load_snippets(file: str, streaming: bool) -> dict[str, Any]:
    """The rated sentences of an embedded file as `train`, those of uncertain rating as `unsupervised`."""
    arguments = {"path": str(fetch_snippets() / file), "bound": NEUTRAL_BOUND}
    return {
        split: generate_rows(split, read_ratings, arguments | {"neutral": split == "unsupervised"}, streaming)
        for split in ("train", "unsupervised")
    }


def read_ratings(path: str, bound: float, neutral: bool) -> Iterator[dict[str, Any]]:
    """Yield the sentences rated within the bound, unlabelled, if `neutral`; else the others, labelled by the sign."""
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            _, rating, text = line.rstrip("\n").split("\t")
            if neutral == (abs(float(rating)) <= bound):
                yield {"text": text, "label": None if neutral else LABEL_NAMES[float(rating) > 0]}


def find_files(dataset: str, data_dir: str | None = None) -> dict[str, SplitFiles] | None:
    """The files of each split of a file, folder or local copy; None for the Hub; raises InputError if none exist."""
    data_dir = data_dir or os.environ.get("SENTIMENT_DATA_DIR")
    path = Path(os.path.expanduser(dataset))  # noqa: PTH111 - Path.expanduser fails if there is no such user
    if dataset not in HUB_IDS and dataset:  # Path("") is the working folder
        if path.is_dir():
            return find_splits(path)
        if path.is_file():
            return {"train": SplitFiles([path])}
        is_misspelt = path.parent != Path() and bool(suggest_file(path))
        require(not (is_data_file(path) or is_misspelt), f"no such file: {path}{suggest_file(path)}")
    repo_id = HUB_IDS.get(dataset, dataset)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id) or repo_id.startswith("."):
        raise InputError(
            f"dataset {dataset!r} is no file or folder here; choose sst2, imdb, {', '.join(SNIPPETS)}, a Hub id "
            f"(owner/name), a folder, or a {', '.join(SUFFIXES)} file"
        )
    if not data_dir:
        return None
    copies = [Path(data_dir).expanduser() / name for name in (repo_id, repo_id.split("/")[1])]
    for folder in copies:
        if folder.is_dir():
            return find_splits(folder)
    raise InputError(
        f"no local copy of {repo_id}: there is no folder {copies[1]}; correct --data_dir, or omit it and "
        "SENTIMENT_DATA_DIR to use the Hugging Face Hub"
    )
