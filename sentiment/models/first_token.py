"""BERT's last layer for those who read its first token alone."""

from typing import Any

import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention, BertLayer


class FirstTokenLayer(BertLayer):
    """A `BertLayer` that gives the state of the first token alone: the pooler reads no other.

    The token attends to all of them as before; the feed-forward part, the larger one, runs on one token a text, forward
    and backward. Parameters have the names of a `BertLayer`, and the same gradients.
    """

    def __init__(self, config: BertConfig, layer_idx: int | None = None):
        super().__init__(config, layer_idx)
        # It takes the tokens that ask apart from those that are looked at.
        self.attention = BertAttention(config, layer_idx=layer_idx, is_cross_attention=True)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """States of the first token from those of all, shape (texts, tokens, width) to (texts, 1, width)."""
        attended, _weights = self.attention(
            hidden_states[:, :1],
            encoder_hidden_states=hidden_states,
            # Of shape (texts, 1, 1, tokens); None where there is no padding.
            encoder_attention_mask=None if attention_mask is None else attention_mask[:, :, :1],
        )
        states: torch.Tensor = self.feed_forward_chunk(attended)
        return states
