"""Masked language modelling and contrastive learning together, over one encoder."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments
from sentiment.models.contrastive import load_joint_model
from sentiment.objectives.contrastive import ContrastiveLearning
from sentiment.objectives.masked_language_modeling import MaskedLanguageModeling, compute_masked_metrics
from sentiment.objectives.objective import Description
from sentiment.training.batches import EpochTracker
from sentiment.training.views import JointCollator

MASKED = ("perplexity", "accuracy")  # metrics of masked tokens, beside their loss


class JointLearning(ContrastiveLearning):
    """The contrastive loss plus a tenth of that of masked tokens (`--mlm_weight`): SimCSE with MLM, section 5.

    Gao et al. 2021 (arXiv:2104.08821) find that it costs similarity of sentences and helps where the encoder is used
    for classification. Masked tokens are predicted from a pass of its own, and the model keeps its head for them.
    """

    needs_mask_token = True
    options = ContrastiveLearning.options | {"mlm_probability", "mlm_weight"}

    def __init__(self, args: AdaptationArguments) -> None:
        super().__init__(args)
        self.masked = MaskedLanguageModeling(args)
        own, masked = self.description, self.masked.description
        titles = {"loss": f"InfoNCE loss + {args.mlm_weight:g} x loss of masked tokens (nats)"}
        titles |= {"contrastive_loss": own.metrics["loss"], "mlm_loss": masked.metrics["loss"]}
        titles |= {f"mlm_{name}": masked.metrics[name] for name in MASKED}
        titles |= {name: title for name, title in own.metrics.items() if name != "loss"}
        self.description = Description(
            name="masked language modelling and contrastive learning",
            loss_unit="nats",
            metrics=titles,
            main_metric="accuracy",
            formats={"mlm_perplexity": masked.formats["perplexity"]},
            metrics_note=f"{own.metrics_note} {masked.metrics_note}",
            counted="compared_texts",
            examples_title=masked.examples_title,
            examples_note=masked.examples_note,
            hub_tag=masked.hub_tag,
            hub_task=masked.hub_task,
            hub_example=masked.hub_example,
        )

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained encoder with its pooler and a masked-language-model head."""
        model, has_new_head = load_joint_model(model_path, preprocessing, revision)
        self.set_up(model, model_path)
        model.mlm_weight = self.args.mlm_weight
        return model, has_new_head

    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> Callable[[Any], Any]:
        """A collator that masks, and makes hard negatives, anew in each epoch."""
        views: Any = super().build_collator(tokenizer, tracker)
        return JointCollator(views, self.masked.build_collator(tokenizer, tracker))

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The texts of the contrastive objective with static masks too: `masked_input_ids` and `labels`."""
        views = super().build_validation(texts, tokenizer)
        plain = views.select_columns(["input_ids", "special_tokens_mask", "length"])
        masked = self.masked.build_validation(plain, tokenizer)
        columns = {"masked_input_ids": masked["input_ids"][:], "labels": masked["labels"][:]}
        for name, values in columns.items():
            views = views.add_column(name, values)
        return views

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics of both objectives, and the weighted sum of their losses."""
        losses, correct, masked, *embeddings = cast(tuple[np.ndarray, ...], prediction.predictions)
        own = self.compare_embeddings(*embeddings)
        other = compute_masked_metrics(losses, correct, masked)
        contrastive_loss = own.pop("loss")
        return {
            "loss": contrastive_loss + self.args.mlm_weight * other["loss"],
            "contrastive_loss": contrastive_loss,
            "mlm_loss": other["loss"],
            **{f"mlm_{name}": other[name] for name in MASKED},
            **own,
        }

    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Texts in which one word is masked: `text` and `word`."""
        return self.masked.choose_examples(texts, tokenizer)

    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The most probable words for each mask."""
        return self.masked.answer_examples(model, tokenizer, examples)
