"""Evaluation of trained classifiers on labelled rows of any dataset."""

from dataclasses import replace
from typing import Any

import numpy as np

from sentiment.data.labelled_rows import LabelledRows
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.calibration import compare_calibration, scale_probabilities
from sentiment.evaluation.metrics import evaluate_probabilities
from sentiment.inference.predictor import Predictor
from sentiment.runs.results import FinishedRun, build_prediction_columns


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


def evaluate_run(run: FinishedRun, labelled: LabelledRows) -> FinishedRun:
    """The run with its test metrics and predictions replaced by those on labelled rows."""
    metrics, columns = evaluate_model(str(run.folder), labelled)
    replaced = {"test": {"before": None, "after": metrics}, "baselines": None}
    predictions = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return replace(run, predictions=predictions, metrics=run.metrics | replaced)
