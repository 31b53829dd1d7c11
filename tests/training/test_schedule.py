"""The learning rate by step, while only the head is trained and after."""

from pathlib import Path

import pytest
import torch
from transformers import SchedulerType, TrainingArguments, get_scheduler

from sentiment.exceptions import InputError
from sentiment.training.optimization import build_head_first_schedule


def build_arguments(folder: Path, scheduler: str = "linear") -> TrainingArguments:
    return TrainingArguments(output_dir=str(folder), warmup_steps=0.1, lr_scheduler_type=scheduler, use_cpu=True)


def list_rates(args: TrainingArguments, steps: int, head_steps: int) -> tuple[list[float], list[float]]:
    """The rates of head and body at each step; their peaks are 1."""
    groups = [{"params": [torch.zeros(1)], "name": name} for name in ("head, matrices", "depth 1, matrices")]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    schedule = build_head_first_schedule(optimizer, args, steps, head_steps)
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
    schedule = build_head_first_schedule(optimizer, build_arguments(tmp_path, "constant"), 10, 2)
    for step in range(3):
        weight.grad = torch.ones(3)
        optimizer.step()
        schedule.step()
        assert torch.equal(weight.detach(), torch.ones(3)) == (step < 2)
