"""Each kind of encoder from labelled and unlabelled reviews to a report, a model card, ONNX files and answers."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet
import pytest
from safetensors.torch import load_file
from transformers import pipeline

import sentiment.inference.export
from sentiment.exceptions import InputError
from sentiment.inference.backends import OnnxBackend
from sentiment.inference.batching import compute_probabilities
from sentiment.inference.checkpoint import ONNX_FILES, load_checkpoint
from sentiment.inference.export import export_model
from sentiment.inference.predictor import Predictor
from sentiment.pipelines.adaptation import adapt
from sentiment.pipelines.calibrated_predictions import write_calibration
from sentiment.pipelines.finetuning import finetune
from sentiment.pipelines.verification import verify_run
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.service import load_service

LONG_TEXT = "a very good film and story " * 20
OPTIONS = {
    "max_seq_length": 16, "max_steps": 2, "batch_size": 8, "precision": "fp32", "report_to": "none",
    "disable_tqdm": True,
}  # fmt: skip


def adapt_to_reviews(model: Path, reviews_csv: Path, run_dir: Path, **options: Any) -> dict[str, Any]:
    return adapt(
        model_name_or_path=str(model), dataset_name=[str(reviews_csv)], target_dataset=str(reviews_csv),
        output_dir=run_dir, **OPTIONS | options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tiny_encoder: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of two steps, with a part of everything, and ONNX files of its model."""
    folder = tmp_path_factory.mktemp("run")
    finetune(
        model_name_or_path=str(tiny_encoder), dataset_name=str(reviews_csv), output_dir=folder, layer_decay=0.9,
        truncation="head_tail", gradient_accumulation_steps=2, adversarial_epsilon=0.1, **OPTIONS,
    )  # fmt: skip
    sentiment.inference.export.MAX_LOST_ACCURACY, allowed = 1.0, sentiment.inference.export.MAX_LOST_ACCURACY
    try:  # an untrained model may lose any accuracy by rounding
        export_model(str(folder), with_int8=True)
    finally:
        sentiment.inference.export.MAX_LOST_ACCURACY = allowed
    return folder


def test_run_leaves_what_is_promised(run_dir: Path, tiny_encoder: Path) -> None:
    kind = json.loads((tiny_encoder / "config.json").read_text())["model_type"]
    assert json.loads((run_dir / "run.json").read_text())["model"]["type"] == kind
    assert "with a classification head." in (run_dir / "model/README.md").read_text()
    assert "accuracy" in (run_dir / "report.html").read_text()
    preprocessing = json.loads((run_dir / "model/config.json").read_text())["preprocessing"]
    assert preprocessing == {"cleaning": "light", "max_seq_length": 16, "truncation": "head_tail"}
    assert verify_run(run_dir).differences == []


