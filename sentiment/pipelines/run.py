"""What the Trainers of fine-tuning and adaptation share: options, resuming, and what their logs say afterwards."""

import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import SAFE_WEIGHTS_NAME

from sentiment.config.arguments import RunArguments
from sentiment.environment import is_main_process
from sentiment.exceptions import DivergenceError, InputError, SaveError, first_line
from sentiment.runs.folder import DIVERGENCE_FILE
from sentiment.storage import compute_sha256, replace_folder, write_json
from sentiment.training.callbacks import EpochTimerCallback
from sentiment.training.checkpointing import CheckpointingTrainer
from sentiment.training.checkpoints import find_last_checkpoint, quarantine_checkpoints
from sentiment.training.hardware import choose_precision, measure_peak_memory, raise_malloc_thresholds
from sentiment.training.signals import PeriodicCheckpointCallback, SignalListener


def build_training_arguments(args: RunArguments, **own: Any) -> TrainingArguments:
    """Transformers' options for ours; a global batch is dealt evenly to the processes and devices.

    `own`: options of transformers that belong to one strategy; they come before those that all share.

    Raises:
        InputError: the batch cannot be dealt evenly, or the precision is not to be had here.
    """
    precision = choose_precision(args.precision)
    # A launcher's own default would override fp32 silently; the run's precision is decided in one place.
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    has_cuda = torch.cuda.is_available()
    shared: dict[str, Any] = {
        "output_dir": str(Path(args.output_dir) / "checkpoints"),
        "per_device_train_batch_size": args.batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "per_device_eval_batch_size": 64,
        "num_train_epochs": args.num_train_epochs,
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": args.warmup_steps,
        "max_grad_norm": args.max_grad_norm,
        "train_sampling_strategy": args.train_sampling_strategy,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_strategy": "epoch",
        "logging_nan_inf_filter": False,
        "load_best_model_at_end": True,
        "save_total_limit": 2,  # should the newest be damaged
        "restore_callback_states_from_checkpoint": True,
        "seed": args.seed,
        "full_determinism": has_cuda,
        "fp16": precision == "fp16",
        "bf16": precision == "bf16",
        "use_cpu": not (has_cuda or torch.backends.mps.is_available()),
        "dataloader_pin_memory": has_cuda,
        # A stream is read by each process, which keeps its own share: one could not deal batches of unequal shape.
        "accelerator_config": {"dispatch_batches": False},
        "ddp_find_unused_parameters": False,
        "report_to": "none",
    }
    training_args = TrainingArguments(**(shared | own))
    devices = training_args.world_size * max(1, training_args.n_gpu)
    if args.batch_size % (devices * args.gradient_accumulation_steps):
        pieces = f", {args.gradient_accumulation_steps} pieces each" if args.gradient_accumulation_steps > 1 else ""
        raise InputError(
            f"--batch_size {args.batch_size} cannot be dealt evenly to {devices} processes or devices{pieces}"
        )
    training_args.per_device_train_batch_size = args.batch_size // (devices * args.gradient_accumulation_steps)
    return training_args


def replace_progress_callback(trainer: Trainer, callback: TrainerCallback) -> None:
    """Puts this callback in place of the Trainer's own progress bar."""
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(callback)


def check_length(max_seq_length: int, max_positions: int) -> None:
    """Raises InputError where texts may be longer than the model takes."""
    if max_seq_length > max_positions:
        raise InputError(f"--max_seq_length {max_seq_length}: the model takes {max_positions} tokens at most")


