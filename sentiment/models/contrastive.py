"""Encoders trained through their pooler: two views of a text, texts of one class, or views beside masked tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, BertConfig, BertModel, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from sentiment.exceptions import require
from sentiment.models.contrastive_losses import (
    compute_info_nce,
    compute_supervised_contrastive,
    gather_rows,
    get_first_row,
)
from sentiment.models.fast_bert import use_fast_layers
from sentiment.models.loading import PlainCheckpointMixin, load_encoder_config, load_weights
from sentiment.models.masked_lm import build_masked_lm_class, has_new_weights, uses_pooler

Texts = tuple[Tensor, Tensor]  # input_ids and attention_mask, each of shape (texts, tokens)
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


@dataclass
class ContrastiveOutput(ModelOutput):
    """The loss, and in evaluation mode the pooler's outputs of each row, of shape (batch, hidden)."""

    loss: Tensor | None = None
    row_losses: Tensor | None = None  # (batch,), of masked tokens, as the two below; with masked tokens alone
    row_correct: Tensor | None = None
    row_masked: Tensor | None = None
    text_keys: Tensor | None = None  # (batch,)
    anchors: Tensor | None = None
    positives: Tensor | None = None
    negatives: Tensor | None = None  # zeros where a row has none
    has_negative: Tensor | None = None  # (batch,), 0 or 1


class PooledEncoder(PlainCheckpointMixin):
    """A mixin for a model with a pooler: the pooler's outputs of texts, and losses of them.

    `temperature` divides similarities. `teacher` is a frozen encoder whose mean of tokens takes the place of the other
    view; it is no part of the model: not trained, not saved.
    """

    accepts_loss_kwargs = True  # makes the Trainer pass `num_items_in_batch`
    temperature = 0.05
    _teacher: tuple[PreTrainedModel, ...] = ()  # in a tuple, so that it is no submodule

    def set_teacher(self, teacher: PreTrainedModel) -> None:
        """Sets the frozen encoder."""
        self._teacher = (teacher.requires_grad_(False).eval(),)

    def embed(self, *views: Texts) -> list[Tensor]:
        """The pooler's output of each view's texts, shape (texts, hidden), computed in one batch."""
        width = max(input_ids.shape[1] for input_ids, _ in views)
        padding = self.config.pad_token_id or 0
        input_ids = torch.cat([pad_right(ids, width, padding) for ids, _ in views])
        attention_mask = torch.cat([pad_right(mask, width, 0) for _, mask in views])
        pooled = self.pool(input_ids, attention_mask)
        return list(pooled.split([len(ids) for ids, _ in views]))

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooler's output, shape (texts, hidden)."""
        pooled: Tensor = self.base_model(input_ids, attention_mask=attention_mask).pooler_output
        return pooled

    def compare_views(
        self, texts: Texts, keys: Tensor, positive: Texts | None, negative: Texts | None, negative_rows: Tensor | None
    ) -> ContrastiveOutput:
        """The InfoNCE loss of the texts, a part of that of all processes' rows; see `ContrastiveEncoder.forward`."""
        views = [texts]
        if not self._teacher:
            views.append(texts if positive is None else positive)
        found = self.embed(*views, *([] if negative is None else [negative]))
        anchors, positives = found[0], self.compute_targets(*texts) if self._teacher else found[1]
        negatives = has_negative = None
        if negative_rows is not None:
            has_negative = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
            negatives = torch.zeros(anchors.shape, device=anchors.device)
            if negative is not None:
                has_negative = has_negative.index_fill(0, negative_rows, 1)
                negatives = negatives.index_copy(0, negative_rows, found[-1].float())
        parts: tuple[Any, ...] = (positives.float(), keys, negatives, has_negative)
        if self.training:
            parts = tuple(None if part is None else gather_rows(part) for part in parts)
        first = get_first_row(len(anchors)) if self.training else 0
        columns, all_keys, hard, is_hard = parts
        losses = compute_info_nce(anchors, columns, all_keys, self.temperature, hard, is_hard, first)
        output = ContrastiveOutput(loss=losses.sum() / len(all_keys))
        if not self.training:
            output.text_keys, output.anchors, output.positives = keys, anchors.float(), positives.float()
            if negatives is not None:
                output.negatives, output.has_negative = negatives, has_negative
        return output

    @torch.no_grad()
    def compute_targets(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean of the frozen encoder's tokens, shape (texts, hidden)."""
        (teacher,) = self._teacher
        hidden = teacher(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean


class ContrastiveEncoder(PooledEncoder):
    """An encoder trained so that two views of a text have similar pooler outputs: SimCSE (arXiv:2104.08821)."""

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooler's output, shape (texts, hidden)."""
        pooled: Tensor = super(PooledEncoder, self).forward(input_ids, attention_mask=attention_mask).pooler_output
        return pooled

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        positive_input_ids: Tensor | None = None,
        positive_attention_mask: Tensor | None = None,
        negative_input_ids: Tensor | None = None,
        negative_attention_mask: Tensor | None = None,
        negative_rows: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 - the rows are counted where they are gathered
    ) -> ContrastiveOutput:
        """The InfoNCE loss over the rows of all processes, and in evaluation mode the embeddings.

        Args:
            input_ids: shape (texts, tokens).
            attention_mask: of the same shape.
            labels: keys of the texts, shape (texts,): those with equal keys are no negatives of each other.
            positive_input_ids: another view of each text; default: the same tokens, with dropout of their own.
            positive_attention_mask: of the same shape.
            negative_input_ids: hard negatives of some texts, shape (negatives, tokens).
            negative_attention_mask: of the same shape.
            negative_rows: the text that each hard negative belongs to, shape (negatives,); empty where a batch has
                none, None where there are never any.
            num_items_in_batch: texts of the step.
        """
        positive = pair(positive_input_ids, positive_attention_mask)
        negative = pair(negative_input_ids, negative_attention_mask)
        return self.compare_views((input_ids, attention_mask), labels, positive, negative, negative_rows)


class SupervisedContrastiveEncoder(ContrastiveEncoder):
    """An encoder trained so that texts of one class have similar pooler outputs: SupCon (arXiv:2004.11362)."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        text_keys: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002
    ) -> ContrastiveOutput:
        """The supervised contrastive loss over the rows of all processes, and in evaluation mode the embeddings.

        `labels` are classes, shape (texts,); `text_keys` identify them in the output.
        """
        (anchors,) = self.embed((input_ids, attention_mask))
        anchors = anchors.float()
        rows, all_labels = (gather_rows(part) if self.training else part for part in (anchors, labels))
        first = get_first_row(len(anchors)) if self.training else 0
        losses = compute_supervised_contrastive(anchors, rows, all_labels, self.temperature, first)
        output = ContrastiveOutput(loss=losses.sum() / len(all_labels))
        if not self.training:
            output.text_keys, output.anchors = text_keys, anchors
        return output


class JointModel(PooledEncoder):
    """A mixin for a masked language model: the contrastive loss plus `mlm_weight` times that of masked tokens.

    SimCSE, section 5 and appendix F: in transfer tasks, the weight 0.1 helps.
    """

    mlm_weight = 0.1

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        anchor_input_ids: Tensor | None = None,
        text_keys: Tensor | None = None,
        positive_input_ids: Tensor | None = None,
        positive_attention_mask: Tensor | None = None,
        negative_input_ids: Tensor | None = None,
        negative_attention_mask: Tensor | None = None,
        negative_rows: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The sum of both losses, or without `labels` the logits of all tokens.

        `input_ids` are masked, and `labels` those of masked tokens; `anchor_input_ids` are the same texts without
        masks, `text_keys` theirs, and the rest is as in `ContrastiveEncoder.forward`.
        """
        masked = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            labels=labels,
            num_items_in_batch=num_items_in_batch,
        )
        if labels is None:
            return masked
        assert anchor_input_ids is not None
        assert attention_mask is not None
        assert text_keys is not None
        positive = pair(positive_input_ids, positive_attention_mask)
        negative = pair(negative_input_ids, negative_attention_mask)
        output = self.compare_views((anchor_input_ids, attention_mask), text_keys, positive, negative, negative_rows)
        parts = ("row_losses", "row_correct", "row_masked")
        sums = {name: masked[name] for name in parts if masked.get(name) is not None}
        others = {name: value for name, value in output.items() if name != "loss"}
        return ContrastiveOutput(loss=output.loss + self.mlm_weight * masked.loss, **sums, **others)