def test_predictor_repeats_the_test_predictions(run_dir: Path) -> None:
    table = pyarrow.parquet.read_table(run_dir / "predictions.parquet").to_pydict()
    found = Predictor.from_pretrained(str(run_dir)).predict_probabilities(table["text"])
    expected = np.stack([table["p_negative"], table["p_positive"]], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pipeline_of_plain_transformers_gives_the_same(run_dir: Path, tmp_path: Path) -> None:
    texts = ["a good film", "bad", "not a very dull story"]
    classify = pipeline("text-classification", model=str(run_dir / "model"), device="cpu", top_k=None)
    run_dir = shutil.copytree(run_dir, tmp_path / "uncalibrated")
    write_calibration(run_dir / "model", 1.0)  # which plain transformers does not know
    for scores, prediction in zip(classify(texts), Predictor.from_pretrained(str(run_dir)).predict(texts), strict=True):
        assert prediction is not None
        found = {score["label"]: score["score"] for score in scores}
        assert prediction.probabilities == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("texts", [1, 2, 17])
def test_onnx_gives_the_same_for_any_batch_shape(run_dir: Path, texts: int) -> None:
    batch = [("good bad film " * (1 + row))[: 9 + 11 * row] for row in range(texts)] + [LONG_TEXT]
    expected = Predictor.from_pretrained(str(run_dir)).predict_probabilities(batch)
    found = Predictor.from_pretrained(str(run_dir), "onnx", "fp32").predict_probabilities(batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected[:, 1]) > 1e-3


def test_int8_has_its_matrix_products_in_int8(run_dir: Path) -> None:
    operators = [node.op_type for node in onnx.load(run_dir / "model" / ONNX_FILES["int8"]).graph.node]
    assert operators.count("MatMulInteger") >= 2 * 4
    checkpoint = load_checkpoint(str(run_dir))
    ids = checkpoint.encode(["a good film", LONG_TEXT])
    logits = {precision: OnnxBackend(checkpoint, precision).compute_logits(ids) for precision in ONNX_FILES}
    assert np.abs(logits["int8"] - logits["fp32"]).max() < 0.3


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_blank_and_odd_texts_are_answered(run_dir: Path, backend: str) -> None:
    predictor = Predictor.from_pretrained(str(run_dir), backend, "fp32")
    answers = predictor.predict(["", "!", "映画", "😀", "g"])
    assert answers[0] is None
    assert all(answer is not None and 0 < answer.score <= 1 for answer in answers[1:])


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_service_gives_the_same(run_dir: Path, backend: str) -> None:
    texts = ["a good film", LONG_TEXT, "bad"]
    service = load_service(ServingArguments(str(run_dir), backend=backend, precision="fp32"), in_processes=False)

    async def ask() -> np.ndarray:
        await service.start()
        try:
            return (await service.compute_outputs(texts))[0].logits
        finally:
            await service.stop()

    expected = Predictor.from_pretrained(str(run_dir)).predict_probabilities(texts)
    np.testing.assert_allclose(compute_probabilities(asyncio.run(ask())), expected, atol=1e-5)


def test_adaptation_and_fine_tuning_from_it(tiny_encoder: Path, reviews_csv: Path, tmp_path: Path) -> None:
    metrics = adapt_to_reviews(tiny_encoder, reviews_csv, tmp_path / "mlm")
    assert metrics["steps"][0]["loss"] > 0.5
    assert metrics["objective"]["num_classes"] == json.loads((tiny_encoder / "config.json").read_text())["vocab_size"]
    assert metrics["validation"]["after"]["masked_tokens"] > 0
    assert all("[MASK]" in example["text"] for example in metrics["examples"])
    answers = [word for example in metrics["examples"] for word, _ in example["after"]]
    assert answers
    assert not any(word.startswith(("Ġ", "▁")) and len(word) > 1 for word in answers)
    mask = pipeline("fill-mask", model=str(tmp_path / "mlm/model"), device="cpu").tokenizer.mask_token
    assert metrics["objective"]["hub_example"] == f"a very {mask} film"
    assert verify_run(tmp_path / "mlm").differences == []
    record = finetune(
        strategy="finetune", model_name_or_path=str(tmp_path / "mlm"), dataset_name=str(reviews_csv),
        output_dir=tmp_path / "finetune", **OPTIONS,
    )  # fmt: skip
    assert 0 <= record["test"]["after"]["accuracy"] <= 1
    assert json.loads((tmp_path / "finetune/run.json").read_text())["adaptation"]["test_texts_seen"] == 0


def test_longer_sequences_than_positions_are_refused(tiny_encoder: Path, reviews_csv: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"max_seq_length": 65}
    with pytest.raises(InputError, match="--max_seq_length 65: the model takes at most 64 tokens"):
        finetune(model_name_or_path=str(tiny_encoder), dataset_name=str(reviews_csv), output_dir=tmp_path, **options)


def test_two_processes_train_as_one(
    launch: Callable[..., Path], build_tiny_encoder: Callable[[str], Path], reviews_csv: Path, tmp_path: Path
) -> None:
    """Transformers' own loss is a mean over a process's batch: the Trainer would log it twice as high."""
    flags = ["--model", str(build_tiny_encoder("roberta")), "--dataset", str(reviews_csv), "--precision", "fp32"]
    flags += ["--batch_size", "40", "--num_train_epochs", "1", "--max_seq_length", "32", "--lr", "1e-3"]
    flags += ["--train_sampling_strategy", "sequential", "--gradient_accumulation_steps", "2"]
    one, two = (launch(processes, "train_e2e.py", tmp_path / str(processes), *flags) for processes in (1, 2))
    assert json.loads((two / "run.json").read_text())["hardware"]["processes"] == 2
    first, second = (json.loads((folder / "metrics.json").read_text())["history"][0] for folder in (one, two))
    assert second["train_loss"] == pytest.approx(first["train_loss"], rel=1e-4)
    assert second["validation"]["loss"] == pytest.approx(first["validation"]["loss"], rel=1e-3)
    weights, others = (load_file(folder / "model/model.safetensors") for folder in (one, two))
    # Adam scales up the rounding that is the whole gradient of a key's bias (test_finetuning.py).
    compared = [name for name in weights if not name.endswith("attention.self.key.bias")]
    assert max(float((weights[name] - others[name]).abs().max()) for name in compared) < 1e-5


def test_two_processes_adapt_an_encoder_with_a_pooler(
    launch: Callable[..., Path], build_tiny_encoder: Callable[[str], Path], reviews_csv: Path, tmp_path: Path
) -> None:
    flags = ["--model", str(build_tiny_encoder("albert")), "--dataset", str(reviews_csv), "--target_dataset", "none"]
    flags += ["--batch_size", "20", "--max_steps", "2", "--max_seq_length", "32", "--precision", "fp32"]
    metrics = json.loads((launch(2, "train_mlm.py", tmp_path / "run", *flags) / "metrics.json").read_text())
    assert 0 < metrics["validation"]["after"]["loss"] < 20
