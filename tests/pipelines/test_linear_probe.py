"""Linear probing first: the head answers as scikit-learn's model, for two classes and more, and is fitted once."""

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.data.finetuning_data import RunData
from sentiment.data.tokenization import tokenize_reviews
from sentiment.exceptions import TrainingInterrupted
from sentiment.inference.backends import predict_probabilities
from sentiment.models.classifier import SentimentClassifier, load_classifier
from sentiment.pipelines import linear_probe
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.pipelines.linear_probe import compute_head_inputs, fit_head


def build_data(folder: Path, texts: list[tuple[str, int]], names: list[str]) -> RunData:
    features = Features(text=Value("string"), label=ClassLabel(names=names), row=Value("int64"))
    parts = {"train": texts[: len(texts) // 2], "validation": texts[len(texts) // 2 :]}
    splits = DatasetDict(
        {
            name: Dataset.from_dict(
                {"text": [text for text, _ in part], "label": [label for _, label in part], "row": range(len(part))},
                features=features,
            )
            for name, part in parts.items()
        }
    )
    tokenized = tokenize_reviews(splits, AutoTokenizer.from_pretrained(folder), 16)
    return RunData(splits, tokenized, {}, {}, [])


WORDS = ("good", "bad", "story", "great", "dull", "scene")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_the_head_answers_as_the_logistic_regression(
    build_tiny_encoder: Callable[[str], Path], kind: str, classes: int
) -> None:
    folder = build_tiny_encoder(kind)
    names = [f"class {number}" for number in range(classes)]
    generator = np.random.default_rng(0)
    labels = [int(label) for label in generator.integers(classes, size=120)]
    texts = [(f"the {WORDS[label]} {generator.choice(WORDS)} is {generator.choice(WORDS)}", label) for label in labels]
    data = build_data(folder, texts, names)
    torch.manual_seed(0)
    model = load_classifier(str(folder), class_names=names, dropout=0.1)
    found = fit_head(model, data, "accuracy")
    features = {part: compute_head_inputs(model, data.tokenized[part]["input_ids"][:]) for part in data.tokenized}
    scaler = StandardScaler().fit(features["train"])
    reference = LogisticRegression(C=found["C"], max_iter=300, tol=1e-3)
    reference.fit(scaler.transform(features["train"]), data.tokenized["train"]["labels"][:])
    expected = reference.predict_proba(scaler.transform(features["validation"]))
    tokens = data.tokenized["validation"]["input_ids"][:]
    probabilities = predict_probabilities(model.eval(), tokens, model.config.pad_token_id)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    truth = np.array(data.tokenized["validation"]["labels"][:])
    assert found["validation_score"] == pytest.approx(float((expected.argmax(1) == truth).mean()))
    assert found["validation_score"] > 1.2 / classes


def test_a_class_without_training_rows_is_never_predicted(tiny_bert: Path) -> None:
    texts = [(f"the {('good', 'bad')[number % 2]} film", number % 2) for number in range(40)]
    data = build_data(tiny_bert, texts, ["a", "b", "never"])
    model = load_classifier(str(tiny_bert), class_names=["a", "b", "never"])
    fit_head(model, data, "accuracy")
    probabilities = predict_probabilities(model.eval(), data.tokenized["validation"]["input_ids"][:], 0)
    assert probabilities[:, 2].max() < 0.01


@pytest.fixture
def run(tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path) -> Callable[..., Path]:
    def finetune_tiny(name: str, **options: Any) -> Path:
        data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32, max_rows="200")
        args = FinetuningArguments(
            output_dir=str(tmp_path / name),
            batch_size=32,
            num_train_epochs=2,
            precision="fp32",
            baselines=False,
            linear_probe_first=True,
        )
        FinetuningRun("e2e", ModelArguments(str(tiny_bert_with_dropout)), data_args, replace(args, **options)).execute()
        return tmp_path / name

    return finetune_tiny


def read(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_training_starts_from_the_fitted_head(run: Callable[..., Path]) -> None:
    """With a rate that moves nothing, the trained model is the probe."""
    probe = read(run("probed", learning_rate=1e-12))
    assert probe["validation"]["accuracy"] == pytest.approx(probe["linear_probe"]["validation_score"])
    assert probe["linear_probe"]["validation_score"] > 0.7
    plain = read(run("plain", learning_rate=1e-12, linear_probe_first=False))
    assert "linear_probe" not in plain
    assert plain["test"]["before"] == probe["test"]["before"]  # measured before the probe


def test_a_resumed_run_does_not_fit_again(
    run: Callable[..., Path],
    signal_at: Callable[[int, int], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[SentimentClassifier] = []

    def count(model: SentimentClassifier, *arguments: Any) -> dict[str, Any]:
        fitted.append(model)
        return fit_head(model, *arguments)

    monkeypatch.setattr(linear_probe, "fit_head", count)
    with signal_at(4, signal.SIGTERM), pytest.raises(TrainingInterrupted):
        run("cut")
    cut = read(run("cut", resume=True))
    assert len(fitted) == 1
    assert cut["linear_probe"]["validation_score"] > 0.7
