"""Options that every run shares: transformers' `TrainingArguments` with our defaults."""

import copy
import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.trainer_pt_utils import AcceleratorConfig

from sentiment.config.data_arguments import check_choices, option, require_at_least, require_seed
from sentiment.environment import PRECISIONS, choose_precision
from sentiment.exceptions import InputError, first_line, require

# Options of TrainingArguments that a run cannot honour, and why. Any value but the default is refused.
REFUSED = {
    "auto_find_batch_size": "the batch size is on record: lower --batch_size",
    "batch_eval_metrics": "metrics are computed over all rows at once",
    "bf16_full_eval": "evaluations have the number format of training: pass --precision bf16",
    "dataloader_persistent_workers": "workers must learn the epoch, which masks and order depend on",
    "debug": "divergence is detected in every step already",
    "do_predict": "a run always trains, evaluates and tests",
    "do_train": "a run always trains, evaluates and tests",
    "deepspeed": "its checkpoints cannot be verified and resumed exactly here; start several processes with torchrun",
    "enable_jit_checkpoint": "SIGTERM writes a checkpoint already",
    "eval_do_concat_batches": "metrics are computed over all rows at once",
    "fp16_full_eval": "evaluations have the number format of training: pass --precision fp16",
    "fsdp": "its checkpoints cannot be verified and resumed exactly here; start several processes with torchrun",
    "fsdp_config": "--fsdp is not supported",
    "hub_always_push": "the model is uploaded once, when the run is finished",
    "ignore_data_skip": "a resumed run would train on other rows",
    "include_for_metrics": "metrics are computed from logits and labels",
    "label_names": "the label column is --label_column_name",
    "length_column_name": "lengths are computed by the tokenization",
    "liger_kernel_config": "--use_liger_kernel is not supported",
    "logging_nan_inf_filter": "a loss that is not finite ends the run",
    "optim_target_modules": "layer-wise optimizers have parameter groups of their own",
    "parallelism_config": "only data parallelism is supported: start several processes with torchrun",
    "prediction_loss_only": "the best checkpoint is chosen by a metric",
    "remove_unused_columns": "columns are selected by the tokenization",
    "restore_callback_states_from_checkpoint": "a resumed run could not stop early as it should",
    "save_only_model": "a checkpoint without optimizer state cannot be resumed",
    "torch_compile": "the kernels for CPUs cannot be traced",
    "torch_compile_backend": "the kernels for CPUs cannot be traced",
    "torch_compile_mode": "the kernels for CPUs cannot be traced",
    "use_liger_kernel": "the model has kernels of its own",
}


