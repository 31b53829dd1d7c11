"""A classifier run by ONNX Runtime, without torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from sentiment.exceptions import InputError, first_line, require
from sentiment.serving.checkpoint import Checkpoint

# Where `sentiment export` writes, inside a model folder.
ONNX_FILES = {"fp32": Path("onnx/model.onnx"), "int8": Path("onnx/model_int8.onnx")}


class OnnxBackend:
    """The ONNX file that `sentiment export` wrote into a checkpoint's folder, on the CPU.

    Args:
        checkpoint: its folder.
        precision: `fp32`, `int8`, or `auto` for int8 where it is there.

    Raises:
        InputError: the file is missing or damaged.
    """

    name = "onnx"

    def __init__(self, checkpoint: Checkpoint, precision: str = "auto"):
        if precision == "auto":
            precision = "int8" if (checkpoint.folder / ONNX_FILES["int8"]).is_file() else "fp32"
        require(precision in ONNX_FILES, f"--precision {precision}: with onnx, choose one of auto, fp32, int8")
        path = checkpoint.folder / ONNX_FILES[precision]
        require(path.is_file(), f"no {path}: write it with `sentiment export {checkpoint.folder}`")
        self.precision = precision
        self.pad_token_id = checkpoint.pad_token_id
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class
            raise InputError(f"cannot load {path}: {first_line(error)}") from error

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch; shape (texts, 2)."""
        longest = max(map(len, input_ids))
        ids = np.full((len(input_ids), longest), self.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(input_ids):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        logits: np.ndarray = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return logits
