"""The fast operations against plain torch and transformers, the switch, and the private API that they build on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer

from sentiment.models import fast_bert
from sentiment.models.classifier import load_classifier
from sentiment.models.fast_bert import (
    FAST_DROPOUT_SDPA,
    ChunkedCrossEntropy,
    FastDropout,
    FirstTokenLayer,
    PackedLinear,
    can_pack_linears,
    draw_dropout_mask,
    fast_dropout_attention,
    pack_linears,
)
from sentiment.models.masked_lm import load_masked_lm

Load = Callable[[str], PreTrainedModel]
LOADERS: tuple[Load, ...] = (load_classifier, lambda path: load_masked_lm(path)[0])
KINDS = (FastDropout, FirstTokenLayer, PackedLinear)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_zeros_and_mean(p: float) -> None:
    torch.manual_seed(0)
    mask = draw_dropout_mask(torch.Size([1001, 999]), p, torch.float32)
    deviation = (p * (1 - p) / mask.numel()) ** 0.5
    assert abs(float((mask == 0).float().mean()) - p) < 5 * deviation
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - p), rel=1e-3)]
    assert float(mask.mean()) == pytest.approx(1, abs=5 * deviation / (1 - p))


def test_neighbours_are_dropped_independently() -> None:
    """Four neighbours come from one integer."""
    torch.manual_seed(0)
    is_dropped = (draw_dropout_mask(torch.Size([250_000, 4]), 0.5, torch.float32) == 0).float()
    correlations = torch.corrcoef(is_dropped.T)
    assert float((correlations - torch.eye(4)).abs().max()) < 0.01


@pytest.mark.parametrize(("p", "value"), [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_of_nothing_and_of_everything(p: float, value: float) -> None:
    dropout = FastDropout(p).train()
    assert torch.equal(dropout(torch.ones(5)), torch.full((5,), value))


def test_masks_follow_the_state_of_torchs_generator() -> None:
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
    assert torch.equal(gradient, first.detach())  # 0 where dropped, the same factor elsewhere


def test_mask_keeps_shape_and_dtype_and_is_the_same_in_any_precision() -> None:
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        masks.append(FastDropout(0.2).train()(torch.ones(3, 5, 7, dtype=dtype)))
        assert masks[-1].dtype == dtype
    assert torch.equal(masks[0] == 0, masks[1] == 0)
    assert torch.equal(FastDropout(0.2).eval()(masks[0]), masks[0])


def test_ranks_with_one_seed_draw_different_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    for rank in ("0", "1", "0"):
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(0)
        masks.append(draw_dropout_mask(torch.Size([1000]), 0.5, torch.float32))
    assert torch.equal(masks[0], masks[2])
    assert 0.4 < float((masks[0] == masks[1]).float().mean()) < 0.6


@pytest.fixture(params=["all heads at once", "some heads at a time", "one chunk"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How attention weights are computed."""
    if request.param != "all heads at once":
        monkeypatch.setattr(fast_bert, "WHOLE_ELEMENTS", 0)
        monkeypatch.setattr(fast_bert, "CHUNK_ELEMENTS", 80 if request.param == "some heads at a time" else 1 << 40)


@pytest.mark.usefixtures("chunks")
def test_attention_in_bf16_is_near_that_in_fp32() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 8, 4, 64, 32)
    exact, _ = fast_dropout_attention(nn.Module(), 3 * query, key, value, None, dropout=1e-9)
    inputs = (part.bfloat16() for part in (3 * query, key, value))
    rounded, _ = fast_dropout_attention(nn.Module(), *inputs, None, dropout=1e-9)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded - exact).norm() / exact.norm()) < 0.02


@pytest.mark.usefixtures("chunks")
def test_attention_of_a_fully_padded_row_is_finite() -> None:
    inputs = torch.randn(3, 2, 1, 4, 8)
    mask = torch.tensor([True, False]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    output, _ = fast_dropout_attention(nn.Module(), *inputs, mask, dropout=0.1)
    assert output.isfinite().all()


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("is_padded", [False, True])
def test_attention_equals_sdpa_except_for_the_mask(is_padded: bool) -> None:
    """With a probability too small to drop anything, outputs and gradients are those without dropout."""
    torch.manual_seed(0)
    shape = (3, 4, 6, 8)  # batch, heads, tokens, head size
    inputs = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    mask = None
    if is_padded:
        mask = torch.ones(3, 1, 1, 6, dtype=torch.bool)
        mask[1:, ..., 4:] = False
        mask = mask.expand(3, 1, 6, 6)
    layer = nn.Module()
    layer.is_causal = False  # transformers' function takes a layer without it for a decoder's
    results = [fast_dropout_attention(layer, *inputs, mask, dropout=p)[0] for p in (0.0, 1e-9)]
    torch.testing.assert_close(results[1], results[0])
    weight = torch.randn(results[0].shape)
    gradients = [torch.autograd.grad((result * weight).sum(), inputs) for result in results]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("chunks")
def test_attention_drops_weights_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 2000, 2, 5, 4)
    value = torch.ones(2000, 2, 5, 4)
    output, _ = fast_dropout_attention(nn.Module(), query, key, value, None, dropout=0.25)
    assert output.shape == (2000, 5, 2, 4)
    assert float(output.mean()) == pytest.approx(1, abs=0.01)
    assert float(output.std()) > 0.1