@dataclass
class RunArguments(TrainingArguments):
    """`TrainingArguments` with this project's defaults, and the options that fine-tuning and adaptation add to them."""

    output_dir: str = option("outputs/run", "Folder of the run.")
    learning_rate: float = option(5e-5, "Peak learning rate of the encoder.", "--lr")
    head_lr: float | None = option(None, "Peak learning rate of the head. Default: --learning_rate.")
    layer_decay: float = option(1.0, "Layer-wise learning-rate decay, from each layer to the one below; 1.0: off.")
    batch_size: int | None = option(
        None,
        "Global batch size, over all processes and accumulation steps; an alternative to "
        "--per_device_train_batch_size. Default: by the data, see --preset (train_mlm.py: 32).",
    )
    per_device_train_batch_size: int | None = option(  # type: ignore[assignment]
        None, "Batch size per device and accumulation step. Default: from --batch_size."
    )
    per_device_eval_batch_size: int = option(64, "Batch size per device in evaluation.")
    gradient_accumulation_steps: int = option(1, "Micro-batches per optimizer step: less memory, same step.")
    num_train_epochs: float | None = option(  # type: ignore[assignment]
        None, "Maximum number of epochs. Default: by the data, see --preset."
    )
    warmup_steps: float = option(0.06, "Warm-up of the learning rate: steps, or a ratio of all steps if below 1.")
    weight_decay: float = option(0.01, "Weight decay, of matrices only.")
    max_grad_norm: float = option(1.0, "Maximum gradient norm, for clipping.")
    train_sampling_strategy: str = option(
        "group_by_length",
        "group_by_length: batches of similar lengths in random order, which saves padding.",
        choices=["group_by_length", "random", "sequential"],
    )
    precision: str = option(
        "auto",
        "auto: fp16 on CUDA, bf16 on a CPU with units for it, else fp32. --fp16 and --bf16 work too.",
        choices=list(PRECISIONS),
    )
    seed: int = option(42, "Seed of the split, new weights, order of rows and dropout.")
    eval_strategy: str = option("epoch", "When to evaluate; checkpoints follow it.", choices=["epoch", "steps"])
    save_strategy: str | None = option(  # type: ignore[assignment]
        None, "When to save a checkpoint. Default: after each evaluation."
    )
    logging_strategy: str = option("epoch", "When to log the training loss.")
    save_total_limit: int | None = option(2, "Newest checkpoints to keep, besides the best one of each.")
    save_minutes: float = option(10.0, "Maximum minutes between two checkpoints, besides those after evaluations.")
    keep_checkpoints: bool = option(False, "Keep the checkpoints when the run is finished; its model is kept anyway.")
    resume: bool = option(False, "Resume from the newest intact checkpoint in --output_dir, if there is one.")
    overwrite: bool = option(False, "Train again if --output_dir holds another run.")
    hub_strategy: str = option("end", "With --push_to_hub: the model is uploaded when the run is finished (end).")
    dataloader_pin_memory: bool | None = option(  # type: ignore[assignment]
        None, "Pin memory in data loaders. Default: on CUDA."
    )
    do_train: bool = option(True, "Always on, as are evaluation and test.")
    load_best_model_at_end: bool = option(True, "Restore the best checkpoint at the end.")
    ddp_find_unused_parameters: bool | None = option(False, "Passed to DDP.")
    logging_nan_inf_filter: bool = option(False, "Not supported: NaN ends the run.")
    restore_callback_states_from_checkpoint: bool = option(True, "Always on.")

    def __post_init__(self) -> None:
        """Checks the options, and completes them as transformers does.

        Raises:
            InputError: a value that no run can use, or an option that cannot be honoured.
        """
        defaults = {one.name: get_default(one) for one in dataclasses.fields(self)}
        for name, reason in REFUSED.items():
            value = getattr(self, name)
            require(
                value == defaults[name] or value in (None, [], {}),
                f"--{name} {value} is not supported: {reason}",
            )
        self.check_values()
        if str(self.resume_from_checkpoint).lower() in ("true", "false", "none", ""):  # as Trainer.train accepts it
            self.resume = self.resume or str(self.resume_from_checkpoint).lower() == "true"
            self.resume_from_checkpoint = None
        self.resume = self.resume or self.resume_from_checkpoint is not None
        self.save_strategy = self.save_strategy or self.eval_strategy
        if self.eval_strategy == "steps" and self.eval_steps and self.save_steps == defaults["save_steps"]:
            self.save_steps = self.eval_steps
        if self.num_train_epochs and self.num_train_epochs == int(self.num_train_epochs):
            self.num_train_epochs = int(self.num_train_epochs)
        # Streams are read by each process, which keeps its own rows: batches of unequal shapes cannot be dispatched.
        self.accelerator_config = {"dispatch_batches": False}
        if self.dataloader_pin_memory is None:
            self.dataloader_pin_memory = torch.cuda.is_available()
        has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        self.use_cpu = self.use_cpu or not has_gpu
        os.environ.pop("ACCELERATE_MIXED_PRECISION", None)  # a launcher's default must not override --precision
        given = None if self.report_to == "none" else self.report_to
        try:
            super().__post_init__()
        except (ValueError, ImportError, TypeError, NotImplementedError) as error:
            raise InputError(first_line(error)) from error
        missing = [name for name in self.report_to or [] if name not in get_available_reporting_integrations()]
        require(not missing, f"--report_to {given}: {', '.join(missing)} is not installed")
        require(self.n_gpu <= 1, f"{self.n_gpu} GPUs and one process: start it with `accelerate launch` (all GPUs), or "
                "set CUDA_VISIBLE_DEVICES=0 (one)")  # fmt: skip
        micro_batches = self.world_size * self.gradient_accumulation_steps
        require(
            not self.batch_size or self.batch_size % micro_batches == 0,
            f"--batch_size {self.batch_size}: not divisible by {self.world_size} processes x "
            f"{self.gradient_accumulation_steps} accumulation steps",
        )

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        check_choices(self)
        for name in ("learning_rate", "head_lr", "max_grad_norm"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"--{name} {value}: must be above 0 and finite")
        require(0 <= self.warmup_steps < math.inf, f"--warmup_steps {self.warmup_steps}: a ratio below 1, or steps")
        require(0 <= self.weight_decay < math.inf, f"--weight_decay {self.weight_decay}: must be 0 or more, and finite")
        decay = self.layer_decay
        require(0 < decay <= 1, f"--layer_decay {decay}: above 0, and at most 1 (rates fall towards the embeddings)")
        epochs = self.num_train_epochs
        require(epochs is None or 0 < epochs < math.inf, f"--num_train_epochs {epochs}: must be above 0")
        require(self.save_minutes >= 0, f"--save_minutes {self.save_minutes}: 0 or more")
        require(self.max_steps == -1 or self.max_steps >= 1, f"--max_steps {self.max_steps}: at least 1")
        require_seed(self, "seed", "data_seed")
        require_at_least(self, 1, "batch_size", "per_device_train_batch_size", "per_device_eval_batch_size")
        require_at_least(self, 1, "gradient_accumulation_steps", "save_total_limit")
        for first, second in (("resume", "overwrite"), ("batch_size", "per_device_train_batch_size")):
            require(
                not (getattr(self, first) and getattr(self, second)),
                f"--{first} and --{second} contradict each other: pass one of them",
            )
        flags = [name for name in ("fp16", "bf16") if getattr(self, name)]
        formats = {*flags, self.precision} - {"auto"}
        require(len(formats) <= 1, f"{' and '.join(sorted(formats))} are both requested: pass one number format")
        choose_precision(self.requested_precision, self.use_cpu)
        is_given = self.accelerator_config is not None and not isinstance(self.accelerator_config, AcceleratorConfig)
        require(not is_given, "--accelerator_config is not supported: processes divide batches as the run needs")
        counting = self.include_num_input_tokens_seen
        require(counting in ("no", False), f"--include_num_input_tokens_seen {counting}: tokens are counted already")
        require(str(self.eval_strategy) != "no", "--eval_strategy no: the best checkpoint is chosen by evaluation")
        require(
            self.load_best_model_at_end, "--load_best_model_at_end False: the best checkpoint is what a run reports"
        )
        require(self.hub_strategy == "end", f"--hub_strategy {self.hub_strategy}: only 'end' is supported")

    @property
    def global_batch_size(self) -> int | None:
        """Rows per optimizer step, over all processes and accumulation steps; None until the data decides it."""
        if self.per_device_train_batch_size:
            return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps
        return self.batch_size

    @property
    def requested_precision(self) -> str:
        """`precision`, or the one of `--fp16` and `--bf16` that is set."""
        return "fp16" if self.fp16 else "bf16" if self.bf16 else self.precision

    def build_trainer_arguments(self, **changes: Any) -> TrainingArguments:
        """A copy for the Trainer: checkpoints in a folder of their own, batch size per device, no uploads."""
        args = copy.copy(self)
        args.output_dir = str(Path(self.output_dir) / "checkpoints")
        assert self.global_batch_size
        args.per_device_train_batch_size = self.global_batch_size // (
            self.world_size * self.gradient_accumulation_steps
        )
        precision = choose_precision(self.requested_precision, self.use_cpu)
        args.fp16, args.bf16 = precision == "fp16", precision == "bf16"
        args.mixed_precision = "no" if precision == "fp32" else precision
        args.push_to_hub = False  # the pipeline uploads the finished model, with its model card
        args.save_total_limit = None  # rotation waits for the manifest (ManifestCallback)
        args.remove_unused_columns = False
        for name, value in changes.items():
            setattr(args, name, value)
        return args


def get_default(declared: dataclasses.Field[Any]) -> Any:
    """The default value of a dataclass field."""
    return declared.default if declared.default_factory is dataclasses.MISSING else declared.default_factory()
