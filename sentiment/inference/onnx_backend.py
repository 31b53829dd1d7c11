"""A classifier run by ONNX Runtime, without torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from sentiment.environment import count_threads
from sentiment.exceptions import InputError, first_line, require
from sentiment.inference.checkpoint import ONNX_FILES, ONNX_LEAST_TOKENS, Checkpoint

INPUTS, OUTPUTS = {"input_ids", "attention_mask"}, {"logits"}
# Its kernel took 9% of an fp32 batch and 20% of an int8 one where the Add and LayerNormalization that it is fused of
# took 2% and 5% (1.32, CPU).
SLOW_FUSIONS = ["SkipLayerNormFusion"]


class OnnxBackend:
    """The ONNX file that `sentiment export` wrote into a checkpoint's folder, on the CPU.

    In fp32 an answer does not depend on the texts that it is computed with; in int8 it does, slightly, because
    activations are scaled by the smallest and largest of the whole batch.

    Args:
        checkpoint: its folder.
        precision: `fp32`, `int8`, or `auto` for int8 where it is there.
        threads: that one batch is computed with, all but one of them shared with batches that run at the same time;
            `OMP_NUM_THREADS`, or one for each core, where left out.

    Raises:
        InputError: the file is missing or damaged.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, checkpoint: Checkpoint, precision: str = "auto", threads: int | None = None):
        if precision == "auto":
            precision = "int8" if (checkpoint.folder / ONNX_FILES["int8"]).is_file() else "fp32"
        require(precision in ONNX_FILES, f"--precision {precision}: with onnx, choose one of auto, fp32, int8")
        self.precision = precision
        self.pad_token_id = checkpoint.pad_token_id
        path = checkpoint.folder / ONNX_FILES[precision]
        flag = " --int8" if precision == "int8" else ""
        run = checkpoint.folder.parent if (checkpoint.folder.parent / "run.json").is_file() else checkpoint.folder
        require(path.is_file(), f"no {path}: write it with `sentiment export{flag} {run}`")
        self.session = open_session(path, threads)

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch; shape (texts, 2)."""
        longest = max(ONNX_LEAST_TOKENS, *map(len, input_ids))
        ids = np.full((len(input_ids), longest), self.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(input_ids):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        logits: np.ndarray = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return logits


def open_session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """The file, ready to run.

    Raises:
        InputError: it is damaged, or not one that `sentiment export` wrote.
    """
    try:
        session = onnxruntime.InferenceSession(
            str(path), build_options(threads), providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
    except Exception as error:  # its errors share no base class
        raise InputError(f"cannot load {path}: {first_line(error)}") from error
    names = [{value.name for value in values} for values in (session.get_inputs(), session.get_outputs())]
    require(names == [INPUTS, OUTPUTS], f"{path} is not what `sentiment export` writes: export the model again")
    return session


def build_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """How ONNX Runtime uses threads and memory in a server.

    Within a batch, which has some 100 parts, threads wait for the next part spinning, since a core that sleeps is slow
    to wake; after the batch they sleep at once, rather than spin on: the event loop has one of the cores to run on. On
    2 cores with 2 threads, int8:

        threads spin                  batches of 32   beside a busy event loop   one text   and its CPU time
        always, by default            841/s           638/s                      3.0 ms     16.5 ms
        within a batch, as here       865/s           669/s                      3.1 ms     6.0 ms
        never (intra_op.allow_...)    794/s           640/s                      3.9 ms     4.7 ms
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = count_threads() if threads is None else threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Batches come in any shape, and a plan of the memory for each of them would be kept for good.
    options.enable_mem_pattern = False
    return options
