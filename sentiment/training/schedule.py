"""The learning rate by step: warm-up, linear fall, and a head that may learn alone at first."""

from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR


def build_head_first_schedule(
    optimizer: torch.optim.Optimizer, num_training_steps: int, warmup_ratio: float, num_head_steps: int = 0
) -> LambdaLR:
    """A linear schedule in which, for the first `num_head_steps` steps, only the head has a rate above 0.

    The head's groups (those whose name begins with `head`) rise over `warmup_ratio` of all steps and fall to 0 at the
    end. All others stand still for `num_head_steps`, which with AdamW leaves them exactly as they are, and then do the
    same over the steps that are left. Rates that are 0 rather than parameters without gradients keep the optimizer's
    shape through a resume, and need nothing of a data-parallel wrapper.
    """

    def rise_and_fall(first: int) -> Callable[[int], float]:
        steps = max(1, num_training_steps - first)
        warmup = max(1, round(warmup_ratio * steps))

        def multiplier(step: int) -> float:
            done = step - first
            if done < 0:
                return 0.0
            return min((done + 1) / warmup, max(0.0, (steps - done) / max(1, steps - warmup)))

        return multiplier

    is_head = [str(group.get("name", "")).startswith("head") for group in optimizer.param_groups]
    return LambdaLR(optimizer, [rise_and_fall(0 if head else num_head_steps) for head in is_head])
