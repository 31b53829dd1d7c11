"""Parameter groups: each parameter once, rates that fall towards the embeddings, an order that a resume can rely on."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig

from sentiment.models.classifier import BertSentimentClassifier
from sentiment.training.optimization import build_parameter_groups

DEPTHS = [2, 6, 12]


def build_model(num_layers: int, seed: int = 0) -> BertSentimentClassifier:
    torch.manual_seed(seed)
    return BertSentimentClassifier(
        BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=num_layers,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def build_optimizer(
    model: BertSentimentClassifier, lr: float, head_lr: float | None = None, layer_decay: float = 1.0
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(build_parameter_groups(model, lr, head_lr, layer_decay, 0.05), fused=True)


def rate_of_parameters(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: rates[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in rates}


def in_order(rates: dict[str, float], num_layers: int) -> list[float]:
    """One rate for each place from the head down to the embeddings; a place with two rates fails."""
    places = ["classifier.", "bert.pooler."]
    places += [f"bert.encoder.layer.{layer}." for layer in reversed(range(num_layers))]
    places += ["bert.embeddings."]
    found = []
    for place in places:
        (rate,) = {rate for name, rate in rates.items() if name.startswith(place)}
        found.append(rate)
    return found


@pytest.mark.parametrize("num_layers", DEPTHS)
@pytest.mark.parametrize("layer_decay", [1.0, 0.9])
def test_every_trainable_parameter_is_in_exactly_one_group(num_layers: int, layer_decay: float) -> None:
    model = build_model(num_layers)
    groups = build_parameter_groups(model, 1e-3, 2e-3, layer_decay, 0.01)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize("num_layers", DEPTHS)
def test_rates_fall_from_the_head_to_the_embeddings(num_layers: int) -> None:
    model = build_model(num_layers)
    groups = build_parameter_groups(model, 1e-3, 2e-3, 0.9, 0.01)
    rates = in_order(rate_of_parameters(model, groups), num_layers)
    assert len(rates) == num_layers + 3
    assert all(upper > lower for upper, lower in itertools.pairwise(rates)), rates
    expected = [2e-3, 1e-3] + [1e-3 * 0.9**depth for depth in range(1, num_layers + 2)]
    assert rates == pytest.approx(expected)
    # The groups themselves stand in this order, so that a log of rates reads from the top.
    in_groups = [group["lr"] for group in groups]
    assert in_groups == sorted(in_groups, reverse=True)


@pytest.mark.parametrize("head_lr", [None, 5e-4])
def test_without_decay_all_of_bert_has_one_rate(head_lr: float | None) -> None:
    model = build_model(2)
    rates = rate_of_parameters(model, build_parameter_groups(model, 1e-3, head_lr, 1.0, 0.01))
    for name, rate in rates.items():
        assert rate == (head_lr if head_lr and name.startswith("classifier.") else 1e-3)


def test_frozen_parameters_are_in_no_group() -> None:
    model = build_model(2)
    model.bert.embeddings.requires_grad_(False)
    rates = rate_of_parameters(model, build_parameter_groups(model, 1e-3, None, 0.9, 0.01))
    assert set(rates) == {name for name, _ in model.named_parameters() if ".embeddings." not in name}


def test_weight_decay_falls_on_matrices_only() -> None:
    model = build_model(2)
    optimizer = build_optimizer(model, lr=1e-3, layer_decay=0.9)
    decay = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        spared = name.endswith(".bias") or "LayerNorm" in name
        assert decay[id(parameter)] == (0.0 if spared else 0.05), name


def test_rates_of_single_parameters() -> None:
    model = build_model(12)
    rates = rate_of_parameters(model, build_parameter_groups(model, 1.0, 1.0, 0.5, 0.01))
    expected = {
        "classifier.weight": 1.0,
        "bert.pooler.dense.bias": 1.0,
        "bert.encoder.layer.11.output.LayerNorm.weight": 0.5,
        "bert.encoder.layer.10.attention.self.query.weight": 0.25,
        "bert.encoder.layer.1.output.dense.bias": 0.5**11,
        "bert.encoder.layer.0.attention.self.query.weight": 0.5**12,
        "bert.embeddings.word_embeddings.weight": 0.5**13,
        "bert.embeddings.LayerNorm.bias": 0.5**13,
    }
    assert {name: rates[name] for name in expected} == expected


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("num_layers", [2, 12])
def test_a_saved_state_fits_a_freshly_built_optimizer(num_layers: int) -> None:
    model = build_model(num_layers)
    optimizer = build_optimizer(model, 1e-3, 2e-3, 0.9)
    for seed in range(3):
        take_step(model, optimizer, seed)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    take_step(model, optimizer, 3)

    resumed = build_model(num_layers, seed=1)
    resumed.load_state_dict(saved[0])
    fresh = build_optimizer(resumed, 1e-3, 2e-3, 0.9)
    fresh.load_state_dict(saved[1])
    take_step(resumed, fresh, 3)
    for name, parameter in model.named_parameters():
        assert torch.equal(resumed.get_parameter(name), parameter), name


def test_order_of_groups_and_parameters_depends_on_the_shape_alone() -> None:
    def names(model: nn.Module) -> list[tuple[object, list[str]]]:
        name_of = {id(parameter): name for name, parameter in model.named_parameters()}
        groups: list[dict[str, Any]] = build_parameter_groups(model, 1e-3, None, 0.9, 0.01)
        return [(group["name"], [name_of[id(parameter)] for parameter in group["params"]]) for group in groups]

    assert names(build_model(12)) == names(build_model(12, seed=1))
    assert [group for group, _ in names(build_model(2))] == [
        f"{place}, {kind}"
        for place in ("head", "depth 0", "depth 1", "depth 2", "depth 3")
        for kind in ("matrices", "vectors")
    ]
