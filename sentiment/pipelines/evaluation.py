"""Evaluation of classifiers: during training, on a split of a run, and on labelled rows of any dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase

from sentiment.data.labelled_rows import LabelledRows
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.calibration import compare_calibration, scale_probabilities
from sentiment.evaluation.intervals import compute_proportion_interval
from sentiment.evaluation.metrics import evaluate_probabilities
from sentiment.inference.backends import predict_probabilities
from sentiment.inference.batching import compute_probabilities
from sentiment.inference.predictor import Predictor
from sentiment.models.classifier import SentimentClassifier
from sentiment.runs.results import FinishedRun, build_prediction_columns
from sentiment.training.history import SELECTION

TIE_WEIGHT = 1e-9  # less than a row makes in any metric


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


def evaluate_split(
    model: SentimentClassifier, tokenized: Dataset, tokenizer: PreTrainedTokenizerBase, part: Dataset
) -> tuple[dict[str, Any], np.ndarray]:
    """Metrics of the model on a split and its tokenized rows, and probabilities of shape (rows, classes)."""
    probabilities = predict_probabilities(model, tokenized["input_ids"][:], tokenizer.pad_token_id)
    clusters = assign_clusters(part["text"][:])
    return evaluate_probabilities(probabilities, part["label"][:], get_class_names(part), clusters), probabilities


def evaluate_model(model: str, labelled: LabelledRows) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of a model on labelled rows, and its predictions as columns of predictions.parquet.

    Raises:
        InputError: no trained classifier, or one without a class of these rows.
    """
    predictor = Predictor.from_pretrained(model)
    class_names = predictor.checkpoint.labels
    texts, labels = labelled.texts, labelled.align_labels(class_names, model)
    probabilities = predictor.predict_probabilities(texts)
    temperature = predictor.checkpoint.temperature
    uncalibrated = scale_probabilities(probabilities, 1 / temperature)
    metrics = evaluate_probabilities(uncalibrated, labels, class_names, assign_clusters(texts))  # as a run's report
    metrics["calibration"] = compare_calibration(uncalibrated, labels, temperature)
    rows = {"row": labelled.rows["row"][:], "text": texts, "label": labels}
    return metrics, build_prediction_columns(rows, class_names, probabilities)


def evaluate_new_texts(predictions: Mapping[str, Any], is_new: np.ndarray) -> dict[str, Any]:
    """Rows and accuracy, None without a row, of the texts that are new to a model, from its predictions on all."""
    correct = (np.asarray(predictions["predicted"]) == np.asarray(predictions["label"]))[is_new]
    if not len(correct):
        return {"rows": 0, "accuracy": None, "accuracy_ci95": None}
    clusters = assign_clusters([*compress(predictions["text"], is_new)])
    interval = compute_proportion_interval(correct, clusters)
    return {"rows": len(correct), "accuracy": float(correct.mean()), "accuracy_ci95": interval}


def evaluate_run(run: FinishedRun, labelled: LabelledRows) -> FinishedRun:
    """The run with its test metrics and predictions replaced by those on labelled rows."""
    metrics, columns = evaluate_model(str(run.folder), labelled)
    replaced = {"test": {"before": None, "after": metrics}, "baselines": None}
    predictions = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return replace(run, predictions=predictions, metrics=run.metrics | replaced)
