"""The classifier: its loss, its dropout, its loading errors, and checkpoints that load without this package."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BartConfig,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    PrinterCallback,
    T5Config,
    Trainer,
    TrainingArguments,
    ViTConfig,
)

from sentiment.exceptions import InputError
from sentiment.models.classifier import BertSentimentClassifier, load_classifier, load_trained_classifier

PREPROCESSING = {"cleaning": "light", "max_seq_length": 64}
TEXTS = ["a good film", "not a dull story but very funny and moving", "bad"]

WITHOUT_THIS_PACKAGE = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sentiment":
            raise ImportError("the package is not installed")

sys.meta_path.insert(0, Blocker())
try:
    import sentiment
except ImportError:
    pass
else:
    raise SystemExit("the package is there after all")

from transformers import pipeline

classify = pipeline("text-classification", model=sys.argv[1], device="cpu")
print(json.dumps([type(classify.model).__name__, [classify(text, top_k=None) for text in sys.argv[2:]]]))
"""


@pytest.fixture(scope="module")
def checkpoint(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(1)
    model = load_classifier(str(tiny_bert), dropout=0.1, preprocessing=PREPROCESSING)
    torch.nn.init.normal_(model.classifier.weight)  # different answers for different texts
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


def encode(folder: Path, texts: list[str]) -> dict[str, torch.Tensor]:
    encoded = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def test_checkpoint_answers_the_same_in_plain_transformers(checkpoint: Path, tmp_path: Path) -> None:
    model = load_trained_classifier(str(checkpoint))
    with torch.inference_mode():
        probabilities = [model(**encode(checkpoint, [text])).logits.softmax(-1)[0].tolist() for text in TEXTS]
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_THIS_PACKAGE, str(checkpoint), *TEXTS],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    class_name, answers = json.loads(found.stdout.splitlines()[-1])
    assert class_name == "BertForSequenceClassification"
    for answer, (negative, positive) in zip(answers, probabilities, strict=True):
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert scores == {
            "negative": pytest.approx(negative, abs=1e-6),
            "positive": pytest.approx(positive, abs=1e-6),
        }
    assert len({round(positive, 3) for _, positive in probabilities}) == 3, "answers must differ to tell anything"


