"""BERT with a linear head on its pooler: the classifier that both strategies train."""

import logging
import os
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from sentiment.data.labels import LABEL_NAMES
from sentiment.exceptions import InputError
from sentiment.models.fast_bert import FirstTokenLayer, use_fast_dropout
from sentiment.models.loading import load_bert_config, load_weights, warn_about_new_weights

logger = logging.getLogger(__name__)


class BertSentimentClassifier(BertPreTrainedModel):
    """`BertModel`, its pooler output, dropout (off by default) and one linear layer to the labels.

    Parameters are named as in transformers' `BertForSequenceClassification`, and checkpoints say that they are one, so
    that they load in plain transformers without this package. Logits and gradients are the same, in less time: the last
    layer computes the first token alone (`FirstTokenLayer`), and dropout on a CPU draws faster (`FastDropout`).
    """

    # Trainer keeps its count of rows to itself unless `forward` takes any keyword, or the class says this.
    accepts_loss_kwargs = True

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.num_labels = len(LABEL_NAMES)
        self.bert = BertModel(config)
        self.bert.encoder.layer[-1] = FirstTokenLayer(config, config.num_hidden_layers - 1)
        self.dropout = nn.Dropout(config.classifier_dropout or 0.0)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        use_fast_dropout(self)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> SequenceClassifierOutput:
        """Logits and, with labels, the mean cross-entropy.

        Args:
            input_ids: token ids, shape (batch, tokens).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, tokens).
            token_type_ids: all 0 where left out, shape (batch, tokens).
            labels: 0 negative or 1 positive, shape (batch,).
            num_items_in_batch: what the summed loss is divided by: the rows of the whole step, over all processes
                and accumulated batches, as the Trainer counts them. The rows of this call where left out.
        """
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        logits = self.classifier(self.dropout(outputs.pooler_output))  # (batch, num_labels)
        loss = None
        if labels is not None:
            # Summed and divided by the Trainer's count: a mean of each process's own mean would weigh rows unequally.
            loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
            loss = loss / (labels.shape[0] if num_items_in_batch is None else num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Writes the checkpoint as one of `BertForSequenceClassification`, see the class."""
        super().save_pretrained(save_directory, *args, **kwargs)
        self.config.architectures = [BertForSequenceClassification.__name__]
        self.config.save_pretrained(save_directory)


def load_classifier(
    model_path: str, dropout: float = 0.0, preprocessing: dict[str, Any] | None = None
) -> BertSentimentClassifier:
    """A classifier on the pretrained BERT in `model_path`, its head fresh unless the checkpoint brings one.

    Args:
        model_path: a folder or a Hub id.
        dropout: between the pooler and the linear layer.
        preprocessing: how texts are made ready for this model (`cleaning`, `max_seq_length`); kept in its config, from
            where `load_trained_classifier`'s callers read it back.

    Raises:
        InputError: no BERT is there, or its files are damaged.
    """
    config = load_bert_config(model_path)
    config.num_labels = len(LABEL_NAMES)
    config.id2label = dict(enumerate(LABEL_NAMES))
    config.label2id = {name: index for index, name in enumerate(LABEL_NAMES)}
    config.problem_type = "single_label_classification"
    config.classifier_dropout = dropout
    config.preprocessing = preprocessing or {}
    model, info = load_weights(BertSentimentClassifier, model_path, config)
    warn_about_new_weights(model_path, info["missing_keys"], "classifier.")
    return model


def load_trained_classifier(model_path: str, device: torch.device | str = "cpu") -> BertSentimentClassifier:
    """A fine-tuned classifier of two labels on the device, ready to evaluate.

    Raises:
        InputError: no such checkpoint, damaged files, or a model without a trained head.
    """
    config = load_bert_config(model_path)
    if config.num_labels != len(LABEL_NAMES):
        raise InputError(f"{model_path} has {config.num_labels} labels: a sentiment classifier has 2")
    id2label: Any = config.id2label
    names = tuple(str(id2label[index]).lower() for index in range(len(LABEL_NAMES)))
    if names not in (LABEL_NAMES, ("label_0", "label_1")):
        raise InputError(
            f"{model_path} calls its labels {names[0]} and {names[1]}: label 0 must be negative, 1 positive"
        )
    model, info = load_weights(BertSentimentClassifier, model_path, config)
    if info["missing_keys"]:
        raise InputError(
            f"{model_path} holds no trained classifier (no {min(info['missing_keys'])}): "
            "train one with train_e2e.py, which writes it to <output_dir>/model"
        )
    nn.Module.to(model, device)
    return model.eval()
