"""Where a saved model lies."""

from pathlib import Path

from sentiment.exceptions import InputError

# What `sentiment export` writes into a model folder, by precision.
ONNX_FILES = {"fp32": Path("onnx/model.onnx"), "int8": Path("onnx/model_int8.onnx")}
# Shorter batches are padded to it: of some models, the exporter can prove its graph from here on only.
ONNX_LEAST_TOKENS = 3


def find_model_folder(path: str) -> Path:
    """The folder itself, or the `model` folder in it if it is a run's.

    Raises:
        InputError: there is no config.json in either.
    """
    for folder in (Path(path), Path(path) / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"no model in {path}: pass the folder of a run, or one with a config.json")
