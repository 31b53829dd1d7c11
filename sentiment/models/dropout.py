"""Dropout whose masks cost a CPU little, and attention that uses it."""

import os
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FAST_DROPOUT_SDPA = "fast_dropout_sdpa"  # what transformers knows the attention of this module by
LEVELS = 1 << 15  # a mask's probability is a multiple of 1 / LEVELS


class FastDropout(nn.Dropout):
    """`nn.Dropout` with masks from 15-bit random integers where the input is on a CPU.

    Torch draws a number for each element there, one at a time: 5 to 9 ns, 13% of a training step of a small model. Here
    an integer of 64 bits serves four elements. Each mask's seed comes from torch's own generator, so that whoever
    restores its state gets the same masks.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Dropout`, to the shape of the input."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return input * draw_mask(input.shape, self.p, input.dtype)


def draw_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> torch.Tensor:
    """A tensor on the CPU of zeros with probability `p`, to 1/32,768, and of what keeps the mean at 1 elsewhere."""
    dropped = round(p * LEVELS)
    if dropped == LEVELS:
        return torch.zeros(shape, dtype=dtype)
    count = shape.numel()
    # Torch's own generator takes twice the time for the same number of bits.
    # With the rank, since processes that train together have one seed, and each is to drop elements of its own.
    seed = [int(torch.randint(1 << 62, ())), int(os.environ.get("RANK", "0"))]
    bits = np.random.SFC64(seed).random_raw((count + 3) // 4).view(np.int16)[:count]
    bits &= LEVELS - 1
    np.subtract(dropped - 1, bits, out=bits)
    bits >>= 15  # the sign, everywhere: all bits are set where an element is kept, and none where it is dropped
    kept, scale = torch.from_numpy(bits), torch.tensor(LEVELS / (LEVELS - dropped), dtype=dtype)
    if dtype.itemsize == bits.itemsize:
        return kept.bitwise_and_(scale.view(torch.int16)).view(dtype).view(shape)
    return kept.to(dtype).mul_(-scale).view(shape)


def use_fast_dropout(model: PreTrainedModel) -> None:
    """Makes a `FastDropout` of each `nn.Dropout` in the model, and lets its attention drop the same way.

    The attention's name goes into the model's config, and with it to whatever model is built from that.
    """
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(FAST_DROPOUT_SDPA)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, FastDropout(child.p))


def fast_dropout_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' `sdpa`, its dropout on a CPU with the masks of `FastDropout`.

    Torch's own has no fused kernel there that knows dropout, and falls back to one that took two and a half times as
    long as this one, forward and backward.

    Args:
        module: the attention layer that asks.
        query: shape (batch, heads, queries, head size), as are `key` and `value` of shape (batch, heads, tokens, ...).
        key: what the queries are compared with.
        value: what is averaged.
        attention_mask: true for tokens, false for padding, the same for each query, shape (batch, 1, queries, tokens).
        dropout: probability of a weight to be dropped.
        scaling: of the products; one over the root of the head size where left out.
        kwargs: others of transformers, for its own form.

    Returns:
        The averages, shape (batch, queries, heads, head size), and no weights.
    """
    if dropout == 0 or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    # All in the type of the query. In bf16 that rounds scores to 3 digits, 0.4 to 1% of the averages where torch's own
    # form has 0.2%; in fp32 the scores of 128 tokens and more would take twice the time.
    with torch.autocast("cpu", enabled=False):
        scores = (query * scaling) @ key.transpose(2, 3)  # (batch, heads, queries, tokens)
        if attention_mask is not None:
            padding = ~attention_mask[:, :, :1]
            scores = scores + torch.zeros(padding.shape, dtype=scores.dtype).masked_fill_(
                padding, torch.finfo(scores.dtype).min
            )
        weights = scores.softmax(-1)
        weights = weights * draw_mask(weights.shape, dropout, weights.dtype)
        return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(FAST_DROPOUT_SDPA, fast_dropout_attention)
AttentionMaskInterface.register(FAST_DROPOUT_SDPA, sdpa_mask)