@pytest.mark.parametrize("heads", [1, 5, 6, 100])
def test_chunks_of_heads_give_the_results_of_all_at_once(heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: the same output and gradients, bits of masks drawn in one order; keys may outnumber queries."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 4, tokens, 8, requires_grad=True) for tokens in (6, 7, 7))
    mask = torch.ones(3, 1, 6, 7, dtype=torch.bool)
    mask[1, ..., 5:] = False
    drawn: list[torch.Tensor] = []
    bits = draw_dropout_mask(torch.Size([12, 6, 7]), 0.25, torch.float32)

    def draw(shape: torch.Size, *_: Any) -> torch.Tensor:
        drawn.append(bits.view(-1, 6, 7)[len(drawn) * heads :][: shape.numel() // 42])
        return drawn[-1].view(shape).clone()

    results = []
    for whole in (1 << 40, 0):
        monkeypatch.setattr(fast_bert, "WHOLE_ELEMENTS", whole)
        monkeypatch.setattr(fast_bert, "CHUNK_ELEMENTS", heads * 42)
        monkeypatch.setattr(fast_bert, "draw_dropout_mask", draw)
        drawn.clear()
        output, _ = fast_dropout_attention(nn.Module(), query, key, value, mask, dropout=0.25)
        weight = torch.linspace(-1, 1, output.numel()).view(output.shape)
        results.append((output, *torch.autograd.grad((output * weight).sum(), (query, key, value))))
    assert len(drawn) == -(-12 // heads)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("load", LOADERS)
def test_models_use_the_fast_layers_and_checkpoints_do_not_mention_them(
    load: Load, tiny_bert_with_dropout: Path, tmp_path: Path
) -> None:
    model = load(str(tiny_bert_with_dropout))
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert dropouts
    assert all(type(module) is FastDropout for module in dropouts)
    assert model.config._attn_implementation == FAST_DROPOUT_SDPA
    model.save_pretrained(tmp_path)
    assert FAST_DROPOUT_SDPA not in (tmp_path / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("load", LOADERS)
def test_switch_gives_plain_layers_and_the_same_weights(
    load: Load, tiny_bert_with_dropout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for switch in ("1", "0"):
        monkeypatch.setenv("SENTIMENT_FAST_BERT", switch)
        torch.manual_seed(0)
        models.append(load(str(tiny_bert_with_dropout)))
    fast, plain = models
    assert any(isinstance(module, KINDS) for module in fast.modules())
    assert not any(isinstance(module, KINDS) for module in plain.modules())
    assert plain.config._attn_implementation == "sdpa"
    weights = plain.state_dict()
    assert fast.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in fast.state_dict().items())
    pack_linears(plain)
    assert not any(isinstance(module, KINDS) for module in plain.modules())


def test_switch_gives_torchs_own_mlm_loss(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_masked_lm(str(tiny_bert))[0].train()
    ids = torch.tensor([[2, 5, 3]])
    fast = model(ids, labels=ids).loss
    monkeypatch.setattr(ChunkedCrossEntropy, "apply", None)
    with pytest.raises(TypeError, match="not callable"):
        model(ids, labels=ids)
    monkeypatch.setenv("SENTIMENT_FAST_BERT", "0")
    torch.testing.assert_close(model(ids, labels=ids).loss, fast)


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize(
    ("load", "plain_class"), [(LOADERS[0], BertForSequenceClassification), (LOADERS[1], BertForMaskedLM)]
)
def test_logits_loss_and_gradients_are_those_of_plain_transformers(
    load: Load,
    plain_class: type[PreTrainedModel],
    switch: str,
    is_padded: bool,
    tiny_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENTIMENT_FAST_BERT", switch)
    torch.manual_seed(0)
    ours = load(str(tiny_bert)).train()
    ours.save_pretrained(tmp_path)
    plain = plain_class.from_pretrained(tmp_path).train()
    ids = torch.randint(5, plain.config.vocab_size, (4, 9))
    mask = torch.ones(4, 9, dtype=torch.int64)
    if is_padded:
        mask[1:, 6:] = 0
    labels = torch.tensor([0, 1, 1, 0])
    if plain_class is BertForMaskedLM:
        labels = torch.where((torch.rand(4, 9) < 0.5) & (mask == 1), ids, -100)
    torch.testing.assert_close(ours(ids, mask).logits, plain(ids, mask).logits)
    losses = [model(ids, mask, labels=labels).loss for model in (ours, plain)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    expected = dict(plain.named_parameters())
    trained = {name: parameter for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert expected.keys() == trained.keys()
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter.grad, expected[name].grad, msg=lambda text, name=name: f"{name}: {text}")


def test_other_devices_use_torchs_own_dropout(tiny_bert_with_dropout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands for a GPU."""
    model = load_classifier(str(tiny_bert_with_dropout)).train().to("meta")
    monkeypatch.setattr(fast_bert, "draw_dropout_mask", None)
    ids = torch.ones(3, 7, dtype=torch.int64, device="meta")
    loss = model(ids, labels=ids[:, 0]).loss
    loss.backward()
    assert loss.device.type == "meta"
    with pytest.raises(TypeError, match="not callable"):  # as on a CPU
        FastDropout(0.1).train()(torch.ones(3))


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunked_loss_and_gradient_are_torchs_own(
    rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_bert, "CHUNK_ELEMENTS", 2 * 11)  # two rows per chunk
    torch.manual_seed(0)
    logits = (5 * torch.randn(rows, 11)).to(dtype).requires_grad_()
    targets = torch.randint(11, (rows,))
    divisor = torch.tensor(3)
    expected = nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / divisor
    loss = ChunkedCrossEntropy.apply(logits, targets, divisor)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    # A third of the loss, as with three micro-batches per step.
    gradients = [torch.autograd.grad(value / 3, logits)[0] for value in (loss, expected)]
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(*gradients)


def test_chunked_loss_of_an_extreme_logit_is_finite() -> None:
    logits = torch.tensor([[0.0, 1000.0]], requires_grad=True)
    loss = ChunkedCrossEntropy.apply(logits, torch.tensor([0]), torch.tensor(1))
    assert loss.item() == 1000
    assert torch.autograd.grad(loss, logits)[0].tolist() == [[-1, 1]]


@torch.inference_mode()
def compare_packed_linears(dtype: torch.dtype) -> None:
    layers = nn.Sequential(nn.Linear(96, 384), nn.ModuleDict({"inner": nn.Linear(384, 2)})).to(dtype)
    inputs = [torch.randn(shape, dtype=dtype) for shape in ((1, 1, 96), (3, 17, 96), (40, 96))]
    hidden = [layers[0](states) for states in inputs]
    outputs = [layers[1]["inner"](states) for states in hidden]
    pack_linears(layers)
    assert isinstance(layers[0], PackedLinear)
    assert isinstance(layers[1]["inner"], PackedLinear)
    for states, expected, output in zip(inputs, hidden, outputs, strict=True):
        found = layers[0](states)
        tolerance = 0.0 if dtype == torch.bfloat16 else 1e-5  # in fp32, `nn.Linear` runs another library's kernel
        torch.testing.assert_close(found, expected, rtol=0.0, atol=tolerance)
        torch.testing.assert_close(layers[1]["inner"](found), output, rtol=0.0, atol=tolerance)


@pytest.mark.skipif(not can_pack_linears(), reason="this CPU does not run the operators in bf16")
def test_packed_linear_layers_are_bit_identical_in_bf16() -> None:
    compare_packed_linears(torch.bfloat16)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN")
def test_private_operators_are_those_that_packed_linear_layers_were_written_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In fp32, which every CPU has. If it fails after an upgrade of torch, adapt `PackedLinear`."""
    for name in fast_bert.PACKING_OPERATORS:
        assert hasattr(torch.ops.mkldnn, name)
    monkeypatch.setattr(fast_bert, "can_pack_linears", lambda: True)
    compare_packed_linears(torch.float32)


def test_linear_layers_stay_where_an_operator_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_bert, "PACKING_OPERATORS", ("_removed_from_torch",))
    layers = nn.Sequential(nn.Linear(4, 2))
    pack_linears(layers)
    assert type(layers[0]) is nn.Linear


def test_private_layer_is_the_one_that_the_first_token_layer_was_written_for() -> None:
    """If it fails after an upgrade of transformers, adapt `FirstTokenLayer`."""
    config = BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=16, attn_implementation="sdpa")
    layer, first = BertLayer(config, 0), FirstTokenLayer(config, 0)
    first.load_state_dict(layer.state_dict())
    states = torch.randn(2, 5, 8)
    torch.testing.assert_close(first.eval()(states), layer.eval()(states)[:, :1])
