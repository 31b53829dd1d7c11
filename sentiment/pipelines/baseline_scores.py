"""The baselines of a fine-tuning: what the same training rows give without training the encoder."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentiment.data.finetuning_data import RunData
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.baselines import build_tfidf_features, evaluate_baselines, scale_features
from sentiment.exceptions import InputError
from sentiment.inference.embeddings import compute_cached_embeddings

TRAINING_ROWS = 20_000  # at most as many are fitted
logger = logging.getLogger(__name__)


def compute_baselines(
    data: RunData, model_path: str, revision: str | None, predicted: np.ndarray, metric: str, seed: int
) -> dict[str, Any]:
    """The result of `evaluate_baselines` for a run's data and test predictions, and the `rows` that were fitted."""
    train = data.splits["train"]
    rows: Sequence[int] = range(len(train))
    if len(train) > TRAINING_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(train), TRAINING_ROWS, replace=False)).tolist()
    chosen = {"train": rows} | {name: range(len(data.splits[name])) for name in ("validation", "test")}
    splits = {name: data.splits[name].select(own) for name, own in chosen.items()}
    labels = {name: np.asarray(part["label"][:]) for name, part in splits.items()}
    features: dict[str, Any] = {"tfidf": build_tfidf_features({name: part["text"][:] for name, part in splits.items()})}
    try:
        features["embeddings"] = scale_features(
            {
                name: compute_cached_embeddings(model_path, revision, data.tokenized[name].select(own)["input_ids"][:])
                for name, own in chosen.items()
            }
        )
    except InputError as error:
        logger.warning("no baseline on embeddings: %s", error)
    class_names = train.features["label"].names
    clusters = assign_clusters(splits["test"]["text"][:])
    metric = "accuracy" if metric == "loss" else metric
    return evaluate_baselines(features, labels, predicted, class_names, clusters, metric) | {"rows": len(rows)}
