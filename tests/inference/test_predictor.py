"""Predictions for raw texts, with the cleaning, length and labels of the training."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sentiment.exceptions import InputError
from sentiment.inference.predictor import Prediction, Predictor


@pytest.fixture(scope="module")
def predictor(tiny_classifier: Path) -> Predictor:
    return Predictor.from_pretrained(str(tiny_classifier))


def copy_with(folder: Path, target: Path, **config: Any) -> Path:
    """A copy of the model folder with other values in its config; None removes a key."""
    shutil.copytree(folder, target)
    found = json.loads((target / "config.json").read_text()) | config
    (target / "config.json").write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return target


def test_predictions_are_in_order(predictor: Predictor) -> None:
    texts = ["a good film", "bad", "not a very good story", "dull " * 12, "great moving ending"]
    predictions = predictor.predict(texts)
    assert len({round(prediction.probability, 3) for prediction in predictions}) == 5
    assert {prediction.label for prediction in predictions} == {"negative", "positive"}
    for text, prediction in zip(texts, predictions, strict=True):
        assert predictor.predict([text])[0].probability == pytest.approx(prediction.probability, abs=1e-5)
        assert prediction.label == ("positive" if prediction.probability > 0.5 else "negative")


def test_score_is_the_probability_of_the_label() -> None:
    assert Prediction("negative", 0.25).score == 0.75
    assert Prediction("positive", 0.75).score == 0.75


def test_no_texts(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_texts_are_cleaned_and_truncated_as_in_training(predictor: Predictor) -> None:
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == ("light", 16)
    plain, tagged, long, longer = predictor.predict(
        ["good film", "<p>good<br />film&nbsp;</p>", "good " * 14, "good " * 14 + "bad " * 100]
    )
    assert plain.probability == pytest.approx(tagged.probability, abs=1e-6)
    assert long.probability == pytest.approx(longer.probability, abs=1e-6)


def test_classic_cleaning_is_read_from_the_config(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = copy_with(tiny_classifier, tmp_path / "m", preprocessing={"cleaning": "classic", "max_seq_length": 5})
    predictor = Predictor.from_pretrained(str(folder))
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == ("classic", 5)
    first, second = predictor.predict(["good film bad", "g-o-o-d film bad the story"])
    assert first.probability == pytest.approx(second.probability, abs=1e-6)


def test_a_checkpoint_from_elsewhere_gets_default_preprocessing(tiny_classifier: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(str(copy_with(tiny_classifier, tmp_path / "m", preprocessing=None)))
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == (
        "light",
        64,
    )  # max_position_embeddings, below 128


def test_a_run_folder_is_accepted(tiny_classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_classifier, tmp_path / "model")
    assert Predictor.from_pretrained(str(tmp_path)).predict(["good"])


def test_very_long_texts_are_truncated_first(predictor: Predictor) -> None:
    predictor.predict(["good " * 200_000, "x" * 1_000_000])


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ufffe", "😀" * 100, "<" * 1000])
def test_unusual_texts_are_predicted(predictor: Predictor, text: str) -> None:
    assert 0 <= predictor.predict([text])[0].probability <= 1


def test_a_lone_surrogate_is_refused_with_its_position(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="text 2 holds a lone surrogate"):
        predictor.predict(["good", "\ud800 bad"])


def get_error(folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        Predictor.from_pretrained(str(folder))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_folders_without_a_trained_classifier(tiny_classifier: Path, tiny_bert: Path, tmp_path: Path) -> None:
    assert get_error(tmp_path / "missing").startswith(f"no model in {tmp_path / 'missing'}: pass the folder")
    assert get_error(tmp_path).startswith(f"no model in {tmp_path}")
    assert "holds no trained classifier" in get_error(tiny_bert)
    unknown = copy_with(tiny_classifier, tmp_path / "m", preprocessing={"cleaning": "shiny", "max_seq_length": 5})
    assert "{'cleaning': 'shiny', 'max_seq_length': 5}" in get_error(unknown)


def test_labels_in_another_order_are_refused(tiny_classifier: Path, tmp_path: Path) -> None:
    swapped = copy_with(tiny_classifier, tmp_path / "swapped", id2label={"0": "POSITIVE", "1": "NEGATIVE"})
    assert "label 0 must be negative" in get_error(swapped)
    plain = copy_with(tiny_classifier, tmp_path / "plain", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert Predictor.from_pretrained(str(plain)).predict(["good"])[0].label in ("negative", "positive")
