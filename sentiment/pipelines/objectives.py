"""What an adaptation trains for: one class per objective, and the table that `--objective` chooses from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments
from sentiment.exceptions import require
from sentiment.inference.fill_mask import fill_masks, mask_words
from sentiment.models.masked_lm import IGNORE_INDEX, load_masked_lm
from sentiment.training.batches import EpochTracker
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking

MAX_EXPONENT = 700.0  # of a float


class Objective(ABC):
    """Model, data and metrics of an objective; texts are token ids with `special_tokens_mask` and `length`.

    `metric_names` are those of `compute_metrics` that metrics.json keeps, `loss` among them; `progress_metric` is the
    one that the progress bar shows beside it.
    """

    metric_names: ClassVar[tuple[str, ...]]
    progress_metric: ClassVar[str]

    def __init__(self, args: AdaptationArguments) -> None:
        self.args = args

    @abstractmethod
    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained BERT with the head of the objective, and whether that head is new."""

    @abstractmethod
    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> Callable[[Any], Any]:
        """The collator of training and validation batches; what is random in it depends on seed and epoch alone."""

    @abstractmethod
    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The validation texts, the same for every evaluation."""

    @abstractmethod
    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The validation metrics, `loss` among them."""

    @abstractmethod
    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Examples for the report, from held-out texts."""

    @abstractmethod
    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The model's answer to each example."""


class MaskedLanguageModeling(Objective):
    """BERT's own objective: dynamic masks for training, static ones for validation."""

    metric_names = ("loss", "perplexity", "accuracy", "masked_tokens")
    progress_metric = "perplexity"

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained BERT with a masked-language-model head."""
        return load_masked_lm(model_path, preprocessing, revision)

    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> SeededMaskingCollator:
        """A collator that masks anew in each epoch."""
        return SeededMaskingCollator(tokenizer, self.args.mlm_probability, self.args.seed, tracker)

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The texts with static masks; raises InputError if no token is masked."""
        masked = apply_static_masking(texts, tokenizer, self.args.mlm_probability, self.args.seed)
        require(
            any(label != IGNORE_INDEX for labels in masked["labels"] for label in labels),
            "no token of the validation texts is masked: pass more or longer reviews",
        )
        return masked

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss (nats per masked token), perplexity, and accuracy at masked tokens, from the sums of each row.

        The Trainer's own loss is a mean over batches, in which a masked token of a short batch has more weight.
        """
        losses, correct, masked = (np.asarray(values, dtype=np.float64).sum() for values in prediction.predictions)
        loss = float(losses / masked)
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, MAX_EXPONENT)),
            "accuracy": float(correct / masked),
            "masked_tokens": int(masked),
        }

    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Texts in which one word is masked: `text` and `word`."""
        return list(mask_words(texts, tokenizer, seed=self.args.seed))

    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The most probable words for each mask."""
        return fill_masks(model, tokenizer, [example["text"] for example in examples])


OBJECTIVES: dict[str, type[Objective]] = {"mlm": MaskedLanguageModeling}
