"""What a model must beat: the majority class, and logistic regressions on TF-IDF and on frozen embeddings."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import spmatrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sentiment.config.data_arguments import METRICS
from sentiment.data.languages import find_language, has_spaces
from sentiment.evaluation.metrics import compute_metrics
from sentiment.evaluation.significance import compare_predictions

# Inverse strengths of the regularisation, of which the best on the validation split is kept.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
MAX_ITERATIONS, TOLERANCE = 300, 1e-3
SCORES = (*METRICS, "accuracy_ci95")
Features = Mapping[str, Any]  # of train, validation and test: matrices of shape (rows, features)


def build_tfidf_features(texts: Mapping[str, Sequence[str]]) -> dict[str, spmatrix]:
    """TF-IDF of words and pairs of words, or of up to three characters in scripts without spaces, for each split."""
    characters: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    words: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, **(words if has_spaces(find_language(texts["train"])) else characters)
    )
    vectorizer.fit(texts["train"])
    return {name: vectorizer.transform(part) for name, part in texts.items()}


def scale_features(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features of each split, standardised by those of the training split."""
    scaler = StandardScaler().fit(features["train"])
    return {name: scaler.transform(part) for name, part in features.items()}


def choose_logistic_regression(
    features: Features, labels: Mapping[str, ArrayLike], class_names: Sequence[str], metric: str
) -> tuple[LogisticRegression, float]:
    """The model of the training split that is best on the validation split, and its score there; `C` tells which."""
    best: tuple[float, Any] | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
        model.fit(features["train"], labels["train"])
        found = compute_metrics(model.predict(features["validation"]), labels["validation"], class_names)
        if best is None or found[metric] > best[0]:
            best = (found[metric], model)
    assert best is not None
    return best[1], best[0]


def fit_logistic_regression(
    features: Features, labels: Mapping[str, ArrayLike], class_names: Sequence[str], metric: str
) -> tuple[np.ndarray, float]:
    """The predicted test labels, and the strength of regularisation that is best on the validation split."""
    model, _ = choose_logistic_regression(features, labels, class_names, metric)
    predicted: np.ndarray = model.predict(features["test"])
    return predicted, float(model.C)


def evaluate_baselines(
    features: Mapping[str, Features],
    labels: Mapping[str, ArrayLike],
    predicted: ArrayLike,
    class_names: Sequence[str],
    clusters: ArrayLike | None = None,
    metric: str = "accuracy",
) -> dict[str, Any]:
    """Test scores of each baseline, and the difference of the model's to the best of them.

    Args:
        features: by baseline beside the majority class, of each split.
        labels: of each split.
        predicted: the model's predictions for the test split.
        class_names: names of the classes.
        clusters: ids of the test rows' clusters.
        metric: what chooses the regularisation and the best baseline, and decides whether the model is better.
    """
    train, test = np.asarray(labels["train"]), np.asarray(labels["test"])
    answers = {"majority": np.full(len(test), np.bincount(train).argmax())}
    baselines: dict[str, dict[str, Any]] = {"majority": {}}
    for name, own in features.items():
        start = time.perf_counter()
        answers[name], strength = fit_logistic_regression(own, labels, class_names, metric)
        baselines[name] = {"C": strength, "seconds": time.perf_counter() - start}
    for name, answer in answers.items():
        scores = compute_metrics(answer, test, class_names, clusters)
        baselines[name] |= {score: scores[score] for score in SCORES if score in scores}
    best = max(baselines, key=lambda name: float(baselines[name][metric]))
    compared = compare_predictions(
        test, answers[best], predicted, clusters, num_classes=len(class_names), metric=metric
    )
    outcome = {"b": "better", "a": "worse", None: "inconclusive"}[compared["better"]]
    difference = {name: compared["metrics"][metric].get(name) for name in ("difference", "difference_ci95")}
    # A comparison gives no verdict on a constant answer, but the majority class is one, and may win or lose.
    if compared["collapsed"] and difference["difference_ci95"]:
        low, high = difference["difference_ci95"]
        outcome = "better" if low > 0 else "worse" if high < 0 else "inconclusive"
    return {"scores": baselines, "best": best, "metric": metric, "outcome": outcome} | difference
