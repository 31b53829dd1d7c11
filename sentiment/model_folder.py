"""Where a saved model lies, and what it may not ask for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentiment.exceptions import InputError

# What `sentiment export` writes into a model folder, by precision.
ONNX_FILES = {"fp32": Path("onnx/model.onnx"), "int8": Path("onnx/model_int8.onnx")}
# Shorter batches are padded to it: of some models, the exporter can prove its graph from here on only.
ONNX_LEAST_TOKENS = 3
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


def refuse_code(where: str, config: Mapping[str, Any]) -> None:
    """Raises InputError where a config names code of its own: nothing that comes with a model is run here."""
    named = [key for key in CODE_KEYS if config.get(key)]
    if named:
        raise InputError(f"{where} names code to be run with it ({', '.join(named)}): that is never done here")
