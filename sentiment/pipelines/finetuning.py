"""Fine-tuning on labelled reviews: strategy A (`e2e`), and the second half of strategy B (`finetune`)."""

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.data_arguments import check_metric
from sentiment.config.parsing import build_arguments, parse_arguments
from sentiment.config.presets import apply_lab_values, choose_training_size
from sentiment.data.augmentation.augmenter import Augmenter
from sentiment.data.corpus import Corpus, compute_corpus_key, hash_keys
from sentiment.data.finetuning_data import RunData, list_held_out_texts, load_split_reviews, prepare_data
from sentiment.environment import is_main_process
from sentiment.evaluation.metrics import choose_labels
from sentiment.exceptions import require
from sentiment.models.classifier import SentimentClassifier, load_classifier, load_trained_classifier
from sentiment.pipelines import augmentation, self_training
from sentiment.pipelines.baseline_scores import compute_baselines
from sentiment.pipelines.calibrated_predictions import calibrate_model, write_calibration
from sentiment.pipelines.evaluation import compute_trainer_metrics, evaluate_split, get_class_names
from sentiment.pipelines.linear_probe import run_linear_probe
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
    augmenter: Augmenter | None = None
    unlabelled: Corpus | None = None
    linear_probe: dict[str, Any] | None = None  # what `--linear_probe_first` found
    self_training: dict[str, Any] | None = None  # what `--self_training` added
    training: RunData | None = None  # the data with the training rows of `--self_training`
    scored_split = "test"  # what no model before may have read

    def complete_arguments(self) -> None:
        """Sets batch size and epochs to the lab report's for its datasets, and for `--preset lab`."""
        augmentation.check_kinds(self.args)
        apply_lab_values(self.data_args, self.args)

    def choose_arguments(self, data: RunData) -> dict[str, Any]:
        """Sets batch size and epochs that are not given by the number of training rows."""
        train = (self.training or data).splits["train"]
        rows = len(train)
        chosen = choose_training_size(self.args, rows)
        if chosen and is_main_process():
            values = ", ".join(f"--{name} {value}" for name, value in chosen.items())
            print(f"options by the number of training rows, {rows:,}: {values}", file=sys.stderr)
        largest = max(Counter(train["label"][:]).values()) / rows
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
        """Fingerprints of the labelled splits, and of unlabelled reviews if there are any."""
        reviews = load_split_reviews(self.data_args, self.args.seed)
        return reviews.fingerprints | self.load_unlabelled(reviews.splits, list_held_out_texts(reviews.splits))

    def load_unlabelled(self, splits: DatasetDict, held_out: Sequence[str]) -> dict[str, str]:
        """Reads the unlabelled reviews without those of the splits, if any are asked for; returns their fingerprint."""
        labelled = splits["train"]["text"][:]
        self.unlabelled = augmentation.load_unlabelled_reviews(self.args, self.data_args, held_out, labelled)
        return {} if self.unlabelled is None else {augmentation.UNLABELLED: self.unlabelled.fingerprints["train"]}

    def check_model(self) -> None:
        """Raises InputError for the folder of an adaptation that has no model yet."""
        check_adapted_model(self.model_args.model_name_or_path)

    def prepare_data(self, tokenizer: PreTrainedTokenizerBase) -> RunData:
        """Labelled reviews, split, audited and tokenized."""
        # Plain transformers, which has no `head_tail`, then cuts texts as training does.
        tokenizer.truncation_side = "left" if self.data_args.truncation == "tail" else "right"
        data = prepare_data(self.data_args, self.args.seed, tokenizer, with_test=self.scored_split == "test")
        data.fingerprints |= self.load_unlabelled(data.splits, data.held_out_texts)
        if self.args.self_training:
            assert self.unlabelled is not None
            added, self.self_training = self_training.label_reviews(
                self.args, self.data_args, data, self.unlabelled, tokenizer
            )
            self.training = self_training.add_reviews(data, added, tokenizer, self.data_args)
        return data

    def train(self) -> dict[str, Any]:
        """The metrics; for `--self_training`, a teacher is trained first, in a folder of its own."""
        if self.args.self_training:
            options = self_training.build_teacher_options(self.args, self.options)
            type(self)(self.strategy, *build_arguments(ARGUMENTS, options)).execute()
        return super().train()

    def load_model(self, data: RunData, model_path: str, revision: str | None = None) -> SentimentClassifier:
        """A classifier on the pretrained encoder."""
        self.start = (model_path, revision)
        preprocessing = {name: getattr(self.data_args, name) for name in ("cleaning", "max_seq_length", "truncation")}
        class_names = get_class_names(data.splits["train"])
        model = load_classifier(model_path, self.args.dropout, preprocessing, revision, class_names)
        augmentation.check_dropout(self.args, model)
        return model

    def get_trainer_options(self, data: RunData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Arguments of the Trainer; padding is counted, as what batches of similar length leave of it."""
        class_names = get_class_names(data.splits["train"])
        training = self.training or data
        train = training.splits["train"]
        self.augmenter = augmentation.build_augmenter(self.args, self.data_args, training, tokenizer, self.start)
        metric = self.args.metric_for_best_model
        check_metric(metric, class_names)
        weights = build_class_weights(self.args.class_weights, train["label"][:], class_names)
        loss = build_weighted_loss(weights, self.args.label_smoothing_factor) if weights else None
        return {
            "train_dataset": augmentation.build_training_rows(training, self.augmenter),
            "eval_dataset": data.tokenized["validation"].select_columns(["input_ids", "labels"]),
            "data_collator": augmentation.build_collator(
                self.args, self.data_args, tokenizer, self.augmenter, self.tracker, self.unlabelled
            ),
            "regularization": augmentation.build_regularization(self.args, weights, len(class_names), tokenizer),
            "compute_metrics": partial(compute_trainer_metrics, class_names, metric),
            "compute_loss_func": loss,
            "callbacks": [MetricOrLossEarlyStoppingCallback(self.args.early_stopping_patience)],
            "row_numbers": train["row"][:],
            "argument_changes": {
                "include_num_input_tokens_seen": "all",
                "metric_for_best_model": SELECTION,
                "greater_is_better": True,
            },
        }

    def describe(self, data: RunData, model_path: str) -> dict[str, Any]:
        """The data, and the adaptation that the model comes from; raises InputError if that read test texts."""
        return {
            "adaptation": self.describe_base_model(model_path, data.splits),
            "data": {
                "dataset": self.data_args.dataset_name,
                "classes": get_class_names(data.splits["train"]),
                "fingerprints": data.fingerprints,
                "audit": data.audit,
            },
        }

    def describe_base_model(self, model_path: str, splits: DatasetDict) -> dict[str, Any] | None:
        """The adaptation that the model comes from, if any; raises InputError if a run before has read test texts."""
        scored, validation = (splits[name]["text"][:] for name in (self.scored_split, "validation"))
        adaptation = describe_adaptation(model_path, scored, validation)
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
        # Not those of texts that differ from a held-out text in spaces only: a run of the same split may start here.
        if self.unlabelled is not None:
            keys["train"] = np.union1d(keys["train"], hash_keys(self.unlabelled.splits["train"]["key"][:]))
        held_out = np.union1d(keys["validation"], keys["test"])
        np.save(self.run_dir / KEYS_FILE, np.setdiff1d(keys["train"], held_out), allow_pickle=False)
        np.save(self.run_dir / HELD_OUT_KEYS_FILE, held_out, allow_pickle=False)
        before = evaluate_split(trainer.model, data.tokenized["test"], tokenizer, data.splits["test"])[0]
        self.fit_head_first(trainer, data)
        return before

    def fit_head_first(self, trainer: SentimentTrainer, data: RunData) -> None:
        """Fits the head for `--linear_probe_first`, in the main process; other processes get the weights from it."""
        if self.args.linear_probe_first and is_main_process():
            self.linear_probe = run_linear_probe(trainer, self.args, data)

    def summarize(
        self, trainer: SentimentTrainer, data: RunData, tokenizer: PreTrainedTokenizerBase, before: dict[str, Any]
    ) -> dict[str, Any]:
        """Test metrics before and after, validation metrics, history and resources; writes the test predictions."""
        # The saved model, not the Trainer's: that one's forward pass keeps rounding to the precision of training.
        trained = load_trained_classifier(str(self.run_dir / "model"), trainer.args.device)
        after, probabilities = evaluate_split(trained, data.tokenized["test"], tokenizer, data.splits["test"])
        calibrated, evaluated = calibrate_model(trained, data, tokenizer, probabilities, self.args.target_accuracy)
        write_calibration(self.run_dir / "model", evaluated["calibration"]["temperature"])
        write_predictions(self.run_dir / "predictions.parquet", data.splits["test"], calibrated)
        if self.args.baselines:
            metric, seed = self.args.metric_for_best_model, self.args.seed
            predicted = choose_labels(probabilities)
            evaluated["baselines"] = compute_baselines(data, *self.start, predicted, metric, seed)
        if self.augmenter is not None:
            evaluated["augmentation"] = augmentation.describe_augmentation(self.args, self.augmenter, self.unlabelled)
        for name, found in (("linear_probe", self.linear_probe), ("self_training", self.self_training)):
            if found is not None:
                evaluated[name] = found
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
        lengths = (self.training or data).tokenized["train"]["length"][:]
        epochs = trainer.state.epoch or 0
        tokens, positions = sum(lengths) * epochs, trainer.state.num_input_tokens_seen
        # Else the tokens are an estimate.
        resources = summarize_resources(trainer, len(lengths) * epochs, tokens)
        before = sum(found["seconds"] for found in (self.linear_probe, self.self_training) if found is not None)
        has_whole_epochs = epochs == int(epochs) and positions >= tokens and self.augmenter is None
        return {
            "validation": best["validation"],
            "history": history,
            "best_epoch": best["epoch"],
            "resources": resources
            | {
                "train_seconds": resources["train_seconds"] + before,
                "padding_share": 1 - tokens / positions if has_whole_epochs else None,
            },
        }

    def write_reports(
        self, record: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Writes the model card and the report."""
        write_model_card(self.run_dir / "model", record, metrics)
        write_report(self.run_dir, record, metrics, tokenizer)
