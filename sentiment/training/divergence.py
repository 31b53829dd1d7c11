"""A Trainer that stops in the step in which a loss or a gradient is no longer finite, before it changes the weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset

from sentiment.exceptions import DivergenceError
from sentiment.training.batches import LengthGroupedTrainer

# GradScaler halves its scale in each step that overflows; from 65,536 it is below 1 after 17.
SKIPPED_STEPS = 20
NAMED_ROWS = 16


class GuardedTrainer(LengthGroupedTrainer):
    """A Trainer that raises DivergenceError, with the weights as they were before the step.

    With fp16 a gradient may overflow now and then: the scaler skips the step, and only many in a row are divergence.

    `row_numbers`: what rows of the training data are called where they come from; their positions where it is None.
    """

    row_numbers: list[int] | None = None
    _losses = torch.zeros(())
    _skipped = 0

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss of the batch, remembered until the step is taken."""
        loss = super().training_step(*args, **kwargs)
        self._losses = self._losses.to(loss.device) + loss
        return loss

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        """The norm of the gradient, which is clipped, unless it or the loss is not finite."""
        norm = super()._clip_grad_norm(model)
        loss, found = torch.stack([self._losses, norm]).tolist()  # one wait for the GPU, and not two
        self._losses = torch.zeros(())
        if not math.isfinite(loss):
            raise self._describe_divergence(f"the loss is {loss}", self.find_rows(self.state.global_step))
        self._skipped = 0 if math.isfinite(found) else self._skipped + 1
        if self._skipped > (0 if self.accelerator.scaler is None else SKIPPED_STEPS):
            raise self._describe_divergence(f"the gradient's norm is {found}", self.find_rows(self.state.global_step))
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of an evaluation, whose loss is finite."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        if not math.isfinite(metrics["eval_loss"]):
            raise self._describe_divergence(f"the validation loss is {metrics['eval_loss']}")
        return metrics

    def check_weights(self) -> None:
        """Raises DivergenceError where a weight is not finite."""
        assert self.model is not None
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._describe_divergence("a weight is not finite")

    def _describe_divergence(self, problem: str, rows: Sequence[int] | None = None) -> DivergenceError:
        """The error for what was found after so many whole steps or, with its rows, within the next one."""
        step = self.state.global_step + (rows is not None)
        rate = self._get_learning_rate() if self.lr_scheduler else self.args.learning_rate
        where = f"step {step}, learning rate {rate:.3g}"
        if rows:
            more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
            where += f", training rows {', '.join(map(str, rows[:NAMED_ROWS]))}{more}"
        return DivergenceError(
            f"training diverged: {problem} ({where}); lower --lr or --head_lr, or pass --precision fp32",
            {"problem": problem, "step": step, "learning_rate": rate, "rows": list(rows or ())},
        )

    def find_rows(self, step: int) -> list[int]:
        """The rows that the step after so many is taken on; none of a stream, whose rows have no numbers."""
        if not isinstance(self.train_dataset, Dataset):
            return []
        sampler = self._get_train_sampler()
        order = list(range(len(self.train_dataset)) if sampler is None else sampler)
        size = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        first = step % math.ceil(len(order) / size) * size
        positions = order[first : first + size]
        return positions if self.row_numbers is None else [self.row_numbers[position] for position in positions]
