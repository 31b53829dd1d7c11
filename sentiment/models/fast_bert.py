"""Faster equivalents of BERT's operations on a CPU, behind one switch: `SENTIMENT_FAST_BERT=0` runs plain torch."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, BertConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.bert.modeling_bert import BertAttention, BertLayer

from sentiment.environment import get_rank

FAST_DROPOUT_SDPA = "fast_dropout_sdpa"  # name in transformers' AttentionInterface
LEVELS = 1 << 15  # dropout probabilities are multiples of 1 / LEVELS
CHUNK_ELEMENTS = 1 << 19  # logits or attention weights per chunk: 2 MiB of fp32, the cache of one core
WHOLE_ELEMENTS = 1 << 23  # attention weights that are computed at once: more do not fit into any cache
# Private: torch has no public way to keep weights in oneDNN's layout. Without them `nn.Linear` is used.
PACKING_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")


def is_enabled() -> bool:
    """Whether to use the fast operations; read when a model is built, and for the MLM loss in each step."""
    return os.environ.get("SENTIMENT_FAST_BERT", "1") != "0"


def use_fast_layers(model: Any, first_token_only: bool = False) -> None:
    """Replace the dropout layers of a BERT, if enabled; for a head on the first token, also the last layer."""
    if not is_enabled():
        return
    if first_token_only:
        layers = model.base_model.encoder.layer
        layers[-1] = FirstTokenLayer(model.config, len(layers) - 1)
    replace_modules(model, nn.Dropout, lambda dropout: FastDropout(dropout.p))


def pack_linears(model: nn.Module) -> None:
    """Replace the linear layers of a bf16 model for inference on a CPU, if enabled and supported."""
    if is_enabled() and can_pack_linears():
        replace_modules(model, nn.Linear, PackedLinear)


def can_pack_linears() -> bool:
    """Whether this torch has the operators of `PackedLinear`, and this CPU runs them in bf16."""
    operators = torch.ops.mkldnn
    return all(hasattr(operators, name) for name in PACKING_OPERATORS) and operators._is_mkldnn_bf16_supported()


def replace_modules(model: nn.Module, module_class: type[nn.Module], build: Callable[[Any], nn.Module]) -> None:
    """Replace each submodule of exactly this class by what `build` makes of it."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is module_class:
                setattr(parent, name, build(child))


class FastDropout(nn.Dropout):
    """`nn.Dropout` with one random 64-bit integer for four elements on a CPU, seeded by torch's generator.

    Torch draws one random number per element there: 5 to 9 ns, 13% of a training step of a small model.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return input * draw_dropout_mask(input.shape, self.p, input.dtype)


def draw_dropout_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """A CPU tensor with 0 at probability `p` (rounded to 1/32,768) and 1 / (1 - p) elsewhere."""
    dropped = round(p * LEVELS)
    if dropped == LEVELS:
        return torch.zeros(shape, dtype=dtype)
    count = shape.numel()
    # The ranks of a distributed run share torch's seed but need different masks.
    seed = [int(torch.randint(1 << 62, ())), get_rank()]
    # NumPy's SFC64 takes half the time of torch's generator for the same number of bits.
    bits = np.random.SFC64(seed).random_raw((count + 3) // 4).view(np.int16)[:count]
    bits &= LEVELS - 1
    np.subtract(dropped - 1, bits, out=bits)
    bits >>= 15  # spreads the sign: all bits are 1 where an element is kept, 0 where it is dropped
    kept, scale = torch.from_numpy(bits), torch.tensor(LEVELS / (LEVELS - dropped), dtype=dtype)
    if dtype.itemsize == bits.itemsize:
        return kept.bitwise_and_(scale.view(torch.int16)).view(dtype).view(shape)
    return kept.to(dtype).mul_(-scale).view(shape)


def fast_dropout_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' `sdpa` attention, with the masks of `FastDropout` in training on a CPU.

    Torch has no fused CPU kernel with dropout; its fallback takes 2.5 times as long. From (batch, heads, tokens, size)
    to (batch, tokens, heads, size); the mask (batch, 1, queries, tokens) is equal for all queries, true for tokens.
    """
    if dropout == 0 or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    # In the dtype of the query: bf16 is off by 0.4 to 1%, torch's own implementation by 0.2%; fp32 takes twice as long.
    with torch.autocast("cpu", enabled=False):
        query, bias = query * scaling, torch.zeros((len(query), 1, 1, key.shape[2]), dtype=query.dtype)
        if attention_mask is not None:
            bias.masked_fill_(~attention_mask[:, :, :1], torch.finfo(query.dtype).min)
        if query.shape[:3].numel() * key.shape[2] > WHOLE_ELEMENTS:
            output: Tensor = ChunkedAttention.apply(query, key, value, bias, dropout)
        else:
            weights = (query @ key.transpose(2, 3) + bias).softmax(-1)  # (batch, heads, queries, tokens)
            output = weights * draw_dropout_mask(weights.shape, dropout, weights.dtype) @ value
        return output.transpose(1, 2).contiguous(), None


