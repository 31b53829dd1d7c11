"""A tiny BERT with Chinese, Arabic, Hindi and emoji in its vocabulary: training and answers in all of them."""

import csv
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer, pipeline

from sentiment.data.cleaning import is_blank
from sentiment.data.tokenization import tokenize_batch
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.inference.predictor import Predictor
from sentiment.models.loading import load_tokenizer
from sentiment.pipelines.adaptation import adapt
from sentiment.pipelines.calibrated_predictions import write_calibration
from sentiment.pipelines.comparison import compare
from sentiment.pipelines.finetuning import finetune
from sentiment.pipelines.verification import verify_run
from sentiment.storage import read_json, write_json

CHARACTERS = "这部电影故事演员音乐画面的很非常太我觉得真是不但结局和好棒赞美差烂糟闷"
WORDS = [
    "فيلم",
    "رائع",
    "سيئ",
    "अच्छी",
    "फिल्म",
    "बुरी",
    "סרט",
    "טוב",
    "cafe",
    "very",
    "good",
    "😀",
    "👎",
    "\uff01",
    "\uff0c",
]
GOOD, BAD = [*"好棒赞美", "رائع", "अच्छी", "😀"], [*"差烂糟闷", "سيئ", "बुरी", "👎"]
ODD_TEXTS = [
    "这部电影很好看\uff01", "故事\u3000很差", "電影", "فيلمٌ رائع", "\u202bفيلم سيئ\u202c", "סָרֶט טוב", "अच्छी फिल्म",
    "cafe\u0301", "café", "😀😀", "👩‍👩‍👧 好", "❤\ufe0f", "\U00020000好", "好" * 100, "\u200f\u200e", "한국어",
    "e\u0301" * 40,
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multilingual")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS), *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=False, model_max_length=32)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews without spaces, whose label one character or word decides."""
    generator, rows = random.Random(1), {}
    while len(rows) < 800:
        label = len(rows) % 2
        parts = generator.choices(CHARACTERS[:-8], k=generator.randint(3, 12)) + [
            generator.choice(GOOD if label else BAD)
        ]
        generator.shuffle(parts)
        rows.setdefault("".join(part if len(part) == 1 else f" {part} " for part in parts).strip(), label)
    path = tmp_path_factory.mktemp("reviews") / "评论.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rows.items())
    return path


@pytest.fixture(scope="module")
def run_dir(model: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    finetune(
        model_name_or_path=str(model), dataset_name=str(reviews), output_dir=folder, max_seq_length=16, batch_size=16,
        num_train_epochs=8, learning_rate=3e-3, precision="fp32", report_to="none", disable_tqdm=True,
        truncation="tail",
    )  # fmt: skip
    return folder


def test_what_decides_is_learned(run_dir: Path) -> None:
    assert json.loads((run_dir / "metrics.json").read_text())["test"]["after"]["accuracy"] > 0.8
    predictor = Predictor.from_pretrained(str(run_dir))
    predictions = predictor.predict(
        ["这部电影很好", "这部电影很差", "电影 رائع 故事", "电影 سيئ 故事", "电影很😀", "电影很👎"]
    )
    assert [prediction.label for prediction in predictions if prediction] == ["positive", "negative"] * 3


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_encoded_as_in_training(run_dir: Path, text: str) -> None:
    checkpoint = load_checkpoint(str(run_dir))
    tokenizer = load_tokenizer(str(run_dir / "model"))
    expected = tokenize_batch({"text": [checkpoint.clean(text)]}, tokenizer, 16, "tail")["input_ids"]
    assert checkpoint.encode([text]) == expected


def test_plain_transformers_answers_the_same(run_dir: Path, tmp_path: Path) -> None:
    run_dir = shutil.copytree(run_dir, tmp_path / "uncalibrated")
    write_calibration(run_dir / "model", 1.0)
    clean = load_checkpoint(str(run_dir)).clean
    texts = [text for text in ODD_TEXTS if clean(text) == text and not is_blank(text)]
    assert len(texts) > 10
    classify = pipeline("text-classification", model=str(run_dir / "model"), device="cpu", top_k=None, truncation=True)
    for scores, prediction in zip(classify(texts), Predictor.from_pretrained(str(run_dir)).predict(texts), strict=True):
        assert prediction is not None
        assert prediction.probabilities == pytest.approx({s["label"]: s["score"] for s in scores}, abs=1e-5)


def test_reports_use_the_language_that_the_run_found(run_dir: Path, tmp_path: Path) -> None:
    assert read_json(run_dir / "run.json")["data"]["audit"]["language"] == "zh"
    report = (run_dir / "report.md").read_text(encoding="utf-8")
    assert "Language of the texts: zh, without spaces between words, so lengths are in letters and digits." in report
    assert "| 3-10 characters |" in report
    assert "negation" not in report
    other = shutil.copytree(run_dir, tmp_path / "other")
    verdict = compare(run_dir, other, tmp_path / "comparison")
    assert verdict["language"] == "zh"
    assert {"3-10 characters", "11-20 characters"} <= {found["name"] for found in verdict["slices"] if found["rows"]}
    assert "Language of the texts: zh" in (tmp_path / "comparison/report.md").read_text(encoding="utf-8")


def test_verification_finds_the_language_again(run_dir: Path, tmp_path: Path) -> None:
    assert verify_run(run_dir).differences == []
    other = shutil.copytree(run_dir, tmp_path / "other")
    record = read_json(other / "run.json")
    record["data"]["audit"]["language"] = "en"
    write_json(other / "run.json", record)
    assert verify_run(other).differences == ["language: zh, on record en"]


def test_characters_are_tokens(model: Path) -> None:
    assert AutoTokenizer.from_pretrained(model).tokenize("这部电影很好\uff01") == [*"这部电影很好", "\uff01"]


def test_adaptation_to_texts_without_spaces(model: Path, reviews: Path, tmp_path: Path) -> None:
    metrics = adapt(
        model_name_or_path=str(model), dataset_name=[str(reviews)], target_dataset=str(reviews), max_steps=2,
        output_dir=tmp_path / "mlm", max_seq_length=16, precision="fp32", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    assert metrics["validation"]["after"]["masked_tokens"] > 20
    assert metrics["examples"]
    assert (tmp_path / "mlm/report.html").is_file()
