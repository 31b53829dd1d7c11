"""How long only a new head is trained: a share of the steps, or until its loss is flat."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from sentiment.training.optimization import build_multiplier

WINDOW = 20  # steps whose mean is the smoothed loss, and over which it must fall
SMALLEST_FALL = 0.01  # relative; a smaller one is flat
LONGEST_SHARE = 0.3  # of the steps


class HeadWarmupCallback(TrainerCallback, ExportableState):
    """The number of steps in which only the head is trained, once its loss is flat; None before.

    The loss of a step is smoothed by the mean over the last 20; it is flat when that has fallen by less than 1% over
    20 steps. Losses and number are part of checkpoints, so that a resumed run ends the warm-up in the same step.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.num_steps: int | None = None

    def state(self) -> dict[str, Any]:
        """State for checkpoints."""
        return {"args": {}, "attributes": {"losses": self.losses, "num_steps": self.num_steps}}

    def add_loss(self, step: int, loss: float) -> None:
        """Takes the loss of a step, counted from 0, which is the head's last one if that loss is flat."""
        if self.num_steps is not None:
            return
        self.losses = [*self.losses, loss][-2 * WINDOW :]
        if is_flat(self.losses):
            self.num_steps, self.losses = step + 1, []


def is_flat(losses: list[float]) -> bool:
    """Whether the mean of the last 20 losses is less than 1% below that of the 20 before.

    >>> is_flat([2.0] * 20 + [1.99] * 20), is_flat([2.0] * 20 + [1.97] * 20), is_flat([2.0] * 39)
    (True, False, False)
    """
    before, after = losses[-2 * WINDOW : -WINDOW], losses[-WINDOW:]
    return len(before) == WINDOW and sum(after) > (1 - SMALLEST_FALL) * sum(before)


def build_head_first_schedule(
    optimizer: torch.optim.Optimizer,
    args: TrainingArguments,
    num_training_steps: int,
    count_head_steps: Callable[[], int],
) -> LambdaLR:
    """The schedule of `--lr_scheduler_type` in which only the head has a rate above 0 at first.

    The head's groups (names that begin with `head`) follow the schedule over all steps, the others over the steps that
    remain. Rates of 0 rather than parameters without gradients: AdamW leaves weights unchanged at a rate of 0, the
    optimizer keeps its shape through a resume, and DDP needs no special treatment.

    Args:
        optimizer: whose rates are scheduled.
        args: with the schedule's name and warm-up.
        num_training_steps: of the whole training.
        count_head_steps: the number of steps of the head alone, as far as it is known: it may end sooner than at first.

    Raises:
        InputError: a schedule that is no function of the step, such as reduce_lr_on_plateau.
    """
    whole = build_multiplier(args, num_training_steps)
    after_head: dict[int, Callable[[int], float]] = {}

    def multiply_after_head(step: int) -> float:
        head_steps = count_head_steps()
        if step < head_steps:
            return 0.0
        if head_steps not in after_head:
            after_head[head_steps] = build_multiplier(args, num_training_steps - head_steps)
        return after_head[head_steps](step - head_steps)

    is_head = [str(group.get("name", "")).startswith("head") for group in optimizer.param_groups]
    return LambdaLR(optimizer, [whole if head else multiply_after_head for head in is_head])
