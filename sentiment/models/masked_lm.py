"""Masked language modelling: BERT that scores masked positions only, or another encoder; poolers are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    BertConfig,
    BertForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.generic import ModelOutput

from sentiment.exceptions import InputError
from sentiment.models.fast_bert import ChunkedCrossEntropy, is_enabled, use_fast_layers
from sentiment.models.loading import PlainCheckpointMixin, load_encoder_config, load_weights

IGNORE_INDEX = -100  # label of tokens that are not masked


@dataclass
class SparseMaskedLMOutput(ModelOutput):
    """The loss with labels, logits without, and in evaluation mode sums over the masked tokens of each row."""

    loss: torch.Tensor | None = None  # nats per masked token
    logits: torch.Tensor | None = None  # (batch, tokens, vocabulary)
    row_losses: torch.Tensor | None = None  # (batch,), as the two below
    row_correct: torch.Tensor | None = None
    row_masked: torch.Tensor | None = None


class SparseMaskedLM(PlainCheckpointMixin):
    """A mixin for transformers' `*ForMaskedLM`: keeps a pooler that the classifier uses, and has losses of rows.

    The loss of a batch is a part of its optimizer step's, as `num_items_in_batch` says.
    """

    accepts_loss_kwargs = True  # makes the Trainer pass `num_items_in_batch`

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        if getattr(self.base_model, "pooler", False) is None and uses_pooler(config):
            setattr(self, self.base_model_prefix, type(self.base_model)(config))
            self.post_init()  # ties the head to the new embeddings

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> SparseMaskedLMOutput:
        """The loss at masked positions or, without labels, the logits at all positions.

        Labels are -100 where no token is masked. `num_items_in_batch` counts the masked tokens of the optimizer step
        over all processes and micro-batches; default: of this batch.
        """
        optional = {} if token_type_ids is None else {"token_type_ids": token_type_ids}  # unknown to some encoders
        logits = super().forward(input_ids=input_ids, attention_mask=attention_mask, **optional).logits
        if labels is None:
            return SparseMaskedLMOutput(logits=logits)
        return self.compute_losses(logits[labels != IGNORE_INDEX], labels, num_items_in_batch)

    def compute_losses(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> SparseMaskedLMOutput:
        """The loss, and in evaluation mode those of rows, from the logits of masked tokens (masked, vocabulary)."""
        is_masked = labels != IGNORE_INDEX
        targets = labels[is_masked]
        # A batch of a few short texts may have no masked token: its loss is 0, not 0 / 0.
        count = torch.as_tensor(len(targets) if num_items_in_batch is None else num_items_in_batch)
        count = count.clamp(min=1).to(logits.device)
        if self.training and is_enabled() and logits.device.type == "cpu":
            return SparseMaskedLMOutput(loss=ChunkedCrossEntropy.apply(logits, targets, count))
        logits = logits.float()
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        output = SparseMaskedLMOutput(loss=losses.sum() / count)
        if not self.training:
            rows = is_masked.nonzero()[:, 0]
            zeros = losses.new_zeros(len(labels))
            output.row_losses = zeros.index_add(0, rows, losses)
            output.row_correct = zeros.index_add(0, rows, (logits.argmax(-1) == targets).float())
            output.row_masked = is_masked.sum(1)
        return output


class BertForSparseMaskedLM(SparseMaskedLM, BertForMaskedLM):
    """`BertForMaskedLM` that scores masked positions only, in less time, and keeps BERT's pooler for fine-tuning."""

    plain_class = BertForMaskedLM
    # Private: without it, the Trainer warns that its best checkpoint lacks these; tied weights are not saved.
    _keys_to_ignore_on_save = list(BertForMaskedLM._tied_weights_keys)  # noqa: RUF012

    def __init__(self, config: BertConfig):
        super().__init__(config)
        use_fast_layers(self)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> SparseMaskedLMOutput:
        """As `SparseMaskedLM.forward`."""
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        hidden_states = outputs.last_hidden_state  # (batch, tokens, hidden)
        if labels is None:
            return SparseMaskedLMOutput(logits=self.cls(hidden_states))
        return self.compute_losses(self.cls(hidden_states[labels != IGNORE_INDEX]), labels, num_items_in_batch)


def uses_pooler(config: PreTrainedConfig) -> bool:
    """Whether the classifier of this type is built on the encoder's pooler."""
    classifier_class: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    with torch.device("meta"):  # no memory, no random numbers
        classifier = classifier_class(config)
    return getattr(classifier.base_model, "pooler", None) is not None


def build_masked_lm_class(config: PreTrainedConfig) -> type[SparseMaskedLM] | None:
    """The masked language model of this type, as `build_classifier_class`; None if there is none."""
    plain_class: Any = MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None)
    if plain_class is None or plain_class is BertForMaskedLM:
        return plain_class and BertForSparseMaskedLM
    names = {"plain_class": plain_class, "_keys_to_ignore_on_save": list(plain_class._tied_weights_keys or ())}
    return type(plain_class.__name__, (SparseMaskedLM, plain_class), names)


def load_masked_lm(
    model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
) -> tuple[SparseMaskedLM, bool]:
    """The encoder of a folder or Hub id with its MLM head, and whether that head is newly initialized.

    It is for checkpoints without one, such as the discriminators of ELECTRA and DeBERTa-v3. Raises InputError for a
    type of model that has no MLM head in transformers.
    """
    config = load_encoder_config(model_path, revision, preprocessing=preprocessing or {})
    model_class = build_masked_lm_class(config)
    if model_class is None:
        raise InputError(
            f"{model_path} is a model of type {config.model_type}, which has no masked-language-model head in "
            "transformers: fine-tune it without adaptation (train_e2e.py)"
        )
    model, missing = load_weights(model_class, model_path, config, revision)
    # The loss does not depend on the pooler, and distributed training would wait for its gradient.
    if isinstance(pooler := getattr(model.base_model, "pooler", None), nn.Module):
        pooler.requires_grad_(False)
    return model, has_new_weights(model, missing)


def has_new_weights(model: PreTrainedModel, missing: Sequence[str]) -> bool:
    """Whether a matrix of the head is among the missing weights, which are newly initialized."""
    encoder = f"{model.base_model_prefix}."
    return any(name.endswith(".weight") and not name.startswith(encoder) for name in missing)
