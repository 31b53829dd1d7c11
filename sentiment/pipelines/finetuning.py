"""Fine-tuning on labelled reviews: strategy A (`e2e`), and the second half of strategy B (`finetune`)."""

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import DataCollatorWithPadding, EvalPrediction, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.data_arguments import check_metric
from sentiment.config.parsing import build_arguments, parse_arguments
from sentiment.config.presets import apply_lab_values, choose_training_size
from sentiment.data.corpus import compute_corpus_key, hash_keys
from sentiment.data.finetuning_data import RunData, load_split_reviews, prepare_data
from sentiment.data.leaks import assign_clusters
from sentiment.environment import is_main_process
from sentiment.evaluation.metrics import choose_labels, evaluate_probabilities
from sentiment.exceptions import require
from sentiment.inference.backends import predict_probabilities
from sentiment.inference.batching import compute_probabilities
from sentiment.models.classifier import SentimentClassifier, load_classifier, load_trained_classifier
from sentiment.pipelines.baselines import compute_baselines
from sentiment.pipelines.calibration import calibrate_model, write_calibration
from sentiment.pipelines.run import Run
from sentiment.reporting.finetuning_report import write_report
from sentiment.reporting.model_cards import write_model_card
from sentiment.reporting.terminal import render_before_after
from sentiment.runs.lineage import (
    ADAPTED_RUN,
    HELD_OUT_KEYS_FILE,
    KEYS_FILE,
    check_adapted_model,
    describe_adaptation,
)
from sentiment.runs.results import write_predictions
from sentiment.training.callbacks import MetricOrLossEarlyStoppingCallback
from sentiment.training.class_weights import build_class_weights, build_weighted_loss
from sentiment.training.history import SELECTION, build_history, get_best_evaluation, summarize_resources
from sentiment.training.trainer import SentimentTrainer

IMBALANCED_SHARE = 0.7  # of the largest class, above which macro F1 is suggested
TIE_WEIGHT = 1e-9  # less than a row makes in any metric
ARGUMENTS = (ModelArguments, DataArguments, FinetuningArguments)
# Defaults that differ by strategy.
STRATEGIES: dict[str, dict[str, Any]] = {
    "e2e": {},
    "finetune": {"model_name_or_path": ADAPTED_RUN, "output_dir": "outputs/finetune", "layer_decay": 0.9},
}


