"""BERT's last layer for those who read its first token alone."""

from typing import Any

import torch
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention, BertLayer


class FirstTokenLayer(nn.Module):
    """The last layer, computed for the first token alone: the pooler reads no other.

    The token attends to all of them as before; the feed-forward part, the larger one, runs on one token a text. The
    layer that it is made of is taken over, and cannot be used by itself any more.
    """

    def __init__(self, layer: BertLayer, config: BertConfig):
        super().__init__()
        # The same weights by the same names; it takes the tokens that ask apart from those that are looked at.
        self.attention = BertAttention(config, is_cross_attention=True)
        self.attention.load_state_dict(layer.attention.state_dict())
        del layer.attention
        self.layer = layer

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """States of the first token from those of all, shape (texts, tokens, width) to (texts, 1, width)."""
        attended, _weights = self.attention(
            hidden_states[:, :1],
            encoder_hidden_states=hidden_states,
            # Of shape (texts, 1, 1, tokens); None where there is no padding.
            encoder_attention_mask=None if attention_mask is None else attention_mask[:, :, :1],
        )
        states: torch.Tensor = self.layer.feed_forward_chunk(attended)
        return states
