"""The learning rate by step."""

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from sentiment.training.optimization import build_head_first_schedule


def list_rates(steps: int, warmup_ratio: float, head_steps: int) -> tuple[list[float], list[float]]:
    """The rates of head and body at each step; their peaks are 1."""
    groups = [{"params": [torch.zeros(1)], "name": name} for name in ("head, matrices", "depth 1, matrices")]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    schedule = build_head_first_schedule(optimizer, steps, warmup_ratio, head_steps)
    head, body = [], []
    for _ in range(steps):
        head.append(optimizer.param_groups[0]["lr"])
        body.append(optimizer.param_groups[1]["lr"])
        optimizer.step()
        schedule.step()
    return head, body


def test_only_the_head_moves_at_first() -> None:
    head, body = list_rates(100, 0.1, 20)
    assert body[:20] == [0.0] * 20
    assert min(head) > 0
    assert body[20:] == [rate for rate in body[20:] if rate > 0]
    assert max(head) == max(body) == pytest.approx(1.0)
    assert head[-1] < 0.02 > body[-1] > 0


def test_without_head_steps_all_groups_rise_and_fall_together() -> None:
    head, body = list_rates(50, 0.2, 0)
    assert head == body
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
    usual = get_linear_schedule_with_warmup(optimizer, 10, 50)
    for step in range(10, 50):  # the fall is transformers' own; the rise starts above 0
        assert head[step] == pytest.approx(usual.lr_lambdas[0](step))


def test_a_rate_of_zero_leaves_weights_as_they_are() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([{"params": [weight], "name": "depth 1"}], lr=1.0, weight_decay=0.1, fused=True)
    schedule = build_head_first_schedule(optimizer, 10, 0.1, 2)
    for step in range(3):
        weight.grad = torch.ones(3)
        optimizer.step()
        schedule.step()
        assert torch.equal(weight.detach(), torch.ones(3)) == (step < 2)
