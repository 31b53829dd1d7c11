"""The one sequence of `e2e` and `finetune`: data, model, trainer, train, evaluate, report."""

import datetime
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging

from sentiment.arguments import DataArguments, FinetuningArguments, ModelArguments, parse_arguments
from sentiment.data.pretrained import find_pretrained
from sentiment.evaluation.predictions import evaluate_probabilities, predict_probabilities, write_predictions
from sentiment.evaluation.report import write_model_card, write_report
from sentiment.evaluation.terminal import render_before_after
from sentiment.exceptions import InputError
from sentiment.models.classifier import BertSentimentClassifier, load_classifier, load_trained_classifier
from sentiment.models.tokenizer import load_tokenizer
from sentiment.preparation import RunData, prepare_data
from sentiment.run_folder import clear_run, is_finished, read_json, write_json
from sentiment.training.callbacks import DivergenceGuard, EitherImprovesStopping, EpochProgress, EpochTimer
from sentiment.training.optimizer import build_optimizer
from sentiment.training.precision import choose_precision
from sentiment.training.resources import describe_hardware, list_versions, measure_peak_memory


def main(strategy: str) -> None:
    """Parses the command line, runs the strategy, and prints the before/after table."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    model_args, data_args, args = parse_arguments([ModelArguments, DataArguments, FinetuningArguments])
    metrics = finetune(strategy, model_args, data_args, args)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"\n{render_before_after(metrics)}\n\nReport: {Path(args.output_dir) / 'report.html'}")


def finetune(
    strategy: str, model_args: ModelArguments, data_args: DataArguments, args: FinetuningArguments
) -> dict[str, Any]:
    """The run's metrics, as in its `metrics.json`; everything else is in its folder, `args.output_dir`.

    A folder that already holds this very run, finished, is left as it is.

    Raises:
        InputError: wrong data, model or options; nothing is written then.
    """
    run_dir = Path(args.output_dir)
    options = asdict(model_args) | asdict(data_args) | asdict(args)
    if is_finished(run_dir, options, args.overwrite, args.resume):
        print(f"{run_dir} holds this run already, finished: nothing is done again", file=sys.stderr)
        return read_json(run_dir / "metrics.json")
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    training_args = build_training_arguments(args)
    set_seed(args.seed)

    model_path = find_pretrained(model_args.model)
    tokenizer = load_tokenizer(model_path, data_args.max_length)
    with training_args.main_process_first(desc="data"):
        data = prepare_data(data_args, args.seed, tokenizer)
    preparation = {"cleaning": data_args.cleaning, "max_length": data_args.max_length}
    model = load_classifier(model_path, model_args.dropout, preparation)
    trainer = build_trainer(model, tokenizer, data, args, training_args)
    run: dict[str, Any] = {"strategy": strategy, "started": started.isoformat(timespec="seconds"), "options": options}
    run |= describe_run(model, training_args, data, options)

    before: dict[str, Any] = {}
    if trainer.is_world_process_zero():
        if args.overwrite:
            clear_run(run_dir)
        write_json(run_dir / "run.json", run)
        before, _ = evaluate(model, data.tokenized["test"], tokenizer)
    trainer.accelerator.wait_for_everyone()

    train(trainer, args.resume)
    trainer.save_model(str(run_dir / "model"))
    if trainer.is_world_process_zero():
        summary = summarize_training(trainer, data.tokenized["train"]["length"][:])
        # Read back, and not the Trainer's own: that one's forward keeps rounding to the precision of training.
        trained = load_trained_classifier(str(run_dir / "model"), training_args.device)
        after, probabilities = evaluate(trained, data.tokenized["test"], tokenizer)
        metrics: dict[str, Any] = {"test": {"before": before, "after": after}} | summary
        run["seconds"] = time.perf_counter() - clock
        run["peak_memory_mb"] = metrics["resources"]["peak_memory_mb"]
        write_predictions(run_dir / "predictions.parquet", data.splits["test"], probabilities)
        write_results(run_dir, run, metrics, tokenizer)
    trainer.accelerator.wait_for_everyone()
    return read_json(run_dir / "metrics.json")


def describe_run(
    model: BertSentimentClassifier, training_args: TrainingArguments, data: RunData, options: dict[str, Any]
) -> dict[str, Any]:
    """What `run.json` says of the machine, the model and the data, beside the options."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": list_versions(),
        "hardware": describe_hardware(training_args.world_size),
        "model": {
            "name": options["model"],
            "parameters": model.num_parameters(),
            "num_hidden_layers": model.config.num_hidden_layers,
            "hidden_size": model.config.hidden_size,
        },
        "precision": describe_precision(training_args),
        "seed": options["seed"],
        "data": {"dataset": options["dataset"], "fingerprints": data.fingerprints, "audit": data.audit},
    }


def write_results(
    run_dir: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Writes `run.json`, the model card and the report, and `metrics.json` last: with it, the run is finished."""
    write_json(run_dir / "run.json", run)
    write_model_card(run_dir / "model", run, metrics)
    write_report(run_dir, run, metrics, tokenizer)
    write_json(run_dir / "metrics.json", metrics)


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
        train_sampling_strategy="group_by_length" if args.group_by_length else "random",
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
    """Trains to the end, from the last checkpoint where asked to and where there is one."""
    folder = trainer.args.output_dir
    assert folder is not None  # build_training_arguments sets it
    checkpoint = get_last_checkpoint(folder) if resume and Path(folder).is_dir() else None
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
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


def evaluate(
    model: BertSentimentClassifier, part: Dataset, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, Any], Any]:
    """Metrics of the model on a tokenized split, and the probability of `positive` for each of its rows."""
    probabilities = predict_probabilities(model, part["input_ids"][:], tokenizer.pad_token_id)
    return evaluate_probabilities(probabilities, part["labels"][:]), probabilities


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
