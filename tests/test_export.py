"""ONNX files of a checkpoint: equal to torch, of any shape, refused where they are not, and served without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sentiment.export
from sentiment.cli import main
from sentiment.exceptions import InputError
from sentiment.serving.predictor import SentimentPredictor

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "datasets"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refuse())
import sentiment.cli, sentiment.serving.server
from sentiment.serving.predictor import SentimentPredictor
print(SentimentPredictor.from_pretrained(sys.argv[1], "onnx", "fp32").predict_probabilities(["a good film"])[0])
"""


@pytest.fixture(scope="module")
def exported(tiny_classifier: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(tiny_classifier, folder)
    sentiment.export.MAX_LOST_ACCURACY, allowed = 1.0, sentiment.export.MAX_LOST_ACCURACY
    try:  # a model that is not trained may lose anything to rounding
        main(["export", str(folder), "--int8", "--dataset", str(reviews_csv)])
    finally:
        sentiment.export.MAX_LOST_ACCURACY = allowed
    return folder


def test_what_is_written(exported: Path) -> None:
    assert sorted(path.name for path in (exported / "onnx").iterdir()) == [
        "export.json", "model.onnx", "model_int8.onnx",
    ]  # fmt: skip
    assert not list(exported.glob("onnx.part*"))
    report = json.loads((exported / "onnx/export.json").read_text())
    assert report["rows"] == 250
    assert report["refused"] is None
    assert set(report["models"]) == {"torch fp32", "onnx fp32", "onnx int8"}
    assert report["models"]["onnx fp32"]["largest_difference"] < 1e-4
    assert report["models"]["onnx fp32"]["accuracy"] == report["models"]["torch fp32"]["accuracy"]


@pytest.mark.parametrize("texts", [1, 2, 33])
@pytest.mark.parametrize("words", [0, 1, 9, 40])
def test_answers_are_those_of_torch_whatever_the_shape(exported: Path, texts: int, words: int) -> None:
    batch = [("good bad film " * words)[: 5 * (words + row % 3)] for row in range(texts)]
    expected = SentimentPredictor.from_pretrained(str(exported)).predict_probabilities(batch)
    found = SentimentPredictor.from_pretrained(str(exported), "onnx", "fp32").predict_probabilities(batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_batch_mates_change_nothing_in_fp32(exported: Path) -> None:
    predictor = SentimentPredictor.from_pretrained(str(exported), "onnx", "fp32")
    texts = ["good", "a dull film and a very bad story", "great moving ending"]
    alone = [predictor.predict_probabilities([text])[0] for text in texts]
    np.testing.assert_allclose(predictor.predict_probabilities(texts), alone, atol=1e-5)


def test_the_fastest_file_is_taken(exported: Path) -> None:
    assert SentimentPredictor.from_pretrained(str(exported), "onnx", "auto").backend.precision == "int8"


def test_it_is_served_without_torch(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(exported)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = SentimentPredictor.from_pretrained(str(exported)).predict_probabilities(["a good film"])[0]
    assert float(done.stdout) == pytest.approx(expected, abs=1e-5)


def test_int8_that_loses_too_much_is_not_left(
    tiny_classifier: Path, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    monkeypatch.setattr(sentiment.export, "MAX_LOST_ACCURACY", -1.0)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), "--int8", "--dataset", str(reviews_csv)])
    assert "points of accuracy" in str(ended.value.code)
    assert not (folder / "onnx/model_int8.onnx").exists()
    assert (folder / "onnx/model.onnx").exists()


def test_fp32_that_differs_is_not_written(
    tiny_classifier: Path, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    monkeypatch.setattr(sentiment.export, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(SystemExit, match="answers otherwise than torch"):
        main(["export", str(folder), "--dataset", str(reviews_csv)])
    assert not (folder / "onnx").exists()


def test_what_cannot_be_exported(tiny_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no test rows to check the export on"):
        sentiment.export.export_model(str(tiny_classifier))
    with pytest.raises(InputError, match="no model in"):
        sentiment.export.export_model(str(tmp_path))


def test_files_that_cannot_be_served(exported: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write it with `sentiment export"):
        SentimentPredictor.from_pretrained(str(tiny_classifier), "onnx", "fp32")
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    whole = (folder / "onnx/model.onnx").read_bytes()
    (folder / "onnx/model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot load"):
        SentimentPredictor.from_pretrained(str(folder), "onnx", "fp32")
