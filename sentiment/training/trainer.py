"""The Trainer of every run: layer-wise rates, a resumable order, adversarial training, divergence detection."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import Trainer

from sentiment.config.arguments import RunArguments
from sentiment.exceptions import DivergenceError, InputError, require
from sentiment.training.batches import EpochSampler, EpochTracker
from sentiment.training.callbacks import ManifestCallback
from sentiment.training.head_warmup import LONGEST_SHARE, HeadWarmupCallback, build_head_first_schedule
from sentiment.training.optimization import build_parameter_groups
from sentiment.training.regularization import Regularization

# GradScaler halves its scale after each overflow; from 65,536 it is below 1 after 17.
MAX_SKIPPED_STEPS = 20
MAX_NAMED_ROWS = 16
FP32_ONLY = {"deberta"}  # fills attention scores with the minimum of fp32 under autocast (transformers 5.23)
LENGTHS = "length"  # column of the training data, for the sampler


class SentimentTrainer(Trainer):
    """A Trainer for `RunArguments`.

    - The optimizer has one learning rate per layer (`build_parameter_groups`), with any `--optim` that takes groups.
    - Batches come in an order that depends on the seed and the epoch alone (`EpochSampler`).
    - With `adversarial_epsilon`, each micro-batch is trained on a second time with its word embeddings perturbed along
      their gradient: the fast gradient method, Miyato, Dai & Goodfellow 2017 (arXiv:1605.07725), section 3.
    - A loss, gradient or weight that is not finite raises DivergenceError before it reaches a checkpoint. With fp16 a
      gradient may overflow now and then: the scaler skips the step, and only many in a row are divergence.
    - With `head_warmup_ratio`, only the head is trained at first.

    Args:
        args: as `RunArguments.build_trainer_arguments` gives them.
        tracker: knows the epoch; shared with a collator whose masks depend on it.
        row_numbers: what training rows are called in messages; default: their positions.
        regularization: replaces the loss of training batches, as for R-Drop.
        head_warmup_ratio: share of the steps in which only the head is trained; None: until its loss is flat.
        balances_labels: whether each batch has as many rows of each class, by the column `labels`.
        save_total_limit: newest checkpoints to keep, besides the best one of each.
    """

    args: RunArguments

    def __init__(
        self,
        *,
        args: Any,
        tracker: EpochTracker | None = None,
        row_numbers: Sequence[int] | None = None,
        regularization: Regularization | None = None,
        head_warmup_ratio: float | None = 0.0,
        balances_labels: bool = False,
        save_total_limit: int | None = None,
        **options: Any,
    ):
        super().__init__(args=args, **options)
        self.tracker = tracker or EpochTracker()
        self.row_numbers = row_numbers
        self.head_warmup_ratio = head_warmup_ratio
        self.regularization = regularization
        self.balances_labels = balances_labels
        self.adversarial_epsilon: float = getattr(args, "adversarial_epsilon", 0.0)
        self.step_loss: float | None = None  # of the last step, in this process
        self._loss = torch.zeros(())
        self._skipped_steps = 0
        self.add_callback(self.tracker)
        if head_warmup_ratio is None:
            self.add_callback(HeadWarmupCallback())
        self.add_callback(ManifestCallback(save_total_limit))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimizer of `--optim` over `build_parameter_groups`."""
        if self.optimizer is None:
            model = model or self.model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            takes_groups = isinstance(optimizer_class, type) and issubclass(optimizer_class, torch.optim.Optimizer)
            require(
                takes_groups and not options.keys() & {"params", "model", "optimizer_dict"},
                f"--optim {self.args.optim} builds its own parameter groups: layer-wise rates need one that takes them",
            )
            groups = build_parameter_groups(
                model,
                self.args.learning_rate,
                getattr(self.args, "head_lr", None),
                getattr(self.args, "layer_decay", 1.0),
                self.args.weight_decay,
            )
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """The schedule of `--lr_scheduler_type`, after a warm-up of the head alone if there is one."""
        if self.lr_scheduler is None and self.count_head_steps(num_training_steps):
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = build_head_first_schedule(
                chosen, self.args, num_training_steps, lambda: self.count_head_steps(num_training_steps)
            )
        return super().create_scheduler(num_training_steps, optimizer)

    def count_head_steps(self, num_training_steps: int) -> int:
        """Steps in which only the head is trained; the most that they can be, until its loss is flat."""
        if self.head_warmup_ratio is not None:
            return round(self.head_warmup_ratio * num_training_steps)
        found = self.find_head_warmup().num_steps
        longest = round(LONGEST_SHARE * num_training_steps)
        return longest if found is None else min(found, longest)

    def find_head_warmup(self) -> HeadWarmupCallback:
        """The callback that ends the head's warm-up; a resumed Trainer replaces it by that of the checkpoint."""
        return next(one for one in self.callback_handler.callbacks if isinstance(one, HeadWarmupCallback))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches in the order of `EpochSampler`; those of a stream in its own."""
        if not isinstance(self.train_dataset, Dataset):
            return super().get_train_dataloader()
        unused = [name for name in (LENGTHS,) if name in self.train_dataset.column_names]
        loader = DataLoader(
            self.train_dataset.remove_columns(unused),
            batch_size=self.args.train_batch_size,
            sampler=self.build_sampler(),
            collate_fn=self.data_collator,
            drop_last=self.args.dataloader_drop_last,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=bool(self.args.dataloader_pin_memory),
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def build_sampler(self) -> EpochSampler:
        """The sampler of the training rows."""
        assert isinstance(self.train_dataset, Dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        has_lengths = LENGTHS in self.train_dataset.column_names
        lengths = self.train_dataset[LENGTHS][:] if has_lengths else [1] * len(self.train_dataset)
        labels = self.train_dataset["labels"][:] if self.balances_labels else None
        strategy = self.args.train_sampling_strategy
        return EpochSampler(lengths, strategy, self.count_step_rows(), seed, self.tracker, labels)

    def count_step_rows(self) -> int:
        """Rows of an optimizer step, over all processes and micro-batches."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch; in training, the one of `regularization` if there is one."""
        if self.regularization is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = self.regularization.compute_loss(model, inputs, num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # as transformers': gradients are averaged over processes
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss of a micro-batch; its gradients, and with adversarial training those of the second pass, add up."""
        if self.adversarial_epsilon:
            loss = self._run_adversarial_step(model, inputs, *args, **kwargs)
        else:
            loss = super().training_step(model, inputs, *args, **kwargs)
        self._loss = self._loss.to(loss.device) + loss
        return loss

    def _run_adversarial_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        embeddings = self.accelerator.unwrap_model(model).get_input_embeddings().weight
        # The gradient of this micro-batch alone: `embeddings.grad` adds up those of all micro-batches of a step.
        gradients: list[torch.Tensor] = []
        hook = embeddings.register_hook(gradients.append)
        try:
            loss = super().training_step(model, dict(inputs), *args, **kwargs)
        finally:
            hook.remove()
        (gradient,) = gradients
        if self.args.world_size > 1:  # the direction of the batch of all processes, as one process would take it
            gradient = gradient.clone()
            torch.distributed.all_reduce(gradient)
        norm = gradient.norm()
        if norm > 0 and torch.isfinite(norm):  # in fp16 it may overflow, and the optimizer skips the step
            rows = inputs["input_ids"].unique().to(embeddings.device)
            original = embeddings.data[rows]
            embeddings.data[rows] += gradient[rows] * (self.adversarial_epsilon / norm)
            super().training_step(model, dict(inputs), *args, **kwargs)
            embeddings.data[rows] = original
        return loss

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        """The gradient norm before clipping; raises DivergenceError if it or the loss is not finite.

        A private method of transformers, since no hook is given the norm: computing it again in
        `on_pre_optimizer_step` costs 5% of a step. tests/training/test_divergence.py fails where it is not called.
        """
        norm = super()._clip_grad_norm(model)
        loss, found = torch.stack([self._loss, norm]).tolist()  # one synchronisation with the GPU, not two
        self.step_loss, self._loss = loss, torch.zeros(())
        step = self.state.global_step
        if self.head_warmup_ratio is None and step < self.count_head_steps(self.state.max_steps):
            # The mean over processes, so that all of them end the head's warm-up in the same step.
            mean: Any = self.accelerator.reduce(torch.tensor(loss, device=self.args.device), "mean")
            self.find_head_warmup().add_loss(step, float(mean))
        if not math.isfinite(loss):
            raise self.build_divergence_error(f"the loss is {loss}", self.find_rows(step))
        self._skipped_steps = 0 if math.isfinite(found) else self._skipped_steps + 1
        if self._skipped_steps > (0 if self.accelerator.scaler is None else MAX_SKIPPED_STEPS):
            raise self.build_divergence_error(f"the gradient norm is {found}", self.find_rows(step))
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of an evaluation; raises DivergenceError if the loss is not finite."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        if not math.isfinite(metrics["eval_loss"]):
            raise self.build_divergence_error(f"the validation loss is {metrics['eval_loss']}")
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model; raises DivergenceError if a weight is not finite."""
        assert self.model is not None
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self.build_divergence_error("a weight is not finite")
        super().save_model(output_dir, _internal_call)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Logs numbers to all reporting integrations, and keeps nested metrics in the log history only."""
        nested: dict[str, Any] = {name: value for name, value in logs.items() if isinstance(value, (dict, list))}
        super().log({name: value for name, value in logs.items() if name not in nested}, start_time)
        entry: dict[str, Any] = self.state.log_history[-1]
        entry |= nested

    def build_divergence_error(self, problem: str, rows: Sequence[int] | None = None) -> DivergenceError:
        """The error for what was found after a number of whole steps or, with its rows, within the next one."""
        step = self.state.global_step + (rows is not None)
        rate = self.lr_scheduler.get_last_lr()[0] if self.lr_scheduler else self.args.learning_rate
        where = f"step {step}, learning rate {rate:.3g}"
        if rows:
            more = f" and {len(rows) - MAX_NAMED_ROWS} more" if len(rows) > MAX_NAMED_ROWS else ""
            where += f", training rows {', '.join(map(str, rows[:MAX_NAMED_ROWS]))}{more}"
        return DivergenceError(
            f"training diverged: {problem} ({where}); lower --lr or --head_lr, or pass --precision fp32",
            {"problem": problem, "step": step, "learning_rate": rate, "rows": list(rows or ())},
        )

    def find_rows(self, step: int) -> list[int]:
        """The rows of the step after `step` steps; none of a stream, whose rows have no numbers."""
        if not isinstance(self.train_dataset, Dataset):
            return []
        order, size = self.build_sampler().build_order(self.tracker.epoch), self.count_step_rows()
        round_up_or_down = math.floor if self.args.dataloader_drop_last else math.ceil
        first = step % max(1, round_up_or_down(len(order) / size)) * size
        positions = order[first : first + size]
        return positions if self.row_numbers is None else [self.row_numbers[position] for position in positions]


def check_max_seq_length(max_seq_length: int, max_positions: int) -> None:
    """Raises InputError if sequences may be longer than the model takes."""
    if max_seq_length > max_positions:
        raise InputError(f"--max_seq_length {max_seq_length}: the model takes at most {max_positions} tokens")


def check_precision(model_type: str, precision: str) -> None:
    """Raises InputError if models of this type overflow in mixed precision."""
    if model_type in FP32_ONLY and precision != "fp32":
        raise InputError(f"models of type {model_type} overflow in {precision}: pass --precision fp32")
