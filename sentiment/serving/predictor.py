"""A checkpoint with all that turns a raw text into a label, as in its training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from sentiment.data.cleaning import CLEANINGS
from sentiment.data.pretrained import find_model_folder
from sentiment.data.tokenization import tokenize_batch
from sentiment.evaluation.predictions import choose_labels, predict_probabilities
from sentiment.exceptions import InputError
from sentiment.models.classifier import LABEL_NAMES, BertSentimentClassifier, load_trained_classifier
from sentiment.models.tokenizer import load_tokenizer

# What a checkpoint from elsewhere, which does not say how its texts were prepared, is given.
DEFAULT_PREPARATION = {"cleaning": "light", "max_length": 128}
# Characters a token can cover at most, generously: the tokenizer reads all of a text before it cuts it.
CHARACTERS_PER_TOKEN = 100


@dataclass(frozen=True)
class Prediction:
    """A label name and the probability of `positive`."""

    label: str
    probability: float

    @property
    def confidence(self) -> float:
        """The probability of the label itself."""
        return max(self.probability, 1 - self.probability)


@dataclass
class SentimentPredictor:
    """A fine-tuned classifier, its tokenizer, and the cleaning and length that it was trained with."""

    model: BertSentimentClassifier
    tokenizer: PreTrainedTokenizerBase
    cleaning: str
    max_length: int

    @classmethod
    def from_pretrained(cls, path: str) -> "SentimentPredictor":
        """The predictor in a model folder, or in the `model` folder of a run.

        Raises:
            InputError: no trained classifier is there.
        """
        folder = find_model_folder(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_trained_classifier(str(folder), device)
        preparation = DEFAULT_PREPARATION | (getattr(model.config, "preparation", None) or {})
        cleaning, max_length = preparation["cleaning"], preparation["max_length"]
        if cleaning not in CLEANINGS or not isinstance(max_length, int):
            raise InputError(f"{folder} says that its texts were prepared by {preparation}, which is not known here")
        return cls(model, load_tokenizer(str(folder)), cleaning, max_length)

    def clean(self, text: str) -> str:
        """The text as the model sees it; empty where cleaning leaves nothing."""
        return CLEANINGS[self.cleaning](text)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The prediction for each raw text, in order."""
        probabilities = self.predict_probabilities(texts)
        names = [LABEL_NAMES[label] for label in choose_labels(probabilities).tolist()]
        return [Prediction(*pair) for pair in zip(names, probabilities.tolist(), strict=True)]

    def predict_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probability of `positive` for each raw text, in order; shape (texts,).

        Raises:
            InputError: a text holds half of a surrogate pair, which the tokenizer cannot read.
        """
        if not texts:
            return np.empty(0)
        for number, text in enumerate(texts, start=1):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"text {number} holds a lone surrogate, not Unicode: pass it as UTF-8") from error
        limit = self.max_length * CHARACTERS_PER_TOKEN
        cleaned = [self.clean(text)[:limit] for text in texts]
        encoded = tokenize_batch({"text": cleaned}, self.tokenizer, self.max_length)
        return predict_probabilities(self.model, encoded["input_ids"], self.tokenizer.pad_token_id)
