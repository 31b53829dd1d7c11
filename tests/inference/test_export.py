"""ONNX files of a checkpoint: equal to torch for any batch shape, refused if they are not, and run without torch."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest

import sentiment.inference.export
from sentiment.cli import main
from sentiment.exceptions import InputError
from sentiment.inference import onnx_graph
from sentiment.inference.backends import OnnxBackend, compute_torch_logits
from sentiment.inference.checkpoint import ONNX_FILES, load_checkpoint
from sentiment.inference.export import compare_probabilities
from sentiment.inference.predictor import Predictor

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "datasets"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refuse())
import sentiment.cli, sentiment.serving.server
from sentiment.inference.predictor import Predictor
print(Predictor.from_pretrained(sys.argv[1], "onnx", "fp32").predict_probabilities(["a good film"])[0, 1])
"""


@pytest.fixture(scope="module")
def exported(tiny_classifier: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(tiny_classifier, folder)
    sentiment.inference.export.MAX_LOST_ACCURACY, allowed = 1.0, sentiment.inference.export.MAX_LOST_ACCURACY
    try:  # an untrained model may lose any accuracy by rounding
        main(["export", str(folder), "--int8", "--dataset", str(reviews_csv)])
    finally:
        sentiment.inference.export.MAX_LOST_ACCURACY = allowed
    return folder


@pytest.fixture
def reuse_graphs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies the graphs of `exported`, which has the same weights."""

    def write_graphs(_model: object, folder: Path, with_int8: bool) -> None:
        for precision, file in ONNX_FILES.items():
            if precision == "fp32" or with_int8:
                (folder / file).parent.mkdir(exist_ok=True)
                shutil.copy(exported / file, folder / file)

    monkeypatch.setattr(sentiment.inference.export, "write_graphs", write_graphs)


@pytest.fixture
def model_folder(tiny_classifier: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_classifier, tmp_path / "model")
    return tmp_path / "model"


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_and_report(exported: Path) -> None:
    assert list_files(exported / "onnx") == ["export.json", "model.onnx", "model_int8.onnx"]
    assert not list(exported.glob("onnx.part*"))
    report = json.loads((exported / "onnx/export.json").read_text())
    assert {"onnx", "onnxruntime", "onnxscript", "torch", "transformers"} <= set(report["versions"])
    for found in report["models"].values():
        assert found["texts_per_second"] > 0
        assert found["speedup"] == pytest.approx(
            found["texts_per_second"] / report["models"]["torch fp32"]["texts_per_second"], rel=0.01
        )
    assert report["rows"] == 250
    assert report["refused"] is None
    assert set(report["models"]) == {"torch fp32", "onnx fp32", "onnx int8"}
    assert report["models"]["onnx fp32"]["max_difference"] < 1e-4
    assert report["models"]["onnx fp32"]["accuracy"] == report["models"]["torch fp32"]["accuracy"]


@pytest.mark.parametrize("texts", [1, 2, 33])
@pytest.mark.parametrize("words", [0, 1, 9, 40])
def test_probabilities_equal_those_of_torch_for_any_batch_shape(exported: Path, texts: int, words: int) -> None:
    batch = [("good bad film " * words)[: 5 * (words + row % 3)] for row in range(texts)]
    expected = Predictor.from_pretrained(str(exported)).predict_probabilities(batch)
    found = Predictor.from_pretrained(str(exported), "onnx", "fp32").predict_probabilities(batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_inputs_and_outputs(exported: Path) -> None:
    for file in ONNX_FILES.values():
        graph = onnx.load(exported / file).graph
        shapes = {
            value.name: (value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
            for value in [*graph.input, *graph.output]
        }
        assert shapes == {
            "input_ids": (onnx.TensorProto.INT64, [0, 0]),  # dynamic
            "attention_mask": (onnx.TensorProto.INT64, [0, 0]),
            "logits": (onnx.TensorProto.FLOAT, [0, 2]),
        }


@pytest.mark.parametrize(("texts", "tokens"), [(1, 1), (128, 1), (1, 64), (128, 16)])
def test_smallest_and_largest_batches(exported: Path, texts: int, tokens: int) -> None:
    checkpoint = load_checkpoint(str(exported))
    ids = np.random.default_rng(0).integers(5, 30, (texts, tokens)).tolist()
    logits = {precision: OnnxBackend(checkpoint, precision).compute_logits(ids) for precision in ONNX_FILES}
    model = sentiment.inference.export.load_trained_classifier(str(exported))
    expected = compute_torch_logits(model, 0, ids)
    np.testing.assert_allclose(logits["fp32"], expected, atol=1e-5)
    assert np.abs(logits["int8"] - expected).mean() < 0.2  # logits of different texts differ by 2


def test_matrix_products_are_in_int8(exported: Path) -> None:
    operators = [node.op_type for node in onnx.load(exported / ONNX_FILES["int8"]).graph.node]
    # Query, key, value, output and twice the two feed-forward products; the last layer has these once. Pooler, head.
    assert operators.count("MatMulInteger") == 8 + 6 + 2
    assert operators.count("MatMul") == 2 * 2  # attention scores and contexts: no weights


def test_fp32_does_not_depend_on_the_batch(exported: Path) -> None:
    predictor = Predictor.from_pretrained(str(exported), "onnx", "fp32")
    texts = ["good", "a dull film and a very bad story", "great moving ending"]
    alone = [predictor.predict_probabilities([text])[0] for text in texts]
    np.testing.assert_allclose(predictor.predict_probabilities(texts), alone, atol=1e-5)


def test_auto_precision_is_int8(exported: Path) -> None:
    assert Predictor.from_pretrained(str(exported), "onnx", "auto").backend.precision == "int8"


def test_it_runs_without_torch(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(exported)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = Predictor.from_pretrained(str(exported)).predict_probabilities(["a good film"])[0, 1]
    assert float(done.stdout) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def exported_three(build_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of three classes, checked on rows that have just the labels that it predicts."""
    folder = build_classifier(["positive", "negative", "neutral"])
    texts = ["moving", "awful", "the plot", "fine", "moving scene", "awful is not", "bright", "tired actor"]
    labels = [prediction.label for prediction in Predictor.from_pretrained(str(folder)).predict(texts)]
    assert len({*labels}) > 1
    path = tmp_path_factory.mktemp("rated") / "rated.csv"
    rows = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
    path.write_text(f"comment,verdict\n{rows}")
    columns = ["--text_column_names", "comment", "--label_column_name", "verdict"]
    sentiment.inference.export.MAX_LOST_ACCURACY, allowed = 1.0, sentiment.inference.export.MAX_LOST_ACCURACY
    try:
        main(["export", str(folder), "--int8", "--dataset", str(path), *columns])
    finally:
        sentiment.inference.export.MAX_LOST_ACCURACY = allowed
    return folder


def test_three_classes(exported_three: Path) -> None:
    report = json.loads((exported_three / "onnx/export.json").read_text())
    assert report["rows"] == 8
    # The file's classes are in alphabetical order, the model's in another.
    assert report["models"]["torch fp32"]["accuracy"] == report["models"]["onnx fp32"]["accuracy"] == 1
    assert report["models"]["onnx fp32"]["max_difference"] < 1e-5
    texts = ["a good film", "bad", "the story is not very moving", "dull"]
    torch_predictor = Predictor.from_pretrained(str(exported_three))
    expected = torch_predictor.predict_probabilities(texts)
    for precision, tolerance in (("fp32", 1e-5), ("int8", 0.1)):
        predictor = Predictor.from_pretrained(str(exported_three), "onnx", precision)
        found = predictor.predict_probabilities(texts)
        assert found.shape == (4, 3)
        np.testing.assert_allclose(found, expected, atol=tolerance)
        assert predictor.checkpoint.labels == ("positive", "negative", "neutral")
    graph = onnx.load(exported_three / ONNX_FILES["fp32"]).graph
    assert [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == [0, 3]


def test_the_largest_difference_of_any_class_counts() -> None:
    found, expected = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    assert compare_probabilities(found, expected, np.array([0, 1])) == {
        "accuracy": 0.5,
        "changed_labels": 0,
        "max_difference": pytest.approx(0.05),
    }


def test_other_classes_are_refused_with_both_lists(exported_three: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\ngood,1\nbad,2\ndull,3\n")
    with pytest.raises(InputError, match=r"are 1, 2, 3, and those of .* are positive, negative, neutral"):
        sentiment.inference.export.export_model(str(exported_three), dataset=str(tmp_path / "a.csv"))


@pytest.mark.usefixtures("reuse_graphs")
def test_int8_that_loses_accuracy_is_not_written(
    model_folder: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sentiment.inference.export, "MAX_LOST_ACCURACY", -1.0)
    (model_folder / "onnx").mkdir()
    (model_folder / ONNX_FILES["int8"]).write_text("earlier export")
    with pytest.raises(SystemExit, match=r"int8 loses .* points of accuracy on 250 texts") as ended:
        main(["export", str(model_folder), "--int8", "--dataset", str(reviews_csv)])
    assert "\n" not in str(ended.value.code)
    assert list_files(model_folder / "onnx") == ["export.json", "model.onnx"]
    report = json.loads((model_folder / "onnx/export.json").read_text())
    assert f"error: {report['refused']}" == ended.value.code
    assert "onnx int8" in capsys.readouterr().out


@pytest.mark.usefixtures("reuse_graphs")
def test_fp32_that_differs_from_torch_is_not_written(
    model_folder: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_files(model_folder)
    monkeypatch.setattr(sentiment.inference.export, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(SystemExit, match="differs from torch"):
        main(["export", str(model_folder), "--dataset", str(reviews_csv)])
    assert list_files(model_folder) == before


@pytest.mark.usefixtures("reuse_graphs")
def test_nan_of_onnx_is_refused(model_folder: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: OnnxBackend, input_ids: list[list[int]]) -> np.ndarray:
        return np.full((len(input_ids), 2), np.nan)

    monkeypatch.setattr(OnnxBackend, "compute_logits", answer)
    with pytest.raises(SystemExit, match=r"by up to 1.0e\+00 in probability"):
        main(["export", str(model_folder), "--dataset", str(reviews_csv)])


def test_nan_is_wrong_and_differs_by_1() -> None:
    found, expected = np.array([[0.9, np.nan, 0.2], [0.8, 0.1, 0.2]])
    found = compare_probabilities(*(np.stack([1 - one, one], axis=1) for one in (found, expected)), np.array([1, 0, 0]))
    assert found == {"accuracy": pytest.approx(2 / 3), "changed_labels": 1, "max_difference": 1.0}


def test_a_failed_export_leaves_the_earlier_one(
    model_folder: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_graphs(_model: object, folder: Path, _with_int8: bool) -> None:
        (folder / "half").write_text("written")
        raise OSError(28, "No space left on device", str(folder / "half"))

    monkeypatch.setattr(sentiment.inference.export, "write_graphs", write_graphs)
    (model_folder / "onnx").mkdir()
    (model_folder / ONNX_FILES["fp32"]).write_text("earlier export")
    before = list_files(model_folder)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(model_folder), "--dataset", str(reviews_csv)])
    assert ended.value.code == 4
    assert list_files(model_folder) == before
    assert (model_folder / ONNX_FILES["fp32"]).read_text() == "earlier export"


@pytest.mark.usefixtures("reuse_graphs")
def test_a_run_is_evaluated_on_its_test_rows(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["a good film", "bad &amp;amp; dull", "the story"]  # cleaned: cleaning again would change it
    columns = {"row": [0, 1, 2], "text": texts, "label": [1, 0, 0], "predicted": [1, 0, 0]}
    table = pa.table(columns | {"score": [0.9, 0.8, 0.7]})
    pyarrow.parquet.write_table(table, model_folder.parent / "predictions.parquet")
    seen: list[object] = []
    measure_speed = sentiment.inference.export.measure_speed
    monkeypatch.setattr(
        sentiment.inference.export,
        "measure_speed",
        lambda computes, ids: seen.append(ids) or measure_speed(computes, ids),
    )
    main(["export", str(model_folder.parent)])
    assert seen == [load_checkpoint(str(model_folder)).encode_cleaned(texts)]
    assert "evaluated on 3 texts: the run's test rows" in capsys.readouterr().out
    assert list_files(model_folder / "onnx") == ["export.json", "model.onnx"]


@pytest.mark.usefixtures("reuse_graphs")
def test_an_export_without_int8_removes_an_earlier_one(model_folder: Path, reviews_csv: Path) -> None:
    (model_folder / "onnx").mkdir()
    (model_folder / ONNX_FILES["int8"]).write_text("earlier export")
    main(["export", str(model_folder), "--dataset", str(reviews_csv)])
    assert list_files(model_folder / "onnx") == ["export.json", "model.onnx"]


def test_folders_that_cannot_be_exported(
    tiny_classifier: Path, tiny_bert: Path, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no test rows to check the export on.*--dataset"):
        sentiment.inference.export.export_model(str(tiny_classifier))
    with pytest.raises(InputError, match="pass it too"):
        sentiment.inference.export.export_model(str(tiny_classifier), split="test")
    with pytest.raises(InputError, match="--text_column_names belong to --dataset"):
        sentiment.inference.export.export_model(str(tiny_classifier), text_column_names="review")
    with pytest.raises(InputError, match="no model in"):
        sentiment.inference.export.export_model(str(tmp_path))
    with pytest.raises(InputError, match="holds no trained classifier"):
        sentiment.inference.export.export_model(str(tiny_bert), dataset=str(reviews_csv))
    monkeypatch.setattr(onnx_graph, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package: pip install 'adapt-or-finetune\[onnx\]'"):
        sentiment.inference.export.export_model(str(tiny_classifier))


def test_weights_that_are_too_large_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    import onnx_ir

    monkeypatch.setattr(onnx_graph, "MAX_FILE_BYTES", 1000)
    with pytest.raises(InputError, match="GB of weights"):
        onnx_graph.write_graph(onnx_ir.load(exported / ONNX_FILES["fp32"]), tmp_path / "model.onnx")
    assert not list_files(tmp_path)


def test_missing_and_damaged_files(exported: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write it with `sentiment export"):
        Predictor.from_pretrained(str(tiny_classifier), "onnx", "fp32")
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    whole = (folder / "onnx/model.onnx").read_bytes()
    (folder / "onnx/model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot load"):
        Predictor.from_pretrained(str(folder), "onnx", "fp32")
    other = onnx.load(exported / ONNX_FILES["fp32"])
    other.graph.output[0].name = "other"
    next(node for node in other.graph.node if "logits" in node.output).output[:] = ["other"]
    onnx.save(other, folder / ONNX_FILES["int8"])
    with pytest.raises(InputError, match="was not written by `sentiment export`"):
        Predictor.from_pretrained(str(folder), "onnx", "int8")
