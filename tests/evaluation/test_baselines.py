"""Baselines: what they find, and how a model is compared with the best of them."""

from typing import Any

import numpy as np
import pytest

from sentiment.config.data_arguments import METRICS
from sentiment.evaluation.baselines import build_tfidf_features, evaluate_baselines, scale_features
from sentiment.reporting.summaries import describe_best_baseline, list_baselines

CLASSES = ["negative", "positive"]


def build_texts(rows: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts with one word that decides, in four of five rows."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows)
    said = np.where(generator.random(rows) < 0.8, labels, 1 - labels)
    return [f"a {['dull', 'great'][word]} film {number % 7}" for number, word in enumerate(said)], labels


@pytest.fixture(scope="module")
def parts() -> tuple[dict[str, Any], dict[str, Any]]:
    built = {name: build_texts(*sizes) for name, sizes in
             {"train": (400, 1), "validation": (100, 2), "test": (300, 3)}.items()}  # fmt: skip
    return {name: texts for name, (texts, _) in built.items()}, {name: labels for name, (_, labels) in built.items()}


def test_a_word_that_decides_is_found(parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    texts, labels = parts
    features = {"tfidf": build_tfidf_features(texts)}
    perfect = evaluate_baselines(features, labels, labels["test"], CLASSES)
    assert perfect["scores"]["tfidf"]["accuracy"] == pytest.approx(0.8, abs=0.06)
    assert perfect["scores"]["majority"]["accuracy"] == pytest.approx(0.5, abs=0.06)
    assert (perfect["best"], perfect["outcome"]) == ("tfidf", "better")
    assert "the model beats logistic regression on TF-IDF" in describe_best_baseline(perfect)
    assert [name for name, _ in list_baselines(perfect)][-1] == "logistic regression on TF-IDF"
    guessed = evaluate_baselines(features, labels, np.arange(300) % 2, CLASSES)
    assert guessed["outcome"] == "worse"
    assert "the model loses to logistic regression on TF-IDF" in describe_best_baseline(guessed)


@pytest.mark.parametrize("metric", METRICS)
def test_any_metric_can_decide(metric: str, parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    texts, labels = parts
    found = evaluate_baselines({"tfidf": build_tfidf_features(texts)}, labels, labels["test"], CLASSES, metric=metric)
    assert found["metric"] == metric
    assert all(metric in scores for scores in found["scores"].values())
    assert found["difference"] == pytest.approx(1 - found["scores"][found["best"]][metric])


def test_a_model_like_the_baseline_is_not_shown_to_beat_it(parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    texts, labels = parts
    same = np.array(["great" in text for text in texts["test"]]).astype(int)
    found = evaluate_baselines({"tfidf": build_tfidf_features(texts)}, labels, same, CLASSES)
    assert found["outcome"] == "inconclusive"
    assert "is not shown to beat" in describe_best_baseline(found)


def test_the_majority_class_is_beaten_although_it_is_constant() -> None:
    labels = {name: np.array([0] * 60 + [1] * 40) for name in ("train", "validation", "test")}
    noise = np.random.default_rng(0).normal(size=(100, 2))
    features = {"embeddings": dict.fromkeys(labels, noise * 0)}
    found = evaluate_baselines(features, labels, labels["test"], CLASSES)
    assert (found["best"], found["outcome"]) == ("majority", "better")


def test_features_are_scaled_by_the_training_split() -> None:
    scaled = scale_features({"train": np.array([[0.0], [2.0]]), "test": np.array([[3.0]])})
    assert scaled["train"].ravel().tolist() == [-1, 1]
    assert scaled["test"].ravel().tolist() == [2]


def test_texts_without_spaces_have_features_of_characters() -> None:
    texts = {name: ["这部电影很好看", "故事很差"] for name in ("train", "validation", "test")}
    features = build_tfidf_features(texts)
    assert features["test"].shape[1] > 20


def test_a_collapsed_model_loses_to_a_baseline(parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    texts, labels = parts
    found = evaluate_baselines({"tfidf": build_tfidf_features(texts)}, labels, np.zeros(300, int), CLASSES)
    assert (found["best"], found["outcome"]) == ("tfidf", "worse")
