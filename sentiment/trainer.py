"""The Trainer of a fine-tuning: its arguments, its parts, and what its log says afterwards."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    ProgressCallback,
    Trainer,
    TrainingArguments,
)

from sentiment.arguments import FinetuningArguments
from sentiment.evaluation.predictions import evaluate_probabilities
from sentiment.exceptions import InputError
from sentiment.models.classifier import BertSentimentClassifier
from sentiment.preparation import RunData
from sentiment.training.callbacks import DivergenceGuard, EitherImprovesStopping, EpochProgress, EpochTimer
from sentiment.training.checkpoints import find_last_checkpoint
from sentiment.training.optimizer import build_optimizer
from sentiment.training.precision import choose_precision
from sentiment.training.resources import measure_peak_memory


def build_training_arguments(args: FinetuningArguments) -> TrainingArguments:
    """Transformers' options for ours; a global batch is dealt evenly to the processes and devices.

    Raises:
        InputError: the batch cannot be dealt evenly, or the precision is not to be had here.
    """
    precision = choose_precision(args.precision)
    # A launcher's own default would override fp32 silently; the run's precision is decided in one place.
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    has_cuda = torch.cuda.is_available()
    training_args = TrainingArguments(
        output_dir=str(Path(args.output_dir) / "checkpoints"),
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=64,
        num_train_epochs=args.num_train_epochs,
        learning_rate=args.lr,
        lr_scheduler_type="linear",
        warmup_steps=args.warmup_ratio,
        max_grad_norm=args.max_grad_norm,
        train_sampling_strategy=args.train_sampling_strategy,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        save_total_limit=1,
        restore_callback_states_from_checkpoint=True,
        seed=args.seed,
        full_determinism=has_cuda,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        use_cpu=not (has_cuda or torch.backends.mps.is_available()),
        dataloader_pin_memory=has_cuda,
        # Each process draws the order of rows for itself. With accelerate's own sampler they drift apart once dropout
        # has used their random numbers unequally, and some rows are seen twice and others not at all.
        accelerator_config={"use_seedable_sampler": False},
        ddp_find_unused_parameters=False,
        report_to="none",
    )
    devices = training_args.world_size * max(1, training_args.n_gpu)
    if args.batch_size % devices:
        raise InputError(f"--batch_size {args.batch_size} cannot be dealt evenly to {devices} processes or devices")
    training_args.per_device_train_batch_size = args.batch_size // devices
    return training_args


def build_trainer(
    model: BertSentimentClassifier,
    tokenizer: PreTrainedTokenizerBase,
    data: RunData,
    args: FinetuningArguments,
    training_args: TrainingArguments,
) -> Trainer:
    """A Trainer with our optimizer, early stopping and progress bar.

    Raises:
        InputError: texts may be longer than the model takes.
    """
    positions = model.config.max_position_embeddings
    if tokenizer.model_max_length > positions:
        raise InputError(f"--max_length {tokenizer.model_max_length}: the model takes {positions} tokens at most")
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=data.tokenized["train"],
        eval_dataset=data.tokenized["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_trainer_metrics,
        optimizers=(
            build_optimizer(model, args.lr, args.head_lr, args.layer_decay, args.weight_decay),
            None,
        ),
        callbacks=[EitherImprovesStopping(args.early_stopping_patience), EpochTimer(), DivergenceGuard()],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(EpochProgress())
    return trainer


def train(trainer: Trainer, resume: bool) -> None:
    """Trains to the end, from the last whole checkpoint where asked to and where there is one."""
    checkpoint = find_last_checkpoint(Path(str(trainer.args.output_dir))) if resume else None
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is full: lower --batch_size or --max_length, or use more processes"
        ) from error


def compute_trainer_metrics(prediction: EvalPrediction) -> dict[str, Any]:
    """The metrics of an evaluation inside training, from its logits.

    The loss is among them, and replaces the Trainer's own, which averages over batches: where processes share the
    rows, those that fill up the last batch would count twice.
    """
    probabilities = softmax(np.asarray(prediction.predictions, dtype=np.float64), axis=-1)[:, 1]
    return evaluate_probabilities(probabilities, np.asarray(prediction.label_ids))


def summarize_training(trainer: Trainer, lengths: list[int]) -> dict[str, Any]:
    """`history`, `best_epoch` with its `validation` metrics, and `resources`, as `metrics.json` holds them.

    `lengths`: real tokens of each training row.
    """
    history = build_history(trainer.state.log_history)
    best = next(entry for entry in history if entry["step"] == trainer.state.best_global_step)
    timer = next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, EpochTimer))
    return {
        "validation": best["validation"],
        "history": history,
        "best_epoch": best["epoch"],
        "resources": {
            "train_seconds": timer.seconds,
            "examples_per_second": len(lengths) * timer.epochs / timer.seconds,
            "tokens_per_second": sum(lengths) * timer.epochs / timer.seconds,
            "peak_memory_mb": measure_peak_memory(),
            "precision": describe_precision(trainer.args),
        },
    }


def build_history(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry an epoch, from the Trainer's log: `epoch`, `step`, `train_loss` and `validation` metrics."""
    train_losses = {entry["step"]: entry["loss"] for entry in log_history if "loss" in entry}
    speed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [
        {
            "epoch": round(entry["epoch"]),
            "step": entry["step"],
            "train_loss": train_losses[entry["step"]],
            "validation": {
                name.removeprefix("eval_"): value
                for name, value in entry.items()
                if name.startswith("eval_") and name not in speed
            },
        }
        for entry in log_history
        if "eval_loss" in entry
    ]


def describe_precision(training_args: TrainingArguments) -> str:
    """The number format that the Trainer multiplies matrices in."""
    return "fp16" if training_args.fp16 else "bf16" if training_args.bf16 else "fp32"
