"""`Predictor`: labels and probabilities for raw texts, from a checkpoint and a backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from sentiment.data.cleaning import is_blank
from sentiment.data.labels import shorten
from sentiment.exceptions import require
from sentiment.inference.backends import Backend, load_backend
from sentiment.inference.batching import check_finite, predict_in_batches
from sentiment.inference.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Prediction:
    """The predicted label, its probability (`score`), and the probability of each label."""

    label: str
    score: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned classifier for raw texts, with the cleaning and truncation of its training.

    >>> Predictor.from_pretrained("outputs/e2e").predict(["a gripping, funny film"])  # doctest: +SKIP
    [Prediction(label='positive', score=0.998, probabilities={'negative': 0.002, 'positive': 0.998})]
    """

    checkpoint: Checkpoint
    backend: Backend

    @classmethod
    def from_pretrained(
        cls, path: str, backend: str = "torch", precision: str = "fp32", threads: int | None = None
    ) -> "Predictor":
        """The predictor of a model folder, or of the `model` folder of a run.

        Args:
            path: the folder.
            backend: `torch`, or `onnx` for the files that `sentiment export` wrote into the folder.
            precision: `fp32`, or `auto` for the fastest: with torch fp16 on CUDA and bf16 on CPUs with bf16 units, with
                onnx int8 if it was exported.
            threads: CPU threads per batch; default: one per core. With torch they apply to the whole process.

        Raises:
            InputError: the folder holds no trained classifier, or the backend is not installed.
        """
        checkpoint = load_checkpoint(path)
        return cls(checkpoint, load_backend(checkpoint, backend, precision, threads))

    def predict(self, texts: Sequence[str | float | None]) -> list[Prediction | None]:
        """The prediction for each text, in order; None for a text that is missing, blank, or empty after cleaning.

        Raises InputError as `predict_probabilities`, and for a value that is no text.
        """
        require(not isinstance(texts, str), "pass a list of texts: a string is one text, so [text]")
        has_text = []
        for place, text in enumerate(texts):
            is_missing = text is None or text != text  # NaN, as pandas has it
            require(is_missing or isinstance(text, str), f"texts[{place}] is no text, but {shorten(repr(text))}")
            has_text.append(not is_missing and not is_blank(self.checkpoint.clean(str(text))))
        rows = iter(self.predict_probabilities([str(text) for text in compress(texts, has_text)]).tolist())
        return [self.build_prediction(next(rows)) if filled else None for filled in has_text]

    def build_prediction(self, probabilities: Sequence[float]) -> Prediction:
        """The prediction for one text with these probabilities of the labels."""
        labels, score = self.checkpoint.labels, max(probabilities)
        label = labels[probabilities.index(score)]
        return Prediction(label, score, dict(zip(labels, probabilities, strict=True)))

    def predict_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probability of each label for each text, in order; shape (texts, labels).

        Raises:
            InputError: a text holds a lone surrogate, or the model answers with NaN.
        """
        require(not isinstance(texts, str), "pass a list of texts: a string is one text, so [text]")
        probabilities = predict_in_batches(
            self.backend.compute_logits, self.checkpoint.encode(texts), temperature=self.checkpoint.temperature
        )
        check_finite(probabilities)
        return probabilities
