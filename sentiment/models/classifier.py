"""What both strategies fine-tune: BERT, its pooler and a linear head, or another encoder with a head of its type."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from sentiment.data.labels import LABEL_NAMES, canonical_names
from sentiment.exceptions import require
from sentiment.models.fast_bert import use_fast_layers
from sentiment.models.loading import PlainCheckpointMixin, load_encoder_config, load_weights
from sentiment.models.model_folder import check_task, read_class_names

logger = logging.getLogger(__name__)

# What configs call the dropout of a classification head.
HEAD_DROPOUTS = ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "cls_dropout")


class SentimentClassifier(PlainCheckpointMixin):
    """A mixin for transformers' `*ForSequenceClassification`: the loss of a batch as a part of its optimizer step's."""

    accepts_loss_kwargs = True  # makes the Trainer pass `num_items_in_batch`, which transformers' own losses ignore

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> SequenceClassifierOutput:
        """Logits and, with labels, the summed cross-entropy over `num_items_in_batch` (default: its own rows)."""
        optional = {} if token_type_ids is None else {"token_type_ids": token_type_ids}  # unknown to some encoders
        logits = super().forward(input_ids=input_ids, attention_mask=attention_mask, **optional).logits
        loss = None
        if labels is not None:
            # Over the rows of all processes and micro-batches: a mean of their own means would weight rows unequally.
            loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
            loss = loss / (labels.shape[0] if num_items_in_batch is None else num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # logits: (batch, num_labels)


class BertSentimentClassifier(SentimentClassifier, BertForSequenceClassification):
    """`BertForSequenceClassification`, as which it is saved, with equal logits and gradients in less time."""

    plain_class = BertForSequenceClassification

    def __init__(self, config: BertConfig):
        super().__init__(config)
        use_fast_layers(self, first_token_only=True)
        self.post_init()


def build_classifier_class(config: PreTrainedConfig) -> type[SentimentClassifier]:
    """The classifier of this type: transformers' own with the mixin, and the faster one for BERT."""
    plain_class: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    if plain_class is BertForSequenceClassification:
        return BertSentimentClassifier
    return type(plain_class.__name__, (SentimentClassifier, plain_class), {"plain_class": plain_class})


def load_classifier(
    model_path: str,
    dropout: float = 0.0,
    preprocessing: dict[str, Any] | None = None,
    revision: str | None = None,
    class_names: Sequence[str] = LABEL_NAMES,
) -> SentimentClassifier:
    """A classifier on a pretrained encoder, with `dropout` before its head.

    The head is that of the checkpoint if it is a classifier of the same classes. The head of another task, such as
    token classification, has the same name but other inputs.
    """
    changes = {"problem_type": "single_label_classification", "preprocessing": preprocessing or {}, "calibration": {}}
    config = load_encoder_config(model_path, revision, **changes)
    model_class = build_classifier_class(config)
    is_classifier = model_class.plain_class.__name__ in (config.architectures or [])
    saved_names = canonical_names(name for _, name in sorted((config.id2label or {}).items()))
    has_head_for_classes = is_classifier and saved_names == canonical_names(class_names)
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}
    for name in HEAD_DROPOUTS:
        if hasattr(config, name) or (name, config.model_type[:7]) == ("cls_dropout", "deberta"):  # it has no default
            setattr(config, name, dropout)
    model, missing = load_weights(model_class, model_path, config, revision)
    name, output_layer = find_output_layer(model)
    if not has_head_for_classes and (is_classifier or f"{name}.weight" not in missing):
        other = "other classes" if is_classifier else "another task"
        logger.warning("%s has the head of %s: %s.* is newly initialized", model_path, other, name)
        output_layer.weight.data.normal_(std=config.initializer_range)
        output_layer.bias.data.zero_()
    return model


def find_output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """The layer that gives the logits, the last linear one outside the encoder, and its name."""
    encoder = {*model.base_model.modules()}
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return [(name, module) for name, module in linears.items() if module not in encoder][-1]


def load_trained_classifier(model_path: str, device: torch.device | str = "cpu") -> SentimentClassifier:
    """A fine-tuned classifier on the device, in evaluation mode; raises InputError for an untrained or other head."""
    config = load_encoder_config(model_path)
    check_task(model_path, config.to_dict())
    read_class_names(model_path, config.id2label or {})
    model, missing = load_weights(build_classifier_class(config), model_path, config, is_trained=True)
    require(
        not missing,
        f"{model_path} holds no trained classifier (no {min(missing, default='')}): train one with train_e2e.py, "
        "which writes it to <output_dir>/model",
    )
    nn.Module.to(model, device)
    return model.eval()
