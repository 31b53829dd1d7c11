"""A checkpoint with all that turns a raw text into a label, as in its training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from sentiment.data.labels import LABEL_NAMES
from sentiment.exceptions import InputError
from sentiment.inference.batching import BATCH_SIZE
from sentiment.inference.checkpoint import Checkpoint, read_checkpoint

BACKENDS = ("torch", "onnx")


class Backend(Protocol):
    """What runs the model: its `name`, the `device` and `precision` it computes in, and one batch of ids to logits."""

    name: str
    device: str
    precision: str

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, 2)."""


@dataclass(frozen=True)
class Prediction:
    """A label name and the probability of `positive`."""

    label: str
    probability: float

    @property
    def confidence(self) -> float:
        """The probability of the label itself."""
        return max(self.probability, 1 - self.probability)


@dataclass(frozen=True)
class SentimentPredictor:
    """A fine-tuned classifier with the cleaning, tokenizer and length that it was trained with."""

    checkpoint: Checkpoint
    backend: Backend

    @classmethod
    def from_pretrained(
        cls, path: str, backend: str = "torch", precision: str = "fp32", threads: int | None = None
    ) -> "SentimentPredictor":
        """The predictor in a model folder, or in the `model` folder of a run.

        Args:
            path: the folder.
            backend: `torch`, or `onnx` for what `sentiment export` wrote there.
            precision: `fp32`, or `auto` for the fastest: with torch fp16 on CUDA and bf16 on a CPU with units for it,
                with onnx int8 where it is there.
            threads: that one batch is computed with on a CPU; one for each core where left out. With torch it holds
                for all that the process computes.

        Raises:
            InputError: no trained classifier is there.
        """
        checkpoint = read_checkpoint(path)
        return cls(checkpoint, load_backend(checkpoint, backend, precision, threads))

    def clean(self, text: str) -> str:
        """The text as the model sees it; empty where cleaning leaves nothing."""
        return self.checkpoint.clean(text)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The prediction for each raw text, in order."""
        return [build_prediction(probability) for probability in self.predict_probabilities(texts).tolist()]

    def predict_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probability of `positive` for each raw text, in order; shape (texts,).

        Raises:
            InputError: a text holds half of a surrogate pair, or the weights give no finite answer.
        """
        input_ids = self.checkpoint.prepare(texts)
        order = sorted(range(len(input_ids)), key=lambda position: len(input_ids[position]))
        probabilities = np.empty(len(input_ids))
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            logits = self.backend.compute_logits([input_ids[position] for position in chosen])
            probabilities[chosen] = compute_probabilities(logits)
        if not np.isfinite(probabilities).all():
            raise InputError("the model answers with NaN: its weights are damaged, or training diverged (lower --lr)")
        return probabilities


def load_backend(checkpoint: Checkpoint, name: str, precision: str, threads: int | None) -> Backend:
    """What runs a checkpoint's model; each library is imported only where it is used.

    Raises:
        InputError: its library is not installed, or the model cannot be loaded.
    """
    try:
        if name == "onnx":
            from sentiment.inference.onnx_backend import OnnxBackend

            return OnnxBackend(checkpoint, precision, threads)
        from sentiment.inference.torch_backend import TorchBackend

        return TorchBackend(checkpoint, precision, threads)
    except ModuleNotFoundError as error:
        raise InputError(f"--backend {name} needs {error.name}: pip install 'adapt-or-finetune[onnx]'") from error


def compute_probabilities(logits: np.ndarray) -> np.ndarray:
    """Probability of `positive`, from logits of shape (texts, 2); shape (texts,)."""
    wide = logits.astype(np.float64)
    probabilities: np.ndarray = expit(wide[:, 1] - wide[:, 0])  # the softmax of two, in a fifth of its time
    return probabilities


def build_prediction(probability: float) -> Prediction:
    """The likelier label."""
    return Prediction(LABEL_NAMES[int(probability > 0.5)], probability)
