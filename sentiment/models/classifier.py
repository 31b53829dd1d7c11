"""BERT with a linear classification head on its pooler: the model that both strategies fine-tune."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from sentiment.data.labels import LABEL_NAMES, canonical_names
from sentiment.exceptions import require
from sentiment.models.fast_bert import use_fast_layers
from sentiment.models.loading import PlainCheckpointMixin, load_bert_config, load_weights
from sentiment.models.model_folder import read_class_names

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
    model_path: str,
    dropout: float = 0.0,
    preprocessing: dict[str, Any] | None = None,
    revision: str | None = None,
    class_names: Sequence[str] = LABEL_NAMES,
) -> BertSentimentClassifier:
    """A classifier on a pretrained BERT, with `dropout` before its head.

    The head is that of the checkpoint if it is a classifier of the same classes. The head of another task, such as
    token classification, has the same name but other inputs.
    """
    config = load_bert_config(
        model_path,
        revision,
        problem_type="single_label_classification",
        classifier_dropout=dropout,
        preprocessing=preprocessing or {},
    )
    is_classifier = BertSentimentClassifier.plain_class.__name__ in (config.architectures or [])
    saved_names = canonical_names(name for _, name in sorted((config.id2label or {}).items()))
    has_head_for_classes = is_classifier and saved_names == tuple(class_names)
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}
    model, missing = load_weights(BertSentimentClassifier, model_path, config, revision, head="classifier.")
    if not has_head_for_classes and (is_classifier or "classifier.weight" not in missing):
        other = "other classes" if is_classifier else "another task"
        logger.warning("%s has the head of %s: classifier.* is newly initialized", model_path, other)
        model.classifier.weight.data.normal_(std=config.initializer_range)
        model.classifier.bias.data.zero_()
    return model


def load_trained_classifier(model_path: str, device: torch.device | str = "cpu") -> BertSentimentClassifier:
    """A fine-tuned classifier on the device, in evaluation mode; raises InputError for an untrained or other head."""
    config = load_bert_config(model_path)
    read_class_names(model_path, config.id2label or {})
    model, missing = load_weights(BertSentimentClassifier, model_path, config)
    require(
        not missing,
        f"{model_path} holds no trained classifier (no {min(missing, default='')}): train one with train_e2e.py, "
        "which writes it to <output_dir>/model",
    )
    nn.Module.to(model, device)
    return model.eval()