def main(strategy: str, flags: Sequence[str] | None = None, **parser_options: Any) -> None:
    """Parses the flags (default: the command line), runs the strategy, and prints the metrics before and after."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    model_args, data_args, args = parse_arguments(ARGUMENTS, flags, STRATEGIES[strategy], **parser_options)
    metrics = FinetuningRun(strategy, model_args, data_args, args).execute()
    if is_main_process():
        print(f"\n{render_before_after(metrics)}\n\nReport: {Path(args.output_dir) / 'report.html'}")


def finetune(
    *,
    model_name_or_path: str | None = None,
    dataset_name: str | None = None,
    output_dir: str | Path | None = None,
    strategy: str = "e2e",
    **options: Any,
) -> dict[str, Any]:
    """Fine-tunes an encoder on labelled reviews.

    Args:
        model_name_or_path: Hub id, local folder, the folder of an adaptation, or `minilm`. Default:
            `google-bert/bert-base-uncased`; of strategy `finetune`: `outputs/mlm`.
        dataset_name: as on the command line. Default: `sst2`.
        output_dir: folder of the run: model, metrics, predictions, report. Default: `outputs/e2e` or
            `outputs/finetune`, by strategy.
        strategy: `e2e`, or `finetune` for a model that was adapted first (layer-wise decay 0.9 by default).
        options: other options of train_e2e.py by their names, such as `learning_rate=1e-4`.

    Returns:
        The metrics of the run, as in its metrics.json.

    Raises:
        InputError: wrong data, model or options; nothing is written then.
    """
    require(strategy in STRATEGIES, f"strategy={strategy!r}: choose from {', '.join(STRATEGIES)}")
    named = {"model_name_or_path": model_name_or_path, "dataset_name": dataset_name, "output_dir": output_dir}
    given = options | {name: value for name, value in named.items() if value is not None}
    defaults = {name: value for name, value in STRATEGIES[strategy].items() if name not in given}
    return FinetuningRun(strategy, *build_arguments(ARGUMENTS, defaults | given)).execute()


class FinetuningRun(Run):
    """A fine-tuning, tested before and after training."""

    start: tuple[str, str | None] = ("", None)  # path and revision of the model that it starts from
    scored_split = "test"

    def complete_arguments(self) -> None:
        """Sets batch size and epochs to the lab report's for its datasets, and for `--preset lab`."""
        apply_lab_values(self.data_args, self.args)

    def choose_arguments(self, data: RunData) -> dict[str, Any]:
        """Sets batch size and epochs that are not given by the number of training rows."""
        rows = len(data.splits["train"])
        chosen = choose_training_size(self.args, rows)
        if chosen and is_main_process():
            values = ", ".join(f"--{name} {value}" for name, value in chosen.items())
            print(f"options by the number of training rows, {rows:,}: {values}", file=sys.stderr)
        largest = max(Counter(data.splits["train"]["label"][:]).values()) / rows
        if largest > IMBALANCED_SHARE and self.args.metric_for_best_model == "accuracy" and is_main_process():
            advice = "--metric macro_f1 counts every class equally, and --class_weights balanced trains for it"
            print(f"{largest:.0%} of the training rows are of one class: {advice}", file=sys.stderr)
        return chosen

    @property
    def progress_metric(self) -> str:
        """The metric of the progress bar."""
        metric: str = self.args.metric_for_best_model
        return "accuracy" if metric == "loss" else metric

    def compute_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the labelled splits."""
        return load_split_reviews(self.data_args, self.args.seed).fingerprints

    def check_model(self) -> None:
        """Raises InputError for the folder of an adaptation that has no model yet."""
        check_adapted_model(self.model_args.model_name_or_path)

    def prepare_data(self, tokenizer: PreTrainedTokenizerBase) -> RunData:
        """Labelled reviews, split, audited and tokenized."""
        # Plain transformers, which has no `head_tail`, then cuts texts as training does.
        tokenizer.truncation_side = "left" if self.data_args.truncation == "tail" else "right"
        return prepare_data(self.data_args, self.args.seed, tokenizer)

    def load_model(self, data: RunData, model_path: str, revision: str | None = None) -> SentimentClassifier:
        """A classifier on the pretrained encoder."""
        self.start = (model_path, revision)
        preprocessing = {name: getattr(self.data_args, name) for name in ("cleaning", "max_seq_length", "truncation")}
        class_names = get_class_names(data.splits["train"])
        return load_classifier(model_path, self.args.dropout, preprocessing, revision, class_names)

    def get_trainer_options(self, data: RunData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Arguments of the Trainer; padding is counted, as what batches of similar length leave of it."""
        columns, class_names = ["input_ids", "labels"], get_class_names(data.splits["train"])
        metric = self.args.metric_for_best_model
        check_metric(metric, class_names)
        weights = build_class_weights(self.args.class_weights, data.splits["train"]["label"][:], class_names)
        loss = build_weighted_loss(weights, self.args.label_smoothing_factor) if weights else None
        return {
            "train_dataset": data.tokenized["train"].select_columns([*columns, "length"]),
            "eval_dataset": data.tokenized["validation"].select_columns(columns),
            "data_collator": DataCollatorWithPadding(tokenizer),
            "compute_metrics": partial(compute_trainer_metrics, class_names, metric),
            "compute_loss_func": loss,
            "callbacks": [MetricOrLossEarlyStoppingCallback(self.args.early_stopping_patience)],
            "row_numbers": data.splits["train"]["row"][:],
            "argument_changes": {
                "include_num_input_tokens_seen": "all",
                "metric_for_best_model": SELECTION,
                "greater_is_better": True,
            },
        }

    def describe(self, data: RunData, model_path: str) -> dict[str, Any]:
        """The data, and the adaptation that the model comes from; raises InputError if that read test texts."""
        return {
            "adaptation": self.describe_base_model(model_path, data.splits[self.scored_split]["text"][:]),
            "data": {
                "dataset": self.data_args.dataset_name,
                "classes": get_class_names(data.splits["train"]),
                "fingerprints": data.fingerprints,
                "audit": data.audit,
            },
        }

    def describe_base_model(self, model_path: str, test_texts: list[str]) -> dict[str, Any] | None:
        """The adaptation that the model comes from, if any; raises InputError if a run before has read test texts."""
        adaptation = describe_adaptation(model_path, test_texts)
        if self.strategy == "finetune" and not adaptation and is_main_process():
            name = self.model_args.model_name_or_path
            print(f"warning: {name} was not adapted here: see `sentiment adapt`", file=sys.stderr)
        return adaptation

    def evaluate_before(
        self, trainer: SentimentTrainer, data: RunData, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Test metrics before training, in the main process, which also writes the hashes of all texts."""
        assert isinstance(trainer.model, SentimentClassifier)
        if not is_main_process():
            return {}
        keys = {name: hash_keys(map(compute_corpus_key, part["text"][:])) for name, part in data.splits.items()}
        # Without those of texts that differ from a test text in spaces only: a run of the same split may start here.
        np.save(self.run_dir / KEYS_FILE, np.setdiff1d(keys["train"], keys["test"]), allow_pickle=False)
        held_out = np.union1d(keys["validation"], keys["test"])
        np.save(self.run_dir / HELD_OUT_KEYS_FILE, held_out, allow_pickle=False)
        return evaluate(trainer.model, data.tokenized["test"], tokenizer, data.splits["test"])[0]

    def summarize(
        self, trainer: SentimentTrainer, data: RunData, tokenizer: PreTrainedTokenizerBase, before: dict[str, Any]
    ) -> dict[str, Any]:
        """Test metrics before and after, validation metrics, history and resources; writes the test predictions."""
        # The saved model, not the Trainer's: that one's forward pass keeps rounding to the precision of training.
        trained = load_trained_classifier(str(self.run_dir / "model"), trainer.args.device)
        after, probabilities = evaluate(trained, data.tokenized["test"], tokenizer, data.splits["test"])
        calibrated, evaluated = calibrate_model(trained, data, tokenizer, probabilities, self.args.target_accuracy)
        write_calibration(self.run_dir / "model", evaluated["calibration"]["temperature"])
        write_predictions(self.run_dir / "predictions.parquet", data.splits["test"], calibrated)
        if self.args.baselines:
            metric, seed = self.args.metric_for_best_model, self.args.seed
            predicted = choose_labels(probabilities)
            evaluated["baselines"] = compute_baselines(data, *self.start, predicted, metric, seed)
        training = self.summarize_training(trainer, data)
        return {
            "test": {"before": before, "after": after},
            "validation": training["validation"],
            **evaluated,
            **training,
        }

    def summarize_training(self, trainer: SentimentTrainer, data: RunData) -> dict[str, Any]:
        """Validation metrics of the best epoch, history and resources."""
        history = build_history(trainer.state.log_history)
        best = get_best_evaluation(trainer, history)
        lengths = data.tokenized["train"]["length"][:]
        epochs = trainer.state.epoch or 0
        tokens, positions = sum(lengths) * epochs, trainer.state.num_input_tokens_seen
        has_whole_epochs = epochs == int(epochs) and positions >= tokens  # else the tokens are an estimate
        return {
            "validation": best["validation"],
            "history": history,
            "best_epoch": best["epoch"],
            "resources": summarize_resources(trainer, len(lengths) * epochs, tokens)
            | {"padding_share": 1 - tokens / positions if has_whole_epochs else None},
        }

    def write_reports(
        self, record: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Writes the model card and the report."""
        write_model_card(self.run_dir / "model", record, metrics)
        write_report(self.run_dir, record, metrics, tokenizer)


def get_class_names(part: Dataset) -> list[str]:
    """The names of the classes of a labelled split, in the order of their ids."""
    names: list[str] = part.features["label"].names
    return names


def compute_trainer_metrics(class_names: Sequence[str], metric: str, prediction: EvalPrediction) -> dict[str, Any]:
    """Metrics of an evaluation inside training, from its logits, and `SELECTION`, whose largest value is the best.

    Of evaluations with an equal `metric`, the one with the lower loss is the better one.

    The loss is among them and replaces the Trainer's own, a mean over batches, in which rows that pad the last batch of
    several processes count twice.
    """
    probabilities = compute_probabilities(np.asarray(prediction.predictions))
    metrics = evaluate_probabilities(probabilities, np.asarray(prediction.label_ids), class_names)
    loss: float = metrics["loss"]
    score = -loss if metric == "loss" else metrics[metric] - TIE_WEIGHT * loss / (1 + loss)
    return metrics | {SELECTION: score}


def evaluate(
    model: SentimentClassifier, tokenized: Dataset, tokenizer: PreTrainedTokenizerBase, part: Dataset
) -> tuple[dict[str, Any], np.ndarray]:
    """Metrics of the model on a split and its tokenized rows, and probabilities of shape (rows, classes)."""
    probabilities = predict_probabilities(model, tokenized["input_ids"][:], tokenizer.pad_token_id)
    clusters = assign_clusters(part["text"][:])
    return evaluate_probabilities(probabilities, part["label"][:], get_class_names(part), clusters), probabilities
