"""BERT with its pooler kept and a masked-language-model head that scores masked positions only."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel
from transformers.utils.generic import ModelOutput

from sentiment.models.fast_bert import ChunkedCrossEntropy, is_enabled, use_fast_layers
from sentiment.models.loading import PlainCheckpointMixin, load_bert_config, load_weights

IGNORE_INDEX = -100  # label of tokens that are not masked


@dataclass
class SparseMaskedLMOutput(ModelOutput):
    """The loss with labels, logits without, and in evaluation mode sums over the masked tokens of each row."""

    loss: torch.Tensor | None = None  # nats per masked token
    logits: torch.Tensor | None = None  # (batch, tokens, vocabulary)
    row_losses: torch.Tensor | None = None  # (batch,), as the two below
    row_correct: torch.Tensor | None = None
    row_masked: torch.Tensor | None = None


class BertForSparseMaskedLM(PlainCheckpointMixin, BertForMaskedLM):
    """`BertForMaskedLM` that scores masked positions only, in less time, and keeps BERT's pooler for fine-tuning."""

    plain_class = BertForMaskedLM
    accepts_loss_kwargs = True  # makes the Trainer pass `num_items_in_batch`
    # Private: without it, the Trainer warns that its best checkpoint lacks these; tied weights are not saved.
    _keys_to_ignore_on_save = list(BertForMaskedLM._tied_weights_keys)  # noqa: RUF012

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        use_fast_layers(self)
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
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        hidden_states = outputs.last_hidden_state  # (batch, tokens, hidden)
        if labels is None:
            return SparseMaskedLMOutput(logits=self.cls(hidden_states))
        is_masked = labels != IGNORE_INDEX
        logits = self.cls(hidden_states[is_masked])  # (masked, vocabulary)
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


def load_masked_lm(
    model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
) -> tuple[BertForSparseMaskedLM, bool]:
    """The BERT of a folder or Hub id with its MLM head, and whether that head is newly initialized."""
    config = load_bert_config(model_path, revision, preprocessing=preprocessing or {})
    model, missing = load_weights(BertForSparseMaskedLM, model_path, config, revision, head="cls.")
    # The loss does not depend on the pooler, and distributed training would wait for its gradient.
    assert model.bert.pooler is not None
    model.bert.pooler.requires_grad_(False)
    return model, any(name.startswith("cls.predictions.transform.") for name in missing)
