"""The learning rate by step, while only the head is trained and after."""

import json
from pathlib import Path

import pytest
import torch
from transformers import SchedulerType, TrainingArguments, get_scheduler

from sentiment.exceptions import InputError
from sentiment.training.head_warmup import HeadWarmupCallback, build_head_first_schedule, is_flat


def build_arguments(folder: Path, scheduler: str = "linear") -> TrainingArguments:
    return TrainingArguments(output_dir=str(folder), warmup_steps=0.1, lr_scheduler_type=scheduler, use_cpu=True)


def list_rates(args: TrainingArguments, steps: int, head_steps: int) -> tuple[list[float], list[float]]:
    """The rates of head and body at each step; their peaks are 1."""
    groups = [{"params": [torch.zeros(1)], "name": name} for name in ("head, matrices", "depth 1, matrices")]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    schedule = build_head_first_schedule(optimizer, args, steps, lambda: head_steps)
    head, body = [], []
    for _ in range(steps):
        head.append(optimizer.param_groups[0]["lr"])
        body.append(optimizer.param_groups[1]["lr"])
        optimizer.step()
        schedule.step()
    return head, body


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant_with_warmup"])
def test_only_the_head_is_trained_at_first(tmp_path: Path, scheduler: str) -> None:
    head, body = list_rates(build_arguments(tmp_path, scheduler), 100, 20)
    assert body[:20] == [0.0] * 20
    assert min(head[1:]) > 0
    assert min(body[21:]) > 0
    assert max(head) == max(body) == pytest.approx(1.0)


@pytest.mark.parametrize("scheduler", ["linear", "cosine"])
def test_each_part_follows_the_schedule_of_transformers(tmp_path: Path, scheduler: str) -> None:
    head, body = list_rates(build_arguments(tmp_path, scheduler), 100, 20)
    for rates, steps in ((head, 100), (body[20:], 80)):
        usual = get_scheduler(scheduler, torch.optim.AdamW([torch.zeros(1)], lr=1.0), steps // 10, steps)
        assert rates == pytest.approx([usual.lr_lambdas[0](step) for step in range(steps)])


def test_a_schedule_without_steps_is_refused(tmp_path: Path) -> None:
    args = build_arguments(tmp_path)
    args.lr_scheduler_type = SchedulerType.REDUCE_ON_PLATEAU
    with pytest.raises(InputError, match=r"--lr_scheduler_type .*reduce_lr_on_plateau.* --head_warmup_ratio 0"):
        list_rates(args, 100, 20)


def test_a_rate_of_zero_leaves_weights_unchanged(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([{"params": [weight], "name": "depth 1"}], lr=1.0, weight_decay=0.1, fused=True)
    schedule = build_head_first_schedule(optimizer, build_arguments(tmp_path, "constant"), 10, lambda: 2)
    for step in range(3):
        weight.grad = torch.ones(3)
        optimizer.step()
        schedule.step()
        assert torch.equal(weight.detach(), torch.ones(3)) == (step < 2)


def test_the_warm_up_of_the_head_may_end_sooner_than_at_first(tmp_path: Path) -> None:
    """At most 40 steps, and its loss is found flat in step 25, counted from 0."""
    args, found = build_arguments(tmp_path), HeadWarmupCallback()
    groups = [{"params": [torch.zeros(1)], "name": name} for name in ("head, matrices", "depth 1, matrices")]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    schedule = build_head_first_schedule(optimizer, args, 100, lambda: found.num_steps or 40)
    body = []
    for step in range(100):
        body.append(optimizer.param_groups[1]["lr"])
        found.num_steps = 26 if step == 25 else found.num_steps
        optimizer.step()
        schedule.step()
    usual = get_scheduler("linear", torch.optim.AdamW([torch.zeros(1)], lr=1.0), 8, 74)
    assert body[:26] == [0.0] * 26
    assert body[26:] == pytest.approx([usual.lr_lambdas[0](step) for step in range(74)])


def test_the_head_is_done_when_its_smoothed_loss_is_flat() -> None:
    """It falls by 2% a step for 30 steps, and stays."""
    callback = HeadWarmupCallback()
    losses = [10 * 0.98 ** min(step, 30) for step in range(80)]
    for step, loss in enumerate(losses):
        callback.add_loss(step, loss)
    first = next(step for step in range(80) if is_flat(losses[: step + 1]))
    assert 49 < first < 70  # the means of 20 steps are equal 40 steps after the last fall
    assert callback.num_steps == first + 1
    assert sum(losses[first - 19 : first + 1]) > 0.99 * sum(losses[first - 39 : first - 19])
    assert sum(losses[first - 20 : first]) <= 0.99 * sum(losses[first - 40 : first - 20])


def test_the_state_of_the_warm_up_survives_a_checkpoint() -> None:
    whole, first = HeadWarmupCallback(), HeadWarmupCallback()
    losses = [5.0 - 0.1 * min(step, 20) for step in range(60)]
    for step, loss in enumerate(losses):
        whole.add_loss(step, loss)
    for step, loss in enumerate(losses[:30]):
        first.add_loss(step, loss)
    resumed = HeadWarmupCallback()
    for name, value in json.loads(json.dumps(first.state()))["attributes"].items():
        setattr(resumed, name, value)
    for step, loss in enumerate(losses[30:], start=30):
        resumed.add_loss(step, loss)
    assert whole.num_steps is not None
    assert resumed.num_steps == whole.num_steps
