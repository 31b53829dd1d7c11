"""Probabilities of a torch model do not depend on batches, and the model is left in its mode."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from sentiment.exceptions import InputError
from sentiment.inference.backends import predict_probabilities
from sentiment.models.classifier import BertSentimentClassifier, load_trained_classifier

WORDS = ["good", "bad", "dull", "film", "story", "very", "not", "the"]


@pytest.fixture
def model(tiny_classifier: Path) -> BertSentimentClassifier:
    return load_trained_classifier(str(tiny_classifier))


@pytest.fixture(scope="module")
def input_ids(tiny_classifier: Path) -> list[list[int]]:
    """Token ids of texts of 1 to 20 words in random order."""
    generator = np.random.default_rng(0)
    lengths = [int(generator.integers(1, 21)) for _ in range(50)]
    texts = [" ".join(generator.choice(WORDS, length)) for length in lengths]
    found: list[list[int]] = AutoTokenizer.from_pretrained(tiny_classifier)(texts)["input_ids"]
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100])
def test_probabilities_do_not_depend_on_the_batch(
    model: BertSentimentClassifier, input_ids: list[list[int]], batch_size: int
) -> None:
    with torch.inference_mode():
        alone = np.concatenate([model(torch.tensor([ids])).logits.softmax(-1).numpy() for ids in input_ids])
    assert np.std(alone) > 0.1, "probabilities must differ for the comparison to mean anything"
    together = predict_probabilities(model, input_ids, pad_token_id=0, batch_size=batch_size)
    assert together.dtype == np.float64
    assert together == pytest.approx(alone, abs=1e-5)


def test_no_texts(model: BertSentimentClassifier) -> None:
    assert predict_probabilities(model, [], pad_token_id=0).shape == (0, 0)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_restored(
    tiny_classifier: Path, input_ids: list[list[int]], training: bool
) -> None:
    model = load_trained_classifier(str(tiny_classifier))
    model.dropout.p = 0.5
    model.train(training)
    first, second = (predict_probabilities(model, input_ids, pad_token_id=0) for _ in range(2))
    assert (first == second).all()
    assert {module.training for module in model.modules()} == {training}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nan_weights_are_refused(model: BertSentimentClassifier, input_ids: list[list[int]]) -> None:
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    with pytest.raises(InputError, match="the model answers with NaN"):
        predict_probabilities(model, input_ids, pad_token_id=0)