def pad_right(values: Tensor, width: int, padding: int) -> Tensor:
    """The rows filled up to a width."""
    return nn.functional.pad(values, (0, width - values.shape[1]), value=padding)


def pair(input_ids: Tensor | None, attention_mask: Tensor | None) -> Texts | None:
    """Both, or None if there is none."""
    return None if input_ids is None or attention_mask is None else (input_ids, attention_mask)


def has_dropout(config: PreTrainedConfig) -> bool:
    """Whether two passes of a text through an encoder of this config differ in training."""
    return any(getattr(config, name, 0) for name in DROPOUTS)


def build_encoder_class(config: PreTrainedConfig, mixin: type[PooledEncoder]) -> type[PooledEncoder]:
    """Transformers' own encoder of this type with the mixin, and the faster one for BERT."""
    plain_class: Any = MODEL_MAPPING[type(config)]
    names: dict[str, Any] = {"plain_class": plain_class}
    if plain_class is BertModel:

        def initialize(self: Any, config: BertConfig) -> None:
            plain_class.__init__(self, config)
            use_fast_layers(self, first_token_only=True)
            self.post_init()

        names["__init__"] = initialize
    return type(plain_class.__name__, (mixin, plain_class), names)


def load_contrastive_encoder(
    model_path: str,
    mixin: type[PooledEncoder] = ContrastiveEncoder,
    preprocessing: dict[str, Any] | None = None,
    revision: str | None = None,
) -> PooledEncoder:
    """The encoder of a folder or Hub id with its pooler; raises InputError for a type whose classifier has none."""
    config = load_config_with_pooler(model_path, preprocessing, revision)
    model, _ = load_weights(build_encoder_class(config, mixin), model_path, config, revision)
    return model


def load_joint_model(
    model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
) -> tuple[JointModel, bool]:
    """The masked language model of a folder or Hub id, its pooler to be trained too; whether its head is new.

    Raises InputError for a type of model that has no pooler or no such head.
    """
    config = load_config_with_pooler(model_path, preprocessing, revision)
    masked_class: Any = build_masked_lm_class(config)
    require(masked_class is not None, f"{model_path}: type {config.model_type} has no masked-language-model head")
    model_class: type[JointModel] = type(masked_class.__name__, (JointModel, masked_class), {})
    model, missing = load_weights(model_class, model_path, config, revision)
    return model, has_new_weights(model, missing)


def load_config_with_pooler(
    model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
) -> PreTrainedConfig:
    """The config of an encoder; raises InputError for a type whose classifier is not built on the pooler."""
    config = load_encoder_config(model_path, revision, preprocessing=preprocessing or {})
    require(
        uses_pooler(config),
        f"{model_path}: the classifier of type {config.model_type} has no pooler, which contrastive objectives train: "
        "pass --objective mlm, or a BERT or ALBERT with --model",
    )
    return config