class ChunkedAttention(torch.autograd.Function):
    """Attention with dropout, some heads at a time, whose weights stay in a core's cache and are computed twice.

    Only the dropout masks are kept for the backward pass, a byte for each weight instead of twelve (in fp32). The
    gradient of the softmax is that of FlashAttention (Dao et al. 2022, arXiv:2205.14135). The output is that of all
    heads at once. On a CPU with AVX2, in fp32 with 12 heads, it takes 0.48 of their time for 8 texts of 512 tokens,
    0.59 for 32 of 256 and 0.68 for 128 of 128; for fewer weights than `WHOLE_ELEMENTS` it takes longer.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
        """From scaled queries, keys and values, (batch, heads, tokens, size), and the bias, (batch, 1, 1, tokens)."""
        bias = bias.expand(-1, query.shape[1], -1, -1)
        inputs = [part.flatten(0, 1) for part in (query, key, value, bias)]
        output = torch.empty_like(inputs[0])
        kept = torch.empty((*output.shape[:2], key.shape[2]), dtype=torch.bool)
        for chunk in split_heads(kept):
            own_query, own_key, own_value, own_bias = (part[chunk] for part in inputs)
            weights = compute_weights(own_query, own_key, own_bias)
            mask = draw_dropout_mask(weights.shape, dropout, weights.dtype)
            kept[chunk] = mask != 0
            torch.bmm(weights.mul_(mask), own_value, out=output[chunk])
        ctx.save_for_backward(*inputs, output, kept)
        ctx.scale, ctx.shape = LEVELS / max(1, LEVELS - round(dropout * LEVELS)), query.shape
        return output.view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        *inputs, output, kept = ctx.saved_tensors
        gradient = gradient.reshape(output.shape)
        means = (gradient * output).sum(-1, keepdim=True)  # of the weights' gradients, by the weights
        query, key, value = gradients = [torch.empty_like(part) for part in inputs[:3]]
        for chunk in split_heads(kept):
            own_query, own_key, own_value, own_bias = (part[chunk] for part in inputs)
            weights = compute_weights(own_query, own_key, own_bias)
            mask = kept[chunk].to(weights.dtype).mul_(ctx.scale)
            scores = torch.bmm(gradient[chunk], own_value.mT).mul_(mask).sub_(means[chunk]).mul_(weights)
            torch.bmm(scores, own_key, out=query[chunk])
            torch.bmm(scores.mT, own_query, out=key[chunk])
            torch.bmm(weights.mul_(mask).mT, gradient[chunk], out=value[chunk])
        return *(part.view(*ctx.shape[:2], *part.shape[1:]) for part in gradients), None, None


def split_heads(weights: Tensor) -> list[slice]:
    """Slices of the heads of attention weights, (heads, queries, tokens), with `CHUNK_ELEMENTS` or one head each."""
    size = max(1, CHUNK_ELEMENTS // weights[0].numel())
    return [slice(start, start + size) for start in range(0, len(weights), size)]


def compute_weights(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    """Attention weights, (heads, queries, tokens), before dropout."""
    scores = torch.bmm(query, key.mT).add_(bias)
    return torch.softmax(scores, -1, out=scores)


AttentionInterface.register(FAST_DROPOUT_SDPA, fast_dropout_attention)
AttentionMaskInterface.register(FAST_DROPOUT_SDPA, sdpa_mask)


class FirstTokenLayer(BertLayer):
    """A `BertLayer`, with equal parameters and gradients, whose feed-forward block runs on the first token only."""

    def __init__(self, config: BertConfig, layer_idx: int | None = None):
        super().__init__(config, layer_idx)
        # Cross-attention takes queries and keys from different tensors; its parameters have the same names.
        self.attention = BertAttention(config, layer_idx=layer_idx, is_cross_attention=True)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Map hidden states of shape (batch, tokens, hidden) to those of the first token, (batch, 1, hidden)."""
        mask = None if attention_mask is None else attention_mask[:, :, :1]  # (batch, 1, 1, tokens)
        first = hidden_states[:, :1]
        attended, _ = self.attention(first, encoder_hidden_states=hidden_states, encoder_attention_mask=mask)
        layer_output: Tensor = self.feed_forward_chunk(attended)
        return layer_output


class ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy that computes its gradient in the forward pass, a few rows at a time.

    Torch keeps logits, log-softmax and both gradients in fp32, 75 MB each for 614 tokens of BERT's vocabulary; here
    fp32 values stay in the cache, in a third to half of the time (Hsu et al. 2024, arXiv:2410.10989, section 3.2).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, divisor: Tensor) -> Tensor:
        """Sum over rows divided by `divisor`, in fp32; logits have shape (rows, classes), targets (rows,)."""
        gradient = torch.empty_like(logits)
        loss = torch.zeros((), device=logits.device)
        rows = max(1, CHUNK_ELEMENTS // logits.shape[1])
        for chunk, target, out in zip(logits.split(rows), targets.split(rows), gradient.split(rows), strict=True):
            log_probabilities = chunk.float().log_softmax(1)
            at_target = (torch.arange(len(target), device=target.device), target)
            loss -= log_probabilities[at_target].sum()
            probabilities = log_probabilities.exp_()
            probabilities[at_target] -= 1
            out.copy_(probabilities.div_(divisor))
        ctx.save_for_backward(gradient)
        return loss / divisor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """Gradient with respect to the logits, in their dtype."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None


class PackedLinear(nn.Module):
    """`nn.Linear` for inference in bf16, with weights stored in oneDNN's layout.

    `nn.Linear` converts them in each call, a quarter of the time of 8 sentences and a sixth of 32 (MiniLM, one thread).
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.bias = linear.bias
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.register_buffer("packed", packed, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer, as `nn.Linear` does."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "none")
        return output
