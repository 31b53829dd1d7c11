"""A checkpoint as a predictor: the cleaning, length and names of its training, from raw texts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sentiment.exceptions import InputError
from sentiment.inference.predictor import Prediction, SentimentPredictor


@pytest.fixture(scope="module")
def predictor(tiny_classifier: Path) -> SentimentPredictor:
    return SentimentPredictor.from_pretrained(str(tiny_classifier))


def copy_with(folder: Path, target: Path, **config: Any) -> Path:
    """A copy of the model folder with other values in its config; None takes a key out."""
    shutil.copytree(folder, target)
    found = json.loads((target / "config.json").read_text()) | config
    (target / "config.json").write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return target


def test_labels_and_probabilities_in_order(predictor: SentimentPredictor) -> None:
    texts = ["a good film", "bad", "not a very good story", "dull " * 12, "great moving ending"]
    predictions = predictor.predict(texts)
    assert len({round(prediction.probability, 3) for prediction in predictions}) == 5
    assert {prediction.label for prediction in predictions} == {"negative", "positive"}
    for text, prediction in zip(texts, predictions, strict=True):
        assert predictor.predict([text])[0].probability == pytest.approx(prediction.probability, abs=1e-5)
        assert prediction.label == ("positive" if prediction.probability > 0.5 else "negative")


def test_confidence_is_that_of_the_label() -> None:
    assert Prediction("negative", 0.25).confidence == 0.75
    assert Prediction("positive", 0.75).confidence == 0.75


def test_nothing_in_nothing_out(predictor: SentimentPredictor) -> None:
    assert predictor.predict([]) == []


def test_texts_are_cleaned_and_cut_as_in_training(predictor: SentimentPredictor) -> None:
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == ("light", 16)
    plain, tagged, long, longer = predictor.predict(
        ["good film", "<p>good<br />film&nbsp;</p>", "good " * 14, "good " * 14 + "bad " * 100]
    )
    assert plain.probability == pytest.approx(tagged.probability, abs=1e-6)
    assert long.probability == pytest.approx(longer.probability, abs=1e-6)


def test_classic_cleaning_is_read_from_the_config(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = copy_with(tiny_classifier, tmp_path / "m", preprocessing={"cleaning": "classic", "max_seq_length": 5})
    predictor = SentimentPredictor.from_pretrained(str(folder))
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == ("classic", 5)
    first, second = predictor.predict(["good film bad", "g-o-o-d film bad the story"])
    assert first.probability == pytest.approx(second.probability, abs=1e-6)


def test_checkpoint_from_elsewhere_gets_the_defaults(tiny_classifier: Path, tmp_path: Path) -> None:
    predictor = SentimentPredictor.from_pretrained(str(copy_with(tiny_classifier, tmp_path / "m", preprocessing=None)))
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == (
        "light",
        64,
    )  # its positions, below 128


def test_the_folder_of_a_run_will_do(tiny_classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_classifier, tmp_path / "model")
    assert SentimentPredictor.from_pretrained(str(tmp_path)).predict(["good"])


def test_long_texts_cost_little(predictor: SentimentPredictor) -> None:
    predictor.predict(["good " * 200_000, "x" * 1_000_000])


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ufffe", "😀" * 100, "<" * 1000])
def test_odd_texts_get_an_answer(predictor: SentimentPredictor, text: str) -> None:
    assert 0 <= predictor.predict([text])[0].probability <= 1


def test_lone_surrogate_is_refused_by_its_place(predictor: SentimentPredictor) -> None:
    with pytest.raises(InputError, match="text 2 holds a lone surrogate"):
        predictor.predict(["good", "\ud800 bad"])


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        SentimentPredictor.from_pretrained(str(folder))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_what_is_no_trained_model(tiny_classifier: Path, tiny_bert: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "missing").startswith(f"no model in {tmp_path / 'missing'}: pass the folder")
    assert refused(tmp_path).startswith(f"no model in {tmp_path}")
    assert "holds no trained classifier" in refused(tiny_bert)
    unknown = copy_with(tiny_classifier, tmp_path / "m", preprocessing={"cleaning": "shiny", "max_seq_length": 5})
    assert "{'cleaning': 'shiny', 'max_seq_length': 5}" in refused(unknown)


def test_labels_by_other_names_are_refused_and_not_read_by_their_place(tiny_classifier: Path, tmp_path: Path) -> None:
    swapped = copy_with(tiny_classifier, tmp_path / "swapped", id2label={"0": "POSITIVE", "1": "NEGATIVE"})
    assert "label 0 must be negative" in refused(swapped)
    plain = copy_with(tiny_classifier, tmp_path / "plain", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert SentimentPredictor.from_pretrained(str(plain)).predict(["good"])[0].label in ("negative", "positive")