def train(trainer: CheckpointingTrainer, args: RunArguments) -> None:
    """Trains to the end, from the last whole checkpoint where asked to and where there is one.

    Raises:
        TrainingInterrupted: SIGINT or SIGTERM came; a checkpoint is written.
        DivergenceError: a loss or gradient is not finite; the checkpoints before are kept.
        SaveError: a checkpoint cannot be written.
        InputError: the checkpoint holds something else, or the training does not fit into the GPU's memory.
    """
    if not torch.cuda.is_available():
        raise_malloc_thresholds()
    checkpoint = choose_resume_checkpoint(trainer.args) if args.resume else None
    divergence_file = Path(args.output_dir) / DIVERGENCE_FILE
    if trainer.is_world_process_zero():
        divergence_file.unlink(missing_ok=True)  # of an attempt before this one
    try:
        with SignalListener() as signals:
            trainer.add_callback(PeriodicCheckpointCallback(signals, args.save_minutes))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except pickle.UnpicklingError as error:  # whole by its manifest, but not what torch.save writes of tensors
        raise InputError(f"cannot go on from {checkpoint}: {first_line(error)}") from error
    except DivergenceError as error:
        if trainer.is_world_process_zero():
            write_json(divergence_file, error.details)
        raise
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is full: lower --batch_size or --max_seq_length, or use more processes"
        ) from error
    finally:
        close_bars(trainer)


def close_bars(trainer: Trainer) -> None:
    """Ends the line of a progress bar, so that what is said next has one of its own."""
    for callback in trainer.callback_handler.callbacks:
        for bar in (getattr(callback, name, None) for name in ("prediction_bar", "training_bar")):
            if bar is not None:
                bar.close()


def choose_resume_checkpoint(training_args: TrainingArguments) -> Path | None:
    """The checkpoint to go on from, or None; says so, and moves newer ones that are damaged out of the way."""
    folder = Path(str(training_args.output_dir))
    with training_args.main_process_first(desc="checkpoints"):
        checkpoint, passed_over = find_last_checkpoint(folder, training_args.world_size)
        if is_main_process():
            quarantine_checkpoints(passed_over)
            start = "the beginning: there is no whole checkpoint" if checkpoint is None else checkpoint
            print(f"Going on from {start}", file=sys.stderr)
    return checkpoint


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """The SHA-256 of the weights, after model and tokenizer are written to the folder, at once.

    Raises:
        SaveError: they cannot be written.
    """
    unfinished = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        replace_folder(unfinished, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise SaveError(f"cannot write {folder}: {first_line(error)}", folder.parent) from error
    return compute_sha256(folder / SAFE_WEIGHTS_NAME)


def get_epoch_timer(trainer: Trainer) -> EpochTimerCallback:
    """The callback that counted the seconds of training."""
    return next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, EpochTimerCallback))


def summarize_resources(trainer: Trainer, examples: float, tokens: float) -> dict[str, Any]:
    """The `resources` of `metrics.json`, for a training that saw so many texts and real tokens."""
    seconds = get_epoch_timer(trainer).seconds
    return {
        "train_seconds": seconds,
        "examples_per_second": examples / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_mb": measure_peak_memory(),
        "precision": describe_precision(trainer.args),
    }


def build_history(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry an evaluation, from the Trainer's log: `epoch`, `step`, `train_loss` and `validation` metrics.

    `train_loss` is the mean over the steps since the evaluation before.
    """
    timings = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time"}
    history: list[dict[str, Any]] = []
    losses: list[tuple[int, float]] = []  # steps that a logged loss is the mean of, and that loss
    last_step = 0
    for entry in log_history:
        if "loss" in entry:
            losses.append((entry["step"] - last_step, entry["loss"]))
            last_step = entry["step"]
        elif "eval_loss" in entry and losses:
            history.append(
                {
                    "epoch": round(entry["epoch"]),
                    "step": entry["step"],
                    "train_loss": sum(steps * loss for steps, loss in losses) / sum(steps for steps, _ in losses),
                    "validation": {
                        name.removeprefix("eval_"): value
                        for name, value in entry.items()
                        if name.startswith("eval_") and name not in timings
                    },
                }
            )
            losses = []
    return history


def get_best_evaluation(trainer: Trainer, history: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of the history whose weights were restored."""
    return next(entry for entry in history if entry["step"] == trainer.state.best_global_step)


def describe_precision(training_args: TrainingArguments) -> str:
    """The number format that the Trainer multiplies matrices in."""
    return "fp16" if training_args.fp16 else "bf16" if training_args.bf16 else "fp32"
