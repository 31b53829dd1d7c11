"""Backends that run a classifier: torch, and ONNX Runtime without torch. Each imports its library when it is built."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sentiment.environment import choose_precision, count_threads
from sentiment.exceptions import InputError, first_line, require
from sentiment.inference.batching import BATCH_SIZE, check_finite, pad_batch, predict_in_batches
from sentiment.inference.checkpoint import ONNX_FILES, ONNX_MIN_TOKENS, Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Its kernel took 9% of an fp32 batch and 20% of an int8 one; the Add and LayerNormalization that it replaces took 2%
# and 5% (ONNX Runtime 1.32, CPU).
SLOW_FUSIONS = ["SkipLayerNormFusion"]


class Backend(Protocol):
    """What runs a model: its `name`, the `device` and `precision` it computes in, and logits of one batch."""

    name: str
    device: str
    precision: str

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, classes)."""


class TorchBackend:
    """A checkpoint run by torch, on CUDA if available, else on the CPU; arguments as of `Predictor.from_pretrained`.

    Raises:
        InputError: the weights are missing or damaged, or the head is untrained.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32", threads: int | None = None):
        import torch
        from torch import nn

        from sentiment.models.classifier import find_output_layer, load_trained_classifier
        from sentiment.models.fast_bert import pack_linears

        if threads is not None:
            torch.set_num_threads(threads)
        self.precision = choose_precision(precision)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pad_token_id = checkpoint.pad_token_id
        self.model = load_trained_classifier(str(checkpoint.folder), self.device)
        self.output_layer = find_output_layer(self.model)[0]
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        nn.Module.to(self.model, dtype=dtype)
        if self.device == "cpu" and self.precision == "bf16" and self.model.config.model_type == "bert":
            pack_linears(self.model)

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, classes)."""
        return compute_torch_logits(self.model, self.pad_token_id, input_ids)

    def compute_embeddings(self, input_ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of one batch, and the inputs of the output layer, as of BERT's pooler; (texts, hidden size)."""
        inputs: list[Any] = []
        layer = self.model.get_submodule(self.output_layer)
        hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            logits = self.compute_logits(input_ids)
        finally:
            hook.remove()
        return logits, inputs[0].float().cpu().numpy()


class OnnxBackend:
    """A checkpoint's ONNX file, written by `sentiment export`, run by ONNX Runtime on the CPU.

    In fp32 an answer does not depend on the other texts of its batch. In int8 it does, slightly: activations are scaled
    by the minimum and maximum of the whole batch. Concurrent batches share all threads but their calling one.

    Raises:
        InputError: the file is missing or damaged.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, checkpoint: Checkpoint, precision: str = "auto", threads: int | None = None):
        if precision == "auto":
            precision = "int8" if (checkpoint.folder / ONNX_FILES["int8"]).is_file() else "fp32"
        require(precision in ONNX_FILES, f"--precision {precision}: with onnx, choose one of auto, fp32, int8")
        path = checkpoint.folder / ONNX_FILES[precision]
        flag = " --int8" if precision == "int8" else ""
        run_dir = checkpoint.folder.parent
        model = run_dir if (run_dir / "run.json").is_file() else checkpoint.folder
        require(path.is_file(), f"no {path}: write it with `sentiment export{flag} {model}`")
        self.precision = precision
        self.pad_token_id = checkpoint.pad_token_id
        self.session = load_session(path, threads)

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch; shape (texts, classes)."""
        batch = pad_batch(input_ids, self.pad_token_id, ONNX_MIN_TOKENS)
        logits: np.ndarray = self.session.run(["logits"], batch)[0]
        return logits


BACKENDS: dict[str, type[TorchBackend] | type[OnnxBackend]] = {"torch": TorchBackend, "onnx": OnnxBackend}


def load_backend(checkpoint: Checkpoint, name: str, precision: str, threads: int | None) -> Backend:
    """The backend of this name; raises InputError if its library is not installed or the model cannot be loaded."""
    try:
        return BACKENDS[name](checkpoint, precision, threads)
    except ModuleNotFoundError as error:
        raise InputError(f"--backend {name} needs {error.name}: pip install 'adapt-or-finetune[onnx]'") from error


def compute_torch_logits(model: "PreTrainedModel", pad_token_id: int, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Logits of one batch in fp32, from a model in evaluation mode; shape (texts, classes)."""
    import torch

    batch = {name: torch.from_numpy(array) for name, array in pad_batch(input_ids, pad_token_id).items()}
    with torch.inference_mode():
        logits = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).logits
        found: np.ndarray = logits.float().cpu().numpy()
    return found


def predict_probabilities(
    model: "PreTrainedModel", input_ids: Sequence[Sequence[int]], pad_token_id: int, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Probability of each class for each text, in order; shape (texts, classes). Restores the model's mode.

    Texts are batched by length and padding is masked: batches change an answer by rounding only.

    Raises:
        InputError: the model answers with NaN.
    """
    was_training = model.training
    model.eval()
    probabilities = predict_in_batches(partial(compute_torch_logits, model, pad_token_id), input_ids, batch_size)
    model.train(was_training)
    check_finite(probabilities)
    return probabilities


def load_session(path: Path, threads: int | None = None) -> Any:
    """The `InferenceSession` of a file; raises InputError if it is damaged or was not written by `sentiment export`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or count_threads()
    # Threads spin between the operators of a batch but not after it, which leaves a core to the event loop: 669 texts/s
    # beside a busy one instead of 638, and 6.0 ms of CPU time for a single text instead of 16.5 (2 cores, int8).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_mem_pattern = False  # one memory plan per batch shape would be kept for ever
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
    except Exception as error:  # its errors have no common base class
        raise InputError(f"cannot load {path}: {first_line(error)}") from error
    names = [{value.name for value in values} for values in (session.get_inputs(), session.get_outputs())]
    expected = [{"input_ids", "attention_mask"}, {"logits"}]
    require(names == expected, f"{path} was not written by `sentiment export`: export the model again")
    return session
