"""BERT with a linear classification head on its pooler: the model that both strategies fine-tune."""

import logging
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from sentiment.data.labels import LABEL_NAMES
from sentiment.exceptions import require
from sentiment.models.fast_bert import use_fast_layers
from sentiment.models.loading import PlainCheckpointMixin, load_bert_config, load_weights
from sentiment.models.model_folder import check_labels

logger = logging.getLogger(__name__)


class BertSentimentClassifier(PlainCheckpointMixin, BertForSequenceClassification):
    """`BertForSequenceClassification`, as which it is saved, with equal logits and gradients in less time."""

    plain_class = BertForSequenceClassification
    accepts_loss_kwargs = True  # makes the Trainer pass `num_items_in_batch`

    def __init__(self, config: BertConfig):
        super().__init__(config)
        use_fast_layers(self, first_token_only=True)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> SequenceClassifierOutput:
        """Logits and, with labels, the summed cross-entropy over `num_items_in_batch` (default: its own rows)."""
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        logits = self.classifier(self.dropout(outputs.pooler_output))  # (batch, num_labels)
        loss = None
        if labels is not None:
            # Over the rows of all processes and micro-batches: a mean of their own means would weight rows unequally.
            loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
            loss = loss / (labels.shape[0] if num_items_in_batch is None else num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def load_classifier(
    model_path: str, dropout: float = 0.0, preprocessing: dict[str, Any] | None = None, revision: str | None = None
) -> BertSentimentClassifier:
    """A classifier on a pretrained BERT, with `dropout` before its head, which is new unless the checkpoint has one.

    The head of another task, such as token classification, is not used: it has the same name but other inputs.
    """
    config = load_bert_config(
        model_path,
        revision,
        id2label=dict(enumerate(LABEL_NAMES)),
        label2id={name: index for index, name in enumerate(LABEL_NAMES)},
        problem_type="single_label_classification",
        classifier_dropout=dropout,
        preprocessing=preprocessing or {},
    )
    is_classifier = BertSentimentClassifier.plain_class.__name__ in (config.architectures or [])
    model, missing = load_weights(BertSentimentClassifier, model_path, config, revision, head="classifier.")
    if not is_classifier and "classifier.weight" not in missing:
        logger.warning("%s has the head of another task: classifier.* is newly initialized", model_path)
        model.classifier.weight.data.normal_(std=config.initializer_range)
        model.classifier.bias.data.zero_()
    return model


def load_trained_classifier(model_path: str, device: torch.device | str = "cpu") -> BertSentimentClassifier:
    """A fine-tuned classifier on the device, in evaluation mode; raises InputError for an untrained or other head."""
    config = load_bert_config(model_path)
    check_labels(model_path, config.id2label or {})
    model, missing = load_weights(BertSentimentClassifier, model_path, config)
    require(
        not missing,
        f"{model_path} holds no trained classifier (no {min(missing, default='')}): train one with train_e2e.py, "
        "which writes it to <output_dir>/model",
    )
    nn.Module.to(model, device)
    return model.eval()
