"""Probabilities in the order of the texts, whatever the batches; and the file that keeps them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from sentiment.evaluation.metrics import choose_labels, compute_metrics, evaluate_probabilities
from sentiment.exceptions import InputError
from sentiment.inference.batching import predict_probabilities
from sentiment.models.classifier import BertSentimentClassifier, load_trained_classifier
from sentiment.runs.results import write_predictions

WORDS = ["good", "bad", "dull", "film", "story", "very", "not", "the"]


@pytest.fixture
def model(tiny_classifier: Path) -> BertSentimentClassifier:
    return load_trained_classifier(str(tiny_classifier))


@pytest.fixture(scope="module")
def input_ids(tiny_classifier: Path) -> list[list[int]]:
    """Texts of 1 to 20 words, short and long in turn."""
    generator = np.random.default_rng(0)
    lengths = [int(generator.integers(1, 21)) for _ in range(50)]
    texts = [" ".join(generator.choice(WORDS, length)) for length in lengths]
    found: list[list[int]] = AutoTokenizer.from_pretrained(tiny_classifier)(texts)["input_ids"]
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100])
def test_each_text_gets_the_answer_that_it_gets_alone(
    model: BertSentimentClassifier, input_ids: list[list[int]], batch_size: int
) -> None:
    with torch.inference_mode():
        alone = [float(model(torch.tensor([ids])).logits.softmax(-1)[0, 1]) for ids in input_ids]
    assert np.std(alone) > 0.1, "answers must differ to tell anything"
    together = predict_probabilities(model, input_ids, pad_token_id=0, batch_size=batch_size)
    assert together.dtype == np.float64
    assert together == pytest.approx(alone, abs=1e-5)


def test_no_texts_have_no_answers(model: BertSentimentClassifier) -> None:
    assert predict_probabilities(model, [], pad_token_id=0).shape == (0,)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_and_answers_without_dropout(
    tiny_classifier: Path, input_ids: list[list[int]], training: bool
) -> None:
    model = load_trained_classifier(str(tiny_classifier))
    model.dropout.p = 0.5
    model.train(training)
    first, second = (predict_probabilities(model, input_ids, pad_token_id=0) for _ in range(2))
    assert (first == second).all()
    assert {module.training for module in model.modules()} == {training}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_of_nan_are_refused(model: BertSentimentClassifier, input_ids: list[list[int]]) -> None:
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    with pytest.raises(InputError, match="the model answers with NaN"):
        predict_probabilities(model, input_ids, pad_token_id=0)


def test_the_likelier_label_is_chosen() -> None:
    assert choose_labels(np.array([0.0, 0.4999, 0.5, 0.5001, 1.0])).tolist() == [0, 0, 0, 1, 1]


def test_evaluation_joins_loss_and_metrics() -> None:
    found = evaluate_probabilities(np.array([0.75, 0.25, 0.5]), [1, 1, 0])
    assert found.pop("loss") == pytest.approx(-np.log([0.75, 0.25, 0.5]).mean())
    assert found == compute_metrics([1, 0, 0], [1, 1, 0])


def test_predictions_file(tmp_path: Path) -> None:
    part = Dataset.from_dict({"row": [7, 3], "text": ["good", "bad"], "label": [1, 1], "key": ["x", "y"]})
    write_predictions(tmp_path / "predictions.parquet", part, np.array([0.9, 1 / 3]))
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table.to_pydict() == {
        "row": [7, 3],
        "text": ["good", "bad"],
        "label": [1, 1],
        "predicted": [1, 0],
        "probability": [0.9, 1 / 3],
    }
    assert table.schema.field("probability").type == "double"
