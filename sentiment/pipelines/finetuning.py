"""The one sequence of `e2e` and `finetune`: data, model, trainer, train, evaluate, report."""

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import softmax
from transformers import DataCollatorWithPadding, EvalPrediction, PreTrainedTokenizerBase, Trainer, set_seed
from transformers import TrainingArguments as TransformersArguments
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.parsing import parse_arguments
from sentiment.data.finetuning_data import RunData, compute_fingerprints, load_split_reviews, prepare_data
from sentiment.environment import is_main_process
from sentiment.evaluation.metrics import evaluate_probabilities
from sentiment.inference.batching import predict_probabilities
from sentiment.models.classifier import BertSentimentClassifier, load_classifier, load_trained_classifier
from sentiment.models.loading import load_tokenizer
from sentiment.models.model_folder import resolve_model
from sentiment.pipelines.run import (
    build_history,
    build_training_arguments,
    check_length,
    get_best_evaluation,
    get_epoch_timer,
    replace_progress_callback,
    save_model,
    summarize_resources,
    train,
)
from sentiment.reporting.finetuning_report import write_report
from sentiment.reporting.model_cards import write_model_card
from sentiment.reporting.terminal import render_before_after
from sentiment.runs.folder import check_same_data, lock_run_dir, remove_previous_run
from sentiment.runs.lineage import ADAPTED_RUN, check_adapted_model, describe_adaptation
from sentiment.runs.record import build_run_record, load_finished_metrics, merge_previous_record
from sentiment.runs.results import write_predictions
from sentiment.storage import read_json, write_json
from sentiment.training.adversarial import AdversarialTrainer
from sentiment.training.callbacks import EpochProgressCallback, EpochTimerCallback, MetricOrLossEarlyStoppingCallback
from sentiment.training.hardware import limit_onednn_caches
from sentiment.training.optimization import build_optimizer

# What each strategy changes of the options' defaults.
STRATEGIES: dict[str, dict[str, Any]] = {
    "e2e": {},
    "finetune": {"model_name_or_path": ADAPTED_RUN, "output_dir": "outputs/finetune", "layer_decay": 0.9},
}


def main(strategy: str) -> None:
    """Parses the command line, runs the strategy, and prints the before/after table."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    classes = [ModelArguments, DataArguments, FinetuningArguments]
    model_args, data_args, args = parse_arguments(classes, defaults=STRATEGIES[strategy])
    metrics = finetune(strategy, model_args, data_args, args)
    if is_main_process():
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

    def fingerprint_data() -> dict[str, str]:
        return compute_fingerprints(load_split_reviews(data_args, args.seed).splits)

    with lock_run_dir(run_dir) if is_main_process() else nullcontext():
        finished = load_finished_metrics(run_dir, options, args, fingerprint_data)
        return run_finetuning(strategy, model_args, data_args, args) if finished is None else finished


def run_finetuning(
    strategy: str, model_args: ModelArguments, data_args: DataArguments, args: FinetuningArguments
) -> dict[str, Any]:
    """The sequence of `finetune`, in a folder that is not finished and held by nobody else."""
    run_dir = Path(args.output_dir)
    clock = time.perf_counter()
    limit_onednn_caches()
    training_args = build_training_arguments(
        args,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        include_num_input_tokens_seen="all",  # padding too: what batches by length leave of it
    )
    set_seed(args.seed)

    check_adapted_model(model_args.model_name_or_path)
    model_path = resolve_model(model_args.model_name_or_path)
    tokenizer = load_tokenizer(model_path, data_args.max_seq_length)
    with training_args.main_process_first(desc="data"):
        data = prepare_data(data_args, args.seed, tokenizer)
    if args.resume:
        check_same_data(run_dir, data.fingerprints)
    adaptation = describe_adaptation(model_path, data.splits["test"]["text"][:])
    preprocessing = {"cleaning": data_args.cleaning, "max_seq_length": data_args.max_seq_length}
    model = load_classifier(model_path, args.dropout, preprocessing)
    check_length(data_args.max_seq_length, model.config.max_position_embeddings)
    trainer = build_trainer(model, tokenizer, data, args, training_args)
    options = asdict(model_args) | asdict(data_args) | asdict(args)
    run = build_run_record(strategy, options, model, training_args) | {"adaptation": adaptation}
    run["data"] = {"dataset": data_args.dataset_name, "fingerprints": data.fingerprints, "audit": data.audit}

    before: dict[str, Any] = {}
    if trainer.is_world_process_zero():
        if args.overwrite:
            remove_previous_run(run_dir)
        merge_previous_record(run_dir, run)
        write_json(run_dir / "run.json", run)
        before, _ = evaluate(model, data.tokenized["test"], tokenizer)
    trainer.accelerator.wait_for_everyone()

    train(trainer, args)
    if trainer.is_world_process_zero():
        run["model"]["weights_sha256"] = save_model(model, tokenizer, run_dir / "model")
        # Read back, and not the Trainer's own: that one's forward keeps rounding to the precision of training.
        trained = load_trained_classifier(str(run_dir / "model"), training_args.device)
        after, probabilities = evaluate(trained, data.tokenized["test"], tokenizer)
        summary = summarize_training(trainer, data.tokenized["train"]["length"][:])
        metrics = {"test": {"before": before, "after": after}} | summary
        run["seconds"] = time.perf_counter() - clock
        run["peak_memory_mb"] = metrics["resources"]["peak_memory_mb"]
        write_predictions(run_dir / "predictions.parquet", data.splits["test"], probabilities)
        write_results(run_dir, run, metrics, tokenizer)
    trainer.accelerator.wait_for_everyone()
    return read_json(run_dir / "metrics.json")


def build_trainer(
    model: BertSentimentClassifier,
    tokenizer: PreTrainedTokenizerBase,
    data: RunData,
    args: FinetuningArguments,
    training_args: TransformersArguments,
) -> AdversarialTrainer:
    """A Trainer with our optimizer, early stopping and progress bar."""
    optimizer = build_optimizer(model, args.learning_rate, args.head_lr, args.layer_decay, args.weight_decay)
    trainer = AdversarialTrainer(
        model=model,
        args=training_args,
        train_dataset=data.tokenized["train"],
        eval_dataset=data.tokenized["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_trainer_metrics,
        optimizers=(optimizer, None),
        callbacks=[MetricOrLossEarlyStoppingCallback(args.early_stopping_patience), EpochTimerCallback()],
        epsilon=args.adversarial_epsilon,
    )
    trainer.row_numbers = data.splits["train"]["row"][:]
    replace_progress_callback(trainer, EpochProgressCallback())
    return trainer


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
    best = get_best_evaluation(trainer, history)
    epochs = get_epoch_timer(trainer).epochs
    tokens = sum(lengths) * epochs
    seen = trainer.state.num_input_tokens_seen  # none of the epochs that were trained before it was counted
    padding_share = 1 - tokens / seen if seen >= tokens else None
    return {
        "validation": best["validation"],
        "history": history,
        "best_epoch": best["epoch"],
        "resources": summarize_resources(trainer, len(lengths) * epochs, tokens) | {"padding_share": padding_share},
    }


def write_results(
    run_dir: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Writes `run.json`, the model card and the report, and `metrics.json` last: with it, the run is finished."""
    write_json(run_dir / "run.json", run)
    write_model_card(run_dir / "model", run, metrics)
    write_report(run_dir, run, metrics, tokenizer)
    write_json(run_dir / "metrics.json", metrics)
