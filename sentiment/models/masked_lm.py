"""BERT with its pooler kept and a masked-language-model head that works on masked positions only."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, BertPreTrainedModel
from transformers.models.bert.modeling_bert import BertOnlyMLMHead
from transformers.utils.generic import ModelOutput

from sentiment.models.fast_bert import ChunkedCrossEntropy, use_fast_dropout
from sentiment.models.loading import load_bert_config, load_weights, warn_about_new_weights

IGNORED = -100  # the label of a token that is not to be predicted


@dataclass
class MaskedTokensOutput(ModelOutput):
    """What `BertForSparseMaskedLM` gives; a field that does not apply is None.

    Attributes:
        loss: mean cross-entropy in nats over the masked tokens, with labels.
        logits: scores of the vocabulary at every position, shape (batch, tokens, vocabulary), without labels.
        row_losses: summed cross-entropy of each row's masked tokens, shape (batch,), with labels outside of training.
        row_correct: how many of them are predicted right, shape (batch,).
        row_masked: how many there are, shape (batch,).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    row_losses: torch.Tensor | None = None
    row_correct: torch.Tensor | None = None
    row_masked: torch.Tensor | None = None


class BertForSparseMaskedLM(BertPreTrainedModel):
    """`BertModel` with its pooler, and BERT's own masked-language-model head, tied to the word embeddings.

    `BertForMaskedLM` is built without the pooler, which the head of a later fine-tuning needs, and scores the whole
    vocabulary at every position; here, with labels, only masked positions are scored, at equal loss and gradients.
    The pooler takes no part in the loss and stays as it was. Parameters are named as in `BertForMaskedLM`, and
    checkpoints say that they are one.
    """

    _tied_weights_keys = {  # noqa: RUF012 - transformers' own way to declare it
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    # Not in checkpoints, and no reason for a warning when one is read back.
    _keys_to_ignore_on_save = list(_tied_weights_keys)  # noqa: RUF012
    # Trainer keeps its count of masked tokens to itself unless `forward` takes any keyword, or the class says this.
    accepts_loss_kwargs = True

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertOnlyMLMHead(config)
        use_fast_dropout(self)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The layer whose weight is tied to the word embeddings."""
        return self.cls.predictions.decoder

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> MaskedTokensOutput:
        """The loss at masked positions or, without labels, the scores at all of them.

        Args:
            input_ids: token ids, shape (batch, tokens).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, tokens).
            token_type_ids: all 0 where left out, shape (batch, tokens).
            labels: the true ids of masked tokens and -100 elsewhere, shape (batch, tokens).
            num_items_in_batch: what the summed loss is divided by: the masked tokens of the whole step, over all
                processes and accumulated batches, as the Trainer counts them. Those of this call where left out.
        """
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        hidden = outputs.last_hidden_state  # (batch, tokens, hidden)
        if labels is None:
            return MaskedTokensOutput(logits=self.cls(hidden))
        is_masked = labels != IGNORED
        scores = self.cls(hidden[is_masked])  # (masked, vocabulary)
        targets = labels[is_masked]
        # A batch of a few short texts may have no masked token at all: its loss is 0, not 0 / 0.
        count = torch.as_tensor(len(targets) if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
        count = count.to(scores.device)
        if self.training and scores.device.type == "cpu":
            return MaskedTokensOutput(loss=ChunkedCrossEntropy.apply(scores, targets, count))
        scores = scores.float()
        losses = nn.functional.cross_entropy(scores, targets, reduction="none")
        output = MaskedTokensOutput(loss=losses.sum() / count)
        if not self.training:
            row_of = is_masked.nonzero()[:, 0]
            zeros = losses.new_zeros(len(labels))
            output.row_losses = zeros.index_add(0, row_of, losses)
            output.row_correct = zeros.index_add(0, row_of, (scores.argmax(-1) == targets).float())
            output.row_masked = is_masked.sum(1)
        return output

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Writes the checkpoint as one of `BertForMaskedLM`, see the class."""
        super().save_pretrained(save_directory, *args, **kwargs)
        self.config.architectures = [BertForMaskedLM.__name__]
        self.config.save_pretrained(save_directory)


def load_masked_lm(model_path: str, preprocessing: dict[str, Any] | None = None) -> tuple[BertForSparseMaskedLM, bool]:
    """The pretrained BERT in `model_path` with its head for masked tokens, and whether that head is fresh.

    Args:
        model_path: a folder or a Hub id.
        preprocessing: how texts are made ready for this model (`cleaning`, `max_seq_length`); kept in its config.

    Raises:
        InputError: no BERT is there, or its files are damaged.
    """
    config = load_bert_config(model_path)
    config.preprocessing = preprocessing or {}
    model, info = load_weights(BertForSparseMaskedLM, model_path, config)
    warn_about_new_weights(model_path, info["missing_keys"], "cls.")
    # The loss does not reach the pooler, and processes that train together would wait for its gradient.
    assert model.bert.pooler is not None
    model.bert.pooler.requires_grad_(False)
    return model, any(name.startswith("cls.predictions.transform.") for name in info["missing_keys"])
