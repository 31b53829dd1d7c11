"""Find a model's folder or Hub revision, and refuse models that bring code; imports no torch and no datasets."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from sentiment.data.labels import DIGITS, canonical_names
from sentiment.demo.embedded import fetch_minilm
from sentiment.exceptions import InputError, first_line, require

# Model types whose positions count from `pad_token_id` + 1, as RoBERTa's do: 514 positions are 512 tokens.
POSITIONS_AFTER_PADDING = {
    *("camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
CODE_KEYS = ("auto_map", "custom_pipelines")  # of a config, with the names of Python code


def find_model_folder(path: str) -> Path:
    """The folder itself, or the `model` folder in the folder of a run; raises InputError without a config.json."""
    for folder in (Path(path), Path(path) / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"no model in {path}: pass the folder of a run, or one with a config.json")


def refuse_remote_code(where: str, config: Mapping[str, Any]) -> None:
    """Raise InputError where a config names code: no code that comes with a model is run."""
    named = [key for key in CODE_KEYS if config.get(key)]
    require(not named, f"{where} names code to be run with it ({', '.join(named)}): remote code is never run")


def read_class_names(where: str, id2label: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names of a classifier's classes, by id; raises InputError for fewer than two, or two with one name."""
    by_id = {int(number): str(name) for number, name in id2label.items()}
    require(len(by_id) > 1, f"{where} has {len(by_id)} label: a classifier has two or more")
    require(sorted(by_id) == [*range(len(by_id))], f"{where}: the ids of its labels are not 0 to {len(by_id) - 1}")
    names = [by_id[number] for number in sorted(by_id)]
    require(len({*names}) == len(names), f"{where} has two labels with the same name: {', '.join(names)}")
    return DIGITS if tuple(names) == DIGITS else canonical_names(names)


def check_task(where: str, config: Mapping[str, Any]) -> None:
    """Raise InputError for a model of another task than classification, or of several labels or a number per text."""
    architectures = config.get("architectures") or ["ForSequenceClassification"]
    require(
        any(name.endswith("ForSequenceClassification") for name in architectures),
        f"{where} holds no trained classifier (it is a {architectures[0]}): train one with train_e2e.py, or "
        "from an adapted model with train_finetune.py",
    )
    problem = config.get("problem_type") or "single_label_classification"
    is_single = problem == "single_label_classification"
    require(is_single, f"{where} is a model for {problem}, not for one label per text: its answers would be misread")


def count_positions(config: Mapping[str, Any]) -> int:
    """How many tokens a model takes, special tokens included.

    >>> count_positions({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})
    512
    """
    positions = int(config.get("max_position_embeddings") or 512)
    pad_token_id = int(config.get("pad_token_id") or 0)
    return positions - pad_token_id - 1 if config.get("model_type") in POSITIONS_AFTER_PADDING else positions


def resolve_model(model: str, revision: str | None = None) -> str:
    """The folder or Hub id to load for `minilm`, a folder or a Hub id; raises InputError if there is no such model."""
    from sentiment.data.hub import check_hub  # imports datasets, which serving does without

    is_folder = bool(model) and Path(model).is_dir()  # Path("") is the working folder
    if model == "minilm" or is_folder:
        require(not revision, f"--model_revision {revision} is for models on the Hub: {model} is a local folder")
        return str(find_model_folder(model) if is_folder else fetch_minilm())
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not model:
        raise InputError(f"no model in the folder '{model}': pass a folder, a Hub id or 'minilm'")
    if check_hub(model, "model"):
        return model
    try:  # the cached folder: loading by Hub id would retry the network again and again
        return snapshot_download(model, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise InputError(f"the Hub is out of reach, and {revision or 'main'} of {model} is not in its cache") from error


def get_model_revision(model_path: str, revision: str | None = None) -> str | None:
    """The commit of a Hub model's branch or tag (default: main), to load all its files by; None for folders."""
    if Path(model_path).is_dir():
        cached = re.search(r"/snapshots/([0-9a-f]{40})$", Path(model_path).as_posix())  # layout of the Hub's cache
        return cached and cached[1]
    try:
        return HfApi().model_info(model_path, revision=revision).sha
    except Exception as error:  # of the HTTP client, the operating system or the Hub
        raise InputError(f"cannot find revision {revision or 'main'} of {model_path}: {first_line(error)}") from error
