"""Classifiers that were not trained here: texts go in as they are, with the answers of transformers' own pipeline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from sentiment.exceptions import InputError
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.inference.predictor import Predictor

TEXTS = [
    "a good film", "A GOOD film!", "bad<br />film &amp; story", "  two  spaces ", "very " * 10 + "good",
    "good " * 30 + "dull " * 300, "映画 good", "fun\u0301ny 😀", "x" * 300,
]  # fmt: skip


@pytest.fixture
def build_foreign(build_tiny_encoder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`build_foreign("roberta", truncation_side="left", id2label={...})`: a classifier saved by plain transformers."""

    def build(kind: str, tokenizer_options: dict[str, Any] | None = None, **settings: Any) -> Path:
        folder = build_tiny_encoder(kind)
        names = settings.pop("id2label", {0: "sad", 1: "calm", 2: "glad"})
        config = AutoConfig.from_pretrained(
            folder, id2label=names, label2id={v: k for k, v in names.items()}, **settings
        )
        torch.manual_seed(3)
        AutoModelForSequenceClassification.from_pretrained(folder, config=config).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(folder, **tokenizer_options or {}).save_pretrained(tmp_path)
        return tmp_path

    return build


def ask_pipeline(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    answers = [classify(text, truncation=True, top_k=None) for text in texts]
    return [{answer["label"]: answer["score"] for answer in scores} for scores in answers]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_probabilities_are_those_of_the_pipeline(kind: str, side: str, build_foreign: Callable[..., Path]) -> None:
    folder = build_foreign(kind, {"truncation_side": side})
    expected = ask_pipeline(folder, TEXTS)
    predictor = Predictor.from_pretrained(str(folder))
    for text, scores, prediction in zip(TEXTS, expected, predictor.predict(TEXTS), strict=True):
        assert prediction is not None
        assert prediction.probabilities == pytest.approx(scores, abs=1e-5), text
        assert prediction.label == max(scores, key=lambda label: scores[label])
    assert len({round(scores["sad"], 4) for scores in expected}) > len(TEXTS) // 2


@pytest.mark.parametrize(("limit", "length"), [(64, 64), (16, 16), (10**30, 64), (100_000, 64)])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_texts_are_cut_at_the_limit_of_the_tokenizer_or_of_the_positions(
    kind: str, limit: int, length: int, build_foreign: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = build_foreign(kind, {"model_max_length": limit})
    checkpoint = load_checkpoint(str(folder))
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("sentiment")]
    assert message == f"{folder} was not trained here: texts are not cleaned, and their first {length} tokens are read"
    assert (checkpoint.cleaning, checkpoint.max_seq_length, checkpoint.truncation) == ("none", length, "head")
    (ids, _), is_truncated = checkpoint.encode_with_truncation(["good film " * 100, "good"])
    assert len(ids) == length
    assert is_truncated == [True, False]
    assert Predictor.from_pretrained(str(folder)).predict(["good film " * 100])


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_model_with_several_labels_or_a_number_per_text_is_refused(
    problem: str, build_foreign: Callable[..., Path]
) -> None:
    folder = build_foreign("roberta", problem_type=problem)
    with pytest.raises(InputError, match=f"is a model for {problem}, not for one label per text"):
        load_checkpoint(str(folder))


def test_damaged_tokenizer_config_is_refused(build_foreign: Callable[..., Path]) -> None:
    folder = build_foreign("bert")
    for damaged in ("{", "[]", '{"model_max_length": "long"}'):
        (folder / "tokenizer_config.json").write_text(damaged)
        with pytest.raises(InputError, match="cannot read the tokenizer"):
            load_checkpoint(str(folder))


def test_default_labels_are_read_as_negative_and_positive(build_foreign: Callable[..., Path]) -> None:
    folder = build_foreign("distilbert", id2label={0: "LABEL_0", 1: "LABEL_1"})
    assert "id2label" not in json.loads((folder / "config.json").read_text())
    assert load_checkpoint(str(folder)).labels == ("negative", "positive")
