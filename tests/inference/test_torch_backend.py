"""The torch backend: what it does to be fast changes no answer."""

import pytest
import torch
from torch import nn

from sentiment.models.fast_bert import PackedLinear, pack_linears
from sentiment.training.hardware import has_bf16_units


@pytest.mark.skipif(not has_bf16_units(), reason="this CPU has no units for bf16")
@torch.inference_mode()
def test_packed_linear_layers_answer_as_others() -> None:
    layers = nn.Sequential(nn.Linear(96, 384), nn.ModuleDict({"inner": nn.Linear(384, 2)})).to(torch.bfloat16)
    inputs = [torch.randn(shape, dtype=torch.bfloat16) for shape in ((1, 1, 96), (3, 17, 96), (40, 96))]
    plain = [layers[0](states) for states in inputs]
    ends = [layers[1]["inner"](states) for states in plain]
    pack_linears(layers)
    assert isinstance(layers[0], PackedLinear)
    assert isinstance(layers[1]["inner"], PackedLinear)
    for states, expected, end in zip(inputs, plain, ends, strict=True):
        found = layers[0](states)
        assert torch.equal(found, expected)
        assert torch.equal(layers[1]["inner"](found), end)
