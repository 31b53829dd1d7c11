"""Calibration and abstention of a fine-tuned model: temperature and threshold, chosen on the validation split."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from sentiment.data.finetuning_data import RunData
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.abstention import choose_threshold, evaluate_abstention
from sentiment.evaluation.calibration import compare_calibration, fit_temperature, scale_probabilities
from sentiment.inference.backends import predict_probabilities
from sentiment.models.classifier import SentimentClassifier
from sentiment.storage import read_json, write_json


def calibrate_model(
    model: SentimentClassifier,
    data: RunData,
    tokenizer: PreTrainedTokenizerBase,
    test_probabilities: np.ndarray,
    target_accuracy: float,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The calibrated test probabilities, and the `calibration` and `abstention` of metrics.json.

    Args:
        model: the trained model.
        data: its validation split chooses the temperature, and the threshold for the target accuracy.
        tokenizer: gives the padding.
        test_probabilities: uncalibrated, of shape (rows, classes).
        target_accuracy: of the answers above the threshold.
    """
    validation = data.tokenized["validation"]
    probabilities = predict_probabilities(model, validation["input_ids"][:], tokenizer.pad_token_id)
    true = np.asarray(data.splits["validation"]["label"][:])
    temperature = fit_temperature(np.log(np.clip(probabilities, np.finfo(float).tiny, 1)), true)
    confidences = scale_probabilities(probabilities, temperature).max(axis=1)
    threshold = choose_threshold(confidences, probabilities.argmax(axis=1) == true, target_accuracy)
    test, calibrated = data.splits["test"], scale_probabilities(test_probabilities, temperature)
    labels, clusters = np.asarray(test["label"][:]), assign_clusters(test["text"][:])
    correct = calibrated.argmax(axis=1) == labels
    return calibrated, {
        "calibration": compare_calibration(test_probabilities, labels, temperature),
        "abstention": evaluate_abstention(calibrated.max(axis=1), correct, threshold, target_accuracy, clusters),
    }


def write_calibration(model_dir: Path, temperature: float) -> None:
    """Adds the temperature to a model's config, from where predictions take it."""
    config = read_json(model_dir / "config.json")
    write_json(model_dir / "config.json", config | {"calibration": {"temperature": temperature}})
