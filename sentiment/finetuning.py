"""The one sequence of `e2e` and `finetune`: data, model, trainer, train, evaluate, report."""

import datetime
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from sentiment.arguments import DataArguments, FinetuningArguments, ModelArguments, parse_arguments
from sentiment.data.pretrained import find_pretrained
from sentiment.evaluation.predictions import evaluate_probabilities, predict_probabilities, write_predictions
from sentiment.evaluation.report import write_model_card, write_report
from sentiment.evaluation.terminal import render_before_after
from sentiment.models.classifier import BertSentimentClassifier, load_classifier, load_trained_classifier
from sentiment.models.tokenizer import load_tokenizer
from sentiment.preparation import RunData, compute_fingerprints, load_split_reviews, prepare_data
from sentiment.run_folder import check_same_data, clear_run, is_finished, read_json, write_json
from sentiment.trainer import build_trainer, build_training_arguments, describe_precision, summarize_training, train
from sentiment.training.resources import describe_hardware, is_main_process, list_versions


def main(strategy: str) -> None:
    """Parses the command line, runs the strategy, and prints the before/after table."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    model_args, data_args, args = parse_arguments([ModelArguments, DataArguments, FinetuningArguments])
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
    if is_finished(run_dir, options, args.overwrite, args.resume):
        check_same_data(run_dir, compute_fingerprints(load_split_reviews(data_args, args.seed).splits))
        if is_main_process():
            print(f"{run_dir} holds this run already, finished: nothing is done again", file=sys.stderr)
        return read_json(run_dir / "metrics.json")
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    training_args = build_training_arguments(args)
    set_seed(args.seed)

    model_path = find_pretrained(model_args.model)
    tokenizer = load_tokenizer(model_path, data_args.max_length)
    with training_args.main_process_first(desc="data"):
        data = prepare_data(data_args, args.seed, tokenizer)
    if args.resume:
        check_same_data(run_dir, data.fingerprints)
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
    if trainer.is_world_process_zero():
        model.save_pretrained(run_dir / "model")
        tokenizer.save_pretrained(run_dir / "model")
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
        "hardware": describe_hardware(training_args.device.type, training_args.world_size),
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


def evaluate(
    model: BertSentimentClassifier, part: Dataset, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, Any], Any]:
    """Metrics of the model on a tokenized split, and the probability of `positive` for each of its rows."""
    probabilities = predict_probabilities(model, part["input_ids"][:], tokenizer.pad_token_id)
    return evaluate_probabilities(probabilities, part["labels"][:]), probabilities
