"""Dropout from integers: as many zeros as asked for, the mean kept, and masks that the seed decides."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sentiment.models.classifier import load_classifier
from sentiment.models.fast_bert import FAST_DROPOUT_SDPA, FastDropout, draw_mask, fast_dropout_attention
from sentiment.models.masked_lm import load_masked_lm


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_zeros_and_mean(p: float) -> None:
    torch.manual_seed(0)
    mask = draw_mask(torch.Size([1001, 999]), p, torch.float32)
    deviation = (p * (1 - p) / mask.numel()) ** 0.5
    assert abs(float((mask == 0).float().mean()) - p) < 5 * deviation
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - p), rel=1e-3)]
    assert float(mask.mean()) == pytest.approx(1, abs=5 * deviation / (1 - p))


def test_neighbours_are_dropped_independently() -> None:
    """Four of them come from one integer."""
    torch.manual_seed(0)
    is_dropped = (draw_mask(torch.Size([250_000, 4]), 0.5, torch.float32) == 0).float()
    correlations = torch.corrcoef(is_dropped.T)
    assert float((correlations - torch.eye(4)).abs().max()) < 0.01


@pytest.mark.parametrize(("p", "value"), [(0.0, 1.0), (1.0, 0.0)])
def test_none_and_all(p: float, value: float) -> None:
    dropout = FastDropout(p).train()
    assert torch.equal(dropout(torch.ones(5)), torch.full((5,), value))


def test_masks_follow_torchs_own_generator() -> None:
    dropout = FastDropout(0.5).train()
    inputs = torch.ones(1000, requires_grad=True)
    torch.manual_seed(3)
    first = dropout(inputs)
    state = torch.get_rng_state()
    second = dropout(inputs)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(dropout(inputs), second)
    torch.manual_seed(3)
    assert torch.equal(dropout(inputs), first)
    (gradient,) = torch.autograd.grad(first.sum(), inputs)
    assert torch.equal(gradient, first.detach())  # what was dropped gets none, the rest the same factor


def test_the_mask_keeps_shape_and_type_and_is_the_same_in_any_precision() -> None:
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        masks.append(FastDropout(0.2).train()(torch.ones(3, 5, 7, dtype=dtype)))
        assert masks[-1].dtype == dtype
    assert torch.equal(masks[0] == 0, masks[1] == 0)
    assert torch.equal(FastDropout(0.2).eval()(masks[0]), masks[0])


def test_processes_of_one_seed_drop_different_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    for rank in ("0", "1", "0"):
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(0)
        masks.append(draw_mask(torch.Size([1000]), 0.5, torch.float32))
    assert torch.equal(masks[0], masks[2])
    assert 0.4 < float((masks[0] == masks[1]).float().mean()) < 0.6


def test_attention_in_bf16_is_near_that_in_fp32() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 8, 4, 64, 32)
    exact, _ = fast_dropout_attention(nn.Module(), 3 * query, key, value, None, dropout=1e-9)
    inputs = (part.bfloat16() for part in (3 * query, key, value))
    rounded, _ = fast_dropout_attention(nn.Module(), *inputs, None, dropout=1e-9)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded - exact).norm() / exact.norm()) < 0.02


def test_a_text_without_a_token_gives_finite_numbers() -> None:
    inputs = torch.randn(3, 2, 1, 4, 8)
    mask = torch.tensor([True, False]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    averages, _ = fast_dropout_attention(nn.Module(), *inputs, mask, dropout=0.1)
    assert averages.isfinite().all()


@pytest.mark.parametrize("is_padded", [False, True])
def test_attention_is_torchs_own_but_for_the_drawing(is_padded: bool) -> None:
    """With a probability too small to drop anything, numbers and gradients are those without dropout."""
    torch.manual_seed(0)
    shape = (3, 4, 6, 8)  # texts, heads, tokens, head size
    inputs = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    mask = None
    if is_padded:
        mask = torch.ones(3, 1, 1, 6, dtype=torch.bool)
        mask[1:, ..., 4:] = False
        mask = mask.expand(3, 1, 6, 6)
    layer = nn.Module()
    layer.is_causal = False  # as transformers' own; its form would take the layer for a decoder's
    results = [fast_dropout_attention(layer, *inputs, mask, dropout=p)[0] for p in (0.0, 1e-9)]
    torch.testing.assert_close(results[1], results[0])
    weight = torch.randn(results[0].shape)
    gradients = [torch.autograd.grad((result * weight).sum(), inputs) for result in results]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_attention_drops_weights_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 2000, 2, 5, 4)
    value = torch.ones(2000, 2, 5, 4)
    averages, _ = fast_dropout_attention(nn.Module(), query, key, value, None, dropout=0.25)
    assert averages.shape == (2000, 5, 2, 4)
    assert float(averages.mean()) == pytest.approx(1, abs=0.01)
    assert float(averages.std()) > 0.1


@pytest.mark.parametrize("load", [load_classifier, lambda path: load_masked_lm(path)[0]])
def test_models_drop_with_it_and_their_checkpoints_do_not_say_so(
    load: object, tiny_bert_with_dropout: Path, tmp_path: Path
) -> None:
    model = load(str(tiny_bert_with_dropout))  # type: ignore[operator]
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert dropouts
    assert all(type(module) is FastDropout for module in dropouts)
    assert model.config._attn_implementation == FAST_DROPOUT_SDPA
    model.save_pretrained(tmp_path)
    assert FAST_DROPOUT_SDPA not in (tmp_path / "config.json").read_text(encoding="utf-8")


def test_other_devices_than_a_cpu_keep_torchs_own(
    tiny_bert_with_dropout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device without data, which stands for a GPU."""
    model = load_classifier(str(tiny_bert_with_dropout)).train().to("meta")
    monkeypatch.setattr("sentiment.models.fast_bert.draw_mask", None)
    ids = torch.ones(3, 7, dtype=torch.int64, device="meta")
    loss = model(ids, labels=ids[:, 0]).loss
    loss.backward()
    assert loss.device.type == "meta"
    with pytest.raises(TypeError, match="not callable"):  # what it would be on a CPU
        FastDropout(0.1).train()(torch.ones(3))
