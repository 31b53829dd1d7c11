"""Predictions for raw texts, with the cleaning, length and labels of the training."""

import json
import shutil
from dataclasses import replace
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


def get_positive(prediction: Prediction | None) -> float:
    assert prediction is not None
    return prediction.probabilities["positive"]


def test_predictions_are_in_order(predictor: Predictor) -> None:
    texts = ["a good film", "bad", "not a very good story", "dull " * 12, "great moving ending"]
    predictions = predictor.predict(texts)
    scores = [get_positive(prediction) for prediction in predictions]
    assert len({round(score, 3) for score in scores}) == 5
    assert {prediction.label for prediction in predictions if prediction} == {"negative", "positive"}
    for text, score in zip(texts, scores, strict=True):
        assert get_positive(predictor.predict([text])[0]) == pytest.approx(score, abs=1e-5)


def test_score_is_the_probability_of_the_most_probable_label(predictor: Predictor) -> None:
    renamed = replace(predictor, checkpoint=replace(predictor.checkpoint, labels=("dull", "fair", "fine")))
    expected = Prediction("fair", 0.5, {"dull": 0.1, "fair": 0.5, "fine": 0.4})
    assert renamed.build_prediction([0.1, 0.5, 0.4]) == expected


def test_no_texts(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_texts_are_cleaned_and_truncated_as_in_training(predictor: Predictor) -> None:
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == ("light", 16)
    plain, tagged, long, longer = predictor.predict(
        ["good film", "<p>good<br />film&nbsp;</p>", "good " * 14, "good " * 14 + "bad " * 100]
    )
    assert get_positive(plain) == pytest.approx(get_positive(tagged), abs=1e-6)
    assert get_positive(long) == pytest.approx(get_positive(longer), abs=1e-6)


def test_classic_cleaning_is_read_from_the_config(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = copy_with(tiny_classifier, tmp_path / "m", preprocessing={"cleaning": "classic", "max_seq_length": 5})
    predictor = Predictor.from_pretrained(str(folder))
    assert (predictor.checkpoint.cleaning, predictor.checkpoint.max_seq_length) == ("classic", 5)
    first, second = predictor.predict(["good film bad", "g-o-o-d film bad the story"])
    assert get_positive(first) == pytest.approx(get_positive(second), abs=1e-6)


def test_a_run_folder_is_accepted(tiny_classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_classifier, tmp_path / "model")
    assert Predictor.from_pretrained(str(tmp_path)).predict(["good"])


def test_very_long_texts_are_truncated_first(predictor: Predictor) -> None:
    predictor.predict(["good " * 200_000, "x" * 1_000_000])


@pytest.mark.parametrize("text", ["\ufffe", "😀" * 100, "<" * 1000])
def test_unusual_texts_are_predicted(predictor: Predictor, text: str) -> None:
    assert 0 <= get_positive(predictor.predict([text])[0]) <= 1


def test_a_blank_text_has_no_prediction_and_the_others_keep_theirs(predictor: Predictor) -> None:
    texts = ["", "good", " \t", "<br />", "bad", "\x00", "\u200b\u200d"]
    predictions = predictor.predict(texts)
    assert [prediction is None for prediction in predictions] == [True, False, True, True, False, True, True]
    assert get_positive(predictions[1]) == pytest.approx(get_positive(predictor.predict(["good"])[0]), abs=1e-6)


def test_missing_texts_have_no_prediction_and_numbers_are_named(predictor: Predictor) -> None:
    assert [bool(found) for found in predictor.predict(["good", None, float("nan"), "bad"])] == [
        True,
        False,
        False,
        True,
    ]
    with pytest.raises(InputError, match=r"texts\[1\] is no text, but 3"):
        predictor.predict(["good", 3])


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


def test_labels_are_those_of_the_config(tiny_classifier: Path, tmp_path: Path) -> None:
    swapped = copy_with(tiny_classifier, tmp_path / "swapped", id2label={"0": "POSITIVE", "1": "NEGATIVE"})
    plain = copy_with(tiny_classifier, tmp_path / "plain", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    (renamed,), (expected,) = (Predictor.from_pretrained(str(one)).predict(["good"]) for one in (swapped, plain))
    assert renamed is not None
    assert expected is not None
    assert renamed.probabilities == {
        "POSITIVE": expected.probabilities["negative"], "NEGATIVE": expected.probabilities["positive"],
    }  # fmt: skip