def test_checkpoint_keeps_labels_preprocessing_and_weights(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["preprocessing"] == PREPROCESSING
    model = load_trained_classifier(str(checkpoint))
    assert not model.training
    saved = load_file(checkpoint / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == dict.fromkeys(saved, torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved[name]), name


def test_encoder_and_pooler_come_from_the_pretrained_model(tiny_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = load_classifier(str(tiny_bert))
    base = BertModel.from_pretrained(tiny_bert)
    for name, parameter in base.named_parameters():
        assert torch.equal(model.bert.get_parameter(name), parameter), name
    assert torch.equal(model.classifier.bias, torch.zeros(2))
    assert caplog.records == []
    assert model.config.preprocessing == {}


def test_missing_pooler_is_logged(tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    BertForMaskedLM.from_pretrained(tiny_bert).save_pretrained(tmp_path)  # built without the pooler
    with caplog.at_level(logging.WARNING, logger="sentiment"):
        load_classifier(str(tmp_path))
    (record,) = [record for record in caplog.records if record.name.startswith("sentiment")]
    assert "bert.pooler.dense.bias, bert.pooler.dense.weight: these are newly initialized" in record.getMessage()


def test_loss_is_divided_by_the_rows_of_the_optimizer_step(checkpoint: Path) -> None:
    model = load_trained_classifier(str(checkpoint))
    batch = encode(checkpoint, TEXTS)
    labels = torch.tensor([1, 0, 0])
    whole = model(**batch, labels=labels)
    expected = torch.nn.functional.cross_entropy(whole.logits, labels)
    torch.testing.assert_close(whole.loss, expected)
    halves = [
        model(**{name: tensor[rows] for name, tensor in batch.items()}, labels=labels[rows], num_items_in_batch=count)
        for rows, count in ((slice(0, 2), 3), (slice(2, 3), torch.tensor(3)))
    ]
    torch.testing.assert_close(halves[0].loss + halves[1].loss, expected)
    assert model(**batch).loss is None


def test_trainer_passes_its_count_of_rows(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    forward = BertSentimentClassifier.forward

    @functools.wraps(forward)
    def count(*args: Any, num_items_in_batch: torch.Tensor, **kwargs: Any) -> Any:
        counts.append(int(num_items_in_batch))
        return forward(*args, num_items_in_batch=num_items_in_batch, **kwargs)

    monkeypatch.setattr(BertSentimentClassifier, "forward", count)
    options = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": [2, 5, 3], "labels": row % 2} for row in range(7)]
    trainer = Trainer(model=load_classifier(str(tiny_bert)), args=options, train_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert counts == [4, 4, 3, 3]


@pytest.mark.parametrize(("dropout", "is_random"), [(0.0, False), (0.5, True)])
def test_dropout_is_off_by_default(tiny_bert: Path, dropout: float, is_random: bool) -> None:
    torch.manual_seed(0)
    model = load_classifier(str(tiny_bert), dropout).train()
    torch.nn.init.normal_(model.classifier.weight)
    batch = encode(tiny_bert, TEXTS)
    assert torch.equal(model(**batch).logits, model(**batch).logits) != is_random
    model.eval()
    assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_initialization_of_the_head_follows_the_seed(tiny_bert: Path) -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(load_classifier(str(tiny_bert)).classifier.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_trained_head_is_kept(checkpoint: Path) -> None:
    trained = load_trained_classifier(str(checkpoint))
    again = load_classifier(str(checkpoint))
    assert torch.equal(again.classifier.weight, trained.classifier.weight)


def test_head_of_another_task_is_not_used(tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = BertForTokenClassification.from_pretrained(tiny_bert, num_labels=2)
    torch.nn.init.ones_(other.classifier.weight)
    other.save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path))
    assert model.classifier.weight.abs().max() < 1
    assert "has the head of another task: classifier.* is newly initialized" in caplog.text
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, other.bert.embeddings.word_embeddings.weight)


def get_error(folder: Path, load: object = load_trained_classifier) -> str:
    with pytest.raises(InputError) as refusal:
        load(str(folder))  # type: ignore[operator]
    message = str(refusal.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("load", [load_classifier, load_trained_classifier])
def test_models_other_than_encoders_are_refused(load: object, tmp_path: Path) -> None:
    assert "cannot read the model" in get_error(tmp_path, load)
    (tmp_path / "config.json").write_text("{")
    assert "cannot read the model" in get_error(tmp_path, load)
    for config, message in (
        (GPT2Config(), "is a decoder (type gpt2): only encoders can be used"),
        (BartConfig(), "is an encoder-decoder (type bart): only encoders can be used"),
        (T5Config(), "is an encoder-decoder (type t5): only encoders can be used"),
        (BertConfig(is_decoder=True), "is a decoder (is_decoder in its config)"),
        (ViTConfig(), "is a model of type vit: transformers has no classifier of texts for it"),
    ):
        config.save_pretrained(tmp_path)
        assert message in get_error(tmp_path, load)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "is a model of type unheard-of, which transformers does not know" in get_error(tmp_path, load)


@pytest.mark.parametrize("damage", ["cut off", "not safetensors", "missing", "other shapes"])
def test_damaged_weights_are_refused(damage: str, checkpoint: Path, tmp_path: Path) -> None:
    weights = (checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    if damage == "cut off":
        (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    elif damage == "not safetensors":
        (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    elif damage == "other shapes":
        (tmp_path / "model.safetensors").write_bytes(weights)
        BertConfig.from_pretrained(checkpoint, hidden_size=64).save_pretrained(tmp_path)
    assert "cannot load the weights" in get_error(tmp_path)


def test_model_without_a_trained_head_is_refused(tiny_bert: Path) -> None:
    message = get_error(tiny_bert)
    assert "holds no trained classifier (it is a BertModel): train one with train_e2e.py" in message


def test_incomplete_head_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "no classifier.weight" in get_error(tmp_path)


def test_labels_that_do_not_fit_the_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    BertConfig.from_pretrained(checkpoint, num_labels=5).save_pretrained(tmp_path)
    assert "cannot load the weights" in get_error(tmp_path)


def test_head_of_other_classes_is_not_used(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved = load_trained_classifier(str(checkpoint))
    for names in (["1", "2", "3"], ["dull", "fine"]):
        caplog.clear()
        model = load_classifier(str(checkpoint), class_names=names)
        assert "has the head of other classes: classifier.* is newly initialized" in caplog.text
        assert model.config.id2label == dict(enumerate(names))
        assert model.classifier.out_features == len(names)
        assert model.classifier.bias.eq(0).all()
        assert torch.equal(model.bert.pooler.dense.weight, saved.bert.pooler.dense.weight)
    caplog.clear()
    assert torch.equal(load_classifier(str(checkpoint)).classifier.weight, saved.classifier.weight)
    assert not caplog.text


def test_pretrained_model_with_another_head_gets_a_new_one_of_two_labels(tiny_bert: Path, tmp_path: Path) -> None:
    config = BertConfig.from_pretrained(tiny_bert, num_labels=5)
    BertForSequenceClassification(config).bert.save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path))
    assert model.num_labels == model.config.num_labels == model.classifier.out_features == 2


def test_decoder_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    BertConfig.from_pretrained(tiny_bert, is_decoder=True).save_pretrained(tmp_path)
    assert "is a decoder (is_decoder in its config)" in get_error(tmp_path, load_classifier)


def test_config_with_a_value_of_another_type_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_bert / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}), encoding="utf-8")
    assert "cannot read the model" in get_error(tmp_path, load_classifier)
