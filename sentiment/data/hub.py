"""Datasets of the Hugging Face Hub, or of its cache if the Hub cannot be reached, which is found out in seconds."""

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import datasets
import huggingface_hub
from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from sentiment.data.caching import FEATURES, map_batches
from sentiment.data.columns import ColumnOptions, Columns, match_columns, parse_row
from sentiment.data.labels import shorten
from sentiment.exceptions import InputError, first_line, suggest_name

RepoType = Literal["dataset", "model"]
LOADING_ERRORS = (DatasetsError, OSError, ValueError)
TIMEOUT_SECONDS = 5.0
# Ready-made options that need no Hub, by script and by command of `sentiment`.
OFFLINE_YAML = {
    **dict.fromkeys(("train_e2e.py", "train"), "offline.yaml"),
    **dict.fromkeys(("train_mlm.py", "adapt"), "offline_mlm.yaml"),
    **dict.fromkeys(("train_finetune.py", "finetune"), "offline_finetune.yaml"),
    "study": "offline_study.yaml",
}


def load_hub_dataset(
    repo_id: str, options: ColumnOptions, revision: str | None, streaming: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The splits of a dataset with `text` and `label` as strings, and its class names; raises as `load_reviews`."""
    return normalise_splits(repo_id, open_hub_dataset(repo_id, revision, streaming), options, streaming)


def open_hub_dataset(repo_id: str, revision: str | None = None, streaming: bool = False) -> Mapping[str, Any]:
    """The splits of a dataset as published."""
    online = check_hub(repo_id, "dataset", revision)
    try:
        with nullcontext() if online else offline_datasets():
            published: Mapping[str, Any] = load_dataset(repo_id, revision=revision, streaming=streaming and online)
            return published
    except LOADING_ERRORS as error:
        reason = shorten(first_line(error), 200)
        raise InputError(f"cannot load dataset {repo_id} from the Hugging Face Hub: {reason}") from error


def load_saved_dataset(folder: str, options: ColumnOptions, streaming: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The splits of a dataset saved by `save_to_disk`, a single one as `train`; returns as `load_hub_dataset`."""
    return normalise_splits(folder, open_saved_dataset(folder), options, streaming)


def open_saved_dataset(folder: str) -> Mapping[str, Any]:
    """The splits of a dataset saved by `save_to_disk` as they are."""
    try:
        saved = load_from_disk(folder)
    except LOADING_ERRORS as error:
        raise InputError(f"cannot load the dataset in {folder}: {shorten(first_line(error), 200)}") from error
    return saved if isinstance(saved, DatasetDict) else {"train": saved}


def normalise_splits(
    name: str, published: Mapping[str, Any], options: ColumnOptions, streaming: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The splits with `text` and `label` as strings, and the names of their classes; messages call them `name`."""
    splits: dict[str, Any] = {}
    class_names: tuple[str, ...] = ()
    for split, rows in published.items():
        place = f"{name} ({split})"
        rows = rows.flatten() if isinstance(rows, Dataset) else rows  # fields of structs have their path as name
        columns = match_columns(place, rows.column_names or list(next(iter(rows))), options, rows.features)
        splits[split] = normalise(rows, place, columns)
        class_names = class_names or columns.class_names
    if streaming:
        splits = {
            split: part.to_iterable_dataset() if isinstance(part, Dataset) else part for split, part in splits.items()
        }
    return splits, class_names


def normalise(rows: Any, place: str, columns: Columns) -> Any:
    """The rows with `text` and `label` alone; messages call them `place`."""
    return map_batches(
        rows.select_columns(columns.names),
        parse_batch,
        with_indices=True,
        remove_columns=columns.names,
        features=FEATURES,
        fn_kwargs={"place": place, "columns": columns},
    )


def parse_batch(batch: dict[str, list[Any]], indices: list[int], place: str, columns: Columns) -> dict[str, list[Any]]:
    """The rows of a batch as `text` and `label`."""
    records = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
    rows = [parse_row(place, index + 1, columns, record) for index, record in zip(indices, records, strict=True)]
    return {name: [row[name] for row in rows] for name in FEATURES}


def find_revisions(*parts: Dataset) -> list[str]:
    """The commits of the Hub datasets that the rows were loaded from: each has a folder of that name in the cache."""
    folders = {Path(file["filename"]).parent.name for part in parts for file in part.cache_files}
    return sorted(folder for folder in folders if re.fullmatch("[0-9a-f]{40}", folder))


def check_hub(repo_id: str, repo_type: RepoType, revision: str | None = None) -> bool:
    """Whether the Hub has this repository, rather than only the cache; raises InputError if neither has it."""
    offline = huggingface_hub.is_offline_mode()
    problem = None if offline else ask_hub(repo_id, repo_type, revision)
    if not offline and problem is None:
        return True
    if is_cached(repo_id, repo_type, revision):
        return False
    what = f"{repo_type} {repo_id}" + (f" at revision {revision}" if revision else "")
    status = f" (HTTP status {problem.response.status_code})" if isinstance(problem, HfHubHTTPError) else ""
    reason = f"cannot reach the Hugging Face Hub for {what}{status}"
    if offline:
        reason = f"HF_HUB_OFFLINE is set and {what} is not in the local cache"
    elif isinstance(problem, GatedRepoError):
        reason = f"{what} is gated on the Hugging Face Hub (log in with access to it)"
    elif isinstance(problem, RepositoryNotFoundError | RevisionNotFoundError):
        reason = f"{what} is not on the Hugging Face Hub, or is private (check the name)"
    local = "--dataset snippets (embedded), a file of your own, or --data_dir with a local copy"
    if repo_type == "model":
        reason += suggest_name(repo_id, ["minilm"])
        local = "--model minilm (embedded) or a local folder (and a --dataset that is not on the Hub either)"
    raise InputError(f"{reason}: pass {local}, or run `{name_offline_run()}`, which needs no Hub")


def name_offline_run() -> str:
    """The running script or command with options that need no Hub; for other commands, strategy A."""
    script, command = Path(sys.argv[0]).name, next(iter(sys.argv[1:]), "")
    if script in OFFLINE_YAML:
        return f"python {script} {OFFLINE_YAML[script]}"
    command = command if command in OFFLINE_YAML else "train"
    return f"sentiment {command} {OFFLINE_YAML[command]}"


def ask_hub(repo_id: str, repo_type: RepoType, revision: str | None) -> Exception | None:
    """The error of a request for this repository; None if the Hub has it."""
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            api = huggingface_hub.HfApi()
            api.repo_info(repo_id, repo_type=repo_type, revision=revision, timeout=TIMEOUT_SECONDS)
            outcome.append(None)
        except Exception as error:  # of the HTTP client, the operating system or the Hub
            outcome.append(error)

    # In a thread, because the request's own timeout does not cover the look-up of the host name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    return outcome[0] if outcome else TimeoutError("no answer")


def is_cached(repo_id: str, repo_type: RepoType, revision: str | None = None) -> bool:
    """Whether the cache of `datasets` or `huggingface_hub` has this repository, at this commit if one is given."""
    if repo_type == "model":
        return isinstance(huggingface_hub.try_to_load_from_cache(repo_id, "config.json", revision=revision), str)
    try:
        with offline_datasets():
            builder = load_dataset_builder(repo_id)
    except LOADING_ERRORS:
        return False
    return revision in (None, builder.hash)


@contextmanager
def offline_datasets() -> Iterator[None]:
    """Make `load_dataset` use its cache without asking the Hub.

    Sets a private switch of `datasets`, which it reads from the environment when imported: the public
    `DownloadConfig(local_files_only=True)` does not apply to its first request, which is repeated for 23 s. See
    `test_warm_cache_serves_without_the_hub`.
    """
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
