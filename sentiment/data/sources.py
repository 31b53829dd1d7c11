"""A name or a path becomes a `DatasetDict` with `text` and `label`: Hub, local copy, folder, file, embedded.

Rows lie in the cache of `datasets` on disk and are memory-mapped, so a second load takes no time.
"""

import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError

from sentiment.data.files import SUFFIXES, load_generated, load_split, normalise
from sentiment.data.hub import check_hub, offline_datasets
from sentiment.data.labels import shorten
from sentiment.demo.embedded import fetch_snippets
from sentiment.exceptions import InputError

HUB_IDS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
SNIPPETS = {
    "snippets": "movieReviewSnippets_GroundTruth.txt",
    "snippets_amazon": "amazonReviewSnippets_GroundTruth.txt",
    "snippets_nyt": "nytEditorialSnippets_GroundTruth.txt",
    "snippets_tweets": "tweets_GroundTruth.txt",
}
# The mean of 15 to 20 ratings has a standard error of about 0.25 near zero, so within two of them, 0.5, the
# sign of a mean is not certain. Of the film sentences 562 (5%) are that near.
NEUTRAL_BOUND = 0.5
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    "unsupervised": "unsupervised",
}
_SHARD = re.compile(r"(?P<split>\w+)-(?P<index>\d{5})-of-(?P<count>\d{5})")


def load_reviews(dataset: str, data_dir: str | None = None, with_labels: bool = True) -> DatasetDict:
    """Splits of a source, each with the columns `text` (string) and `label` (0, 1, or -1: unlabelled).

    `dataset` is `sst2`, `imdb`, `snippets` or another of the embedded `SNIPPETS`, a Hub id `owner/name`, a
    folder with files named after their splits, or one .csv, .tsv, .jsonl, .parquet or .txt file (split `train`;
    .txt: one unlabelled review a line). Where `data_dir`, or else the variable `SENTIMENT_DATA_DIR`, is given, its
    local copies are read in place of the Hub. Without `with_labels`, labels of files and of the Hub may be anything
    (five stars), and all are -1.
    Raises `InputError` naming file, row and column of what cannot be used.
    """
    if dataset in SNIPPETS:
        return _load_snippets(SNIPPETS[dataset])
    files = find_files(dataset, data_dir)
    if files is not None:
        return DatasetDict({split: load_split(split, paths, with_labels) for split, paths in files.items()})
    repo_id = HUB_IDS.get(dataset, dataset)
    raw = load_hub(repo_id)
    return DatasetDict(
        {split: normalise(rows, [(f"{repo_id} ({split})", len(rows))], with_labels) for split, rows in raw.items()}
    )


def find_files(dataset: str, data_dir: str | None = None) -> dict[str, list[Path]] | None:
    """The files of each split of a file, a folder or a local copy; None for a Hub id without a local copy's folder.

    Raises:
        InputError: no such source, or a folder whose files are no splits.
    """
    data_dir = data_dir or os.environ.get("SENTIMENT_DATA_DIR")
    path = Path(os.path.expanduser(dataset))  # noqa: PTH111 - leaves a user that does not exist as it is
    if dataset not in HUB_IDS and dataset:  # Path("") is the working folder
        if path.is_dir():
            return _find_splits(path)
        if path.is_file() or path.suffix.lower() in SUFFIXES:
            _check_file(path)
            return {"train": [path]}
    repo_id = HUB_IDS.get(dataset, dataset)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id) or repo_id.startswith("."):
        raise InputError(
            f"dataset {dataset!r} is no file or folder here; choose sst2, imdb, {', '.join(SNIPPETS)}, a Hub id "
            f"(owner/name), a folder, or a {', '.join(SUFFIXES)} file"
        )
    return _find_splits(_find_local_copy(repo_id, Path(data_dir).expanduser())) if data_dir else None


def load_hub(repo_id: str, **options: Any) -> Any:
    """What `load_dataset` gives for a Hub id, or in seconds what its cache holds where the Hub is out of reach.

    Raises:
        InputError: it can be had from neither, or not be read.
    """
    online = check_hub(repo_id, "dataset")
    try:
        with nullcontext() if online else offline_datasets():
            return load_dataset(repo_id, **options)
    except (DatasetsError, OSError, ValueError) as error:
        reason = shorten(str(error).strip().partition("\n")[0], 200)
        raise InputError(f"cannot load dataset {repo_id} from the Hugging Face Hub: {reason}") from error


def _load_snippets(file: str) -> DatasetDict:
    path = fetch_snippets() / file
    splits = {}
    for split in ("train", "unsupervised"):
        arguments = {"path": str(path), "bound": NEUTRAL_BOUND, "neutral": split == "unsupervised"}
        splits[split] = load_generated(split, read_ratings, arguments)
    return DatasetDict(splits)


def read_ratings(path: str, bound: float, neutral: bool) -> Iterator[dict[str, Any]]:
    """Rated sentences: those within the bound if `neutral`, unlabelled; else the others, by their sign."""
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            _, rating, text = line.rstrip("\n").split("\t")
            if neutral == (abs(float(rating)) <= bound):
                yield {"text": text, "label": -1 if neutral else int(float(rating) > 0)}


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: cannot read files of this kind; use {', '.join(SUFFIXES)}")


def _find_local_copy(repo_id: str, data_dir: Path) -> Path:
    owner, name = repo_id.split("/")
    for folder in (data_dir / owner / name, data_dir / name):
        if folder.is_dir():
            return folder
    raise InputError(
        f"no local copy of {repo_id}: there is no folder {data_dir / name}; correct --data_dir, "
        "or leave it and SENTIMENT_DATA_DIR out to use the Hugging Face Hub"
    )


def _find_splits(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    for path in files:
        shard = _SHARD.fullmatch(path.stem)
        split = shard["split"] if shard else _SPLIT_NAMES.get(path.stem.lower())
        if split is not None:
            splits.setdefault(split, []).append(path)
    if not splits:
        found = shorten(", ".join(path.name for path in files), 200) or "none"
        raise InputError(
            f"folder {folder} holds no split: name its files train.csv, validation.csv, test.csv (or .tsv, "
            f".jsonl, .parquet, .txt), or train-00000-of-00001.parquet as on the Hub; found data files: {found}"
        )
    for split, paths in splits.items():
        _check_shards(folder, split, paths)
    order = ["train", "validation", "test", "unsupervised"]
    known = [split for split in order if split in splits]
    return {split: splits[split] for split in [*known, *sorted(set(splits) - set(order))]}


def _check_shards(folder: Path, split: str, paths: list[Path]) -> None:
    shards = [_SHARD.fullmatch(path.stem) for path in paths]
    numbers = [(int(shard["index"]), int(shard["count"])) for shard in shards if shard]
    if len(paths) == 1 and not numbers:
        return
    counts = {count for _, count in numbers}
    same_kind = len({path.parent for path in paths}) == len({path.suffix for path in paths}) == len(counts) == 1
    if not same_kind or len(numbers) < len(paths) or len(set(numbers)) < len(paths):
        names = shorten(", ".join(str(path.relative_to(folder)) for path in paths), 200)
        raise InputError(f"folder {folder} holds split {split} more than once: {names}; keep one, or pass its folder")
    missing = set(range(counts.pop())) - {index for index, _ in numbers}
    if missing:
        raise InputError(f"folder {folder}: part {min(missing):05d} of split {split} is missing beside {paths[0].name}")
