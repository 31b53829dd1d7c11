"""BERT's operations made faster on a CPU; on other devices they are torch's own."""

import os
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, BertConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.bert.modeling_bert import BertAttention, BertLayer

FAST_DROPOUT_SDPA = "fast_dropout_sdpa"  # what transformers knows the attention of this module by
LEVELS = 1 << 15  # a mask's probability is a multiple of 1 / LEVELS
CHUNK_ELEMENTS = 1 << 19  # scores at a time, 2 MiB of fp32: what a core's cache holds


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


class ChunkedCrossEntropy(torch.autograd.Function):
    """The summed cross-entropy of rows of scores, computed a few rows at a time, and its gradient in the same pass.

    Torch's own keeps scores, their log-softmax and both gradients in fp32, 75 MB each for 614 tokens of BERT's
    vocabulary, and goes over memory for each. Here the fp32 numbers stay in the cache, and what remains is the
    gradient in the scores' own type: the same numbers, in a third to a half of the time on a CPU. Computing the
    gradient with the loss: Hsu et al. 2024 (Liger Kernel, arXiv:2410.10989), section 3.2.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, targets: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
        """The sum over rows, divided by the divisor, in fp32; scores of shape (rows, classes), targets (rows,)."""
        gradient = torch.empty_like(scores)
        loss = torch.zeros((), device=scores.device)
        rows = max(1, CHUNK_ELEMENTS // scores.shape[1])
        for part, target, out in zip(scores.split(rows), targets.split(rows), gradient.split(rows), strict=True):
            log_probabilities = part.float().log_softmax(1)
            at_target = (torch.arange(len(target), device=target.device), target)
            loss -= log_probabilities[at_target].sum()
            probabilities = log_probabilities.exp_()
            probabilities[at_target] -= 1
            out.copy_(probabilities.div_(divisor))
        ctx.save_for_backward(gradient)
        return loss / divisor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient with respect to the scores, in their type."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None


class PackedLinear(nn.Module):
    """A linear layer in bf16 whose weights lie as oneDNN reads them, with the same result.

    `nn.Linear` brings them into that order at each call, which took a quarter of the time of a batch of 8 sentences and
    a sixth of that of 32 (MiniLM, one thread). The operators are those that `torch.compile` takes when it freezes a
    model.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.bias = linear.bias
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.register_buffer("packed", packed, persistent=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self.packed, self.bias, "none", [], "none")
        return found


def pack_linears(module: nn.Module) -> None:
    """Packs the linear layers in a module."""
    for name, part in module.named_children():
        if isinstance(part, nn.Linear):
            setattr(module, name, PackedLinear(part))
        else:
            pack_linears(part)
