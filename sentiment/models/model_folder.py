"""Where a saved model lies, and what it may not ask for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from sentiment.data.hub import check_hub
from sentiment.demo.embedded import fetch_minilm
from sentiment.exceptions import InputError

# Where a config names Python code that is to be run with the model.
CODE_KEYS = ("auto_map", "custom_pipelines")


def find_model_folder(path: str) -> Path:
    """The folder itself, or the `model` folder in it if it is a run's.

    Raises:
        InputError: there is no config.json in either.
    """
    for folder in (Path(path), Path(path) / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"no model in {path}: pass the folder of a run, or one with a config.json")


def refuse_remote_code(where: str, config: Mapping[str, Any]) -> None:
    """Raises InputError where a config names code of its own: nothing that comes with a model is run here."""
    named = [key for key in CODE_KEYS if config.get(key)]
    if named:
        raise InputError(f"{where} names code to be run with it ({', '.join(named)}): that is never done here")


def resolve_model(model: str) -> str:
    """What `from_pretrained` takes for `minilm`, a folder or a Hub id; `minilm` is fetched on first use.

    Raises:
        InputError: no such folder, or the Hub cannot give the model.
    """
    if model == "minilm":
        return str(fetch_minilm())
    if model and Path(model).is_dir():  # Path("") is the working folder
        return str(find_model_folder(model))
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not model:
        raise InputError(f"no model in the folder '{model}': pass a folder, a Hub id or 'minilm'")
    # Without the Hub, the folder in its cache: a Hub id would be asked for over the network again and again.
    return model if check_hub(model, "model") else snapshot_download(model, local_files_only=True)
