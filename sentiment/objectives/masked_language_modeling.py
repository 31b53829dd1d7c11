"""Masked language modelling, the objective of BERT and most encoders."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.exceptions import require
from sentiment.inference.fill_mask import MASK, fill_masks, mask_words
from sentiment.models.masked_lm import IGNORE_INDEX, load_masked_lm
from sentiment.objectives.objective import Description, Objective
from sentiment.training.batches import EpochTracker
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking

MAX_EXPONENT = 700.0  # of a float


class MaskedLanguageModeling(Objective):
    """The objective of BERT and most encoders: dynamic masks for training, static ones for validation."""

    needs_mask_token = True
    options = frozenset({"mlm_probability"})
    description = Description(
        name="masked language modelling",
        loss_unit="nats per masked token",
        metrics={
            "loss": "loss per masked token (nats)",
            "perplexity": "perplexity",
            "accuracy": "accuracy of masked tokens",
        },
        main_metric="perplexity",
        formats={"perplexity": ",.1f"},
        metrics_note="A perplexity is that of a uniform choice among as many tokens.",
        counted="masked_tokens",
        implausible_loss=0.1,  # far below the entropy of masked text
        implausible_loss_hint="Labels must be set at masked positions only, and be the original tokens; a plausible "
        "loss for BERT-base on reviews is 1.5 to 3.",
        examples_title="Filled masks",
        examples_note="Held-out reviews with one masked token, and the most probable tokens by the model.",
        hub_tag="masked-language-model",
        hub_task="fill-mask",
        hub_example=f"a very {MASK} film",
    )

    def count_classes(self, config: PreTrainedConfig) -> int:
        """The size of the vocabulary."""
        return int(config.vocab_size)

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained encoder with a masked-language-model head."""
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
        return compute_masked_metrics(*prediction.predictions)

    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Texts in which one word is masked: `text` and `word`."""
        return list(mask_words(texts, tokenizer, seed=self.args.seed))

    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The most probable words for each mask."""
        return fill_masks(model, tokenizer, [example["text"] for example in examples])


def compute_masked_metrics(row_losses: np.ndarray, row_correct: np.ndarray, row_masked: np.ndarray) -> dict[str, float]:
    """Loss, perplexity and accuracy of masked tokens from the sums of each row, and the number of masked tokens."""
    losses, correct, masked = (
        np.asarray(values, dtype=np.float64).sum() for values in (row_losses, row_correct, row_masked)
    )
    loss = float(losses / masked)
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, MAX_EXPONENT)),
        "accuracy": float(correct / masked),
        "masked_tokens": int(masked),
    }
