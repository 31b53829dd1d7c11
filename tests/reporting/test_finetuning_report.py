import copy
import json
import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from transformers import BertTokenizerFast

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.abstention import evaluate_abstention
from sentiment.evaluation.calibration import compare_calibration
from sentiment.evaluation.metrics import compute_metrics
from sentiment.reporting.finetuning_report import write_report
from sentiment.reporting.formatting import escape_markdown
from sentiment.reporting.model_cards import write_model_card

ATTACK = "<img src=x onerror=alert(1)>"
TEXTS = ["good", f"not {ATTACK} | `good`\n# film", "dull film", "good film"]
LABELS, PREDICTED = [1, 0, 0, 1], [1, 1, 0, 1]
PROBABILITIES = {"score": [0.9, 0.8, 0.9, 0.7], "p_negative": [0.1, 0.2, 0.9, 0.3], "p_positive": [0.9, 0.8, 0.1, 0.7]}

SPLIT = {
    "rows": 8000, "labels": {"negative": 3801, "positive": 4199, "unlabelled": 0}, "empty": 0,
    "duplicates": 17, "both_labels": 0, "tokens": {"mean": 13.4, "median": 11.0, "p95": 33.0, "max": 166},
    "share_cut": 0.0123,
}  # fmt: skip
RUN: dict[str, Any] = {
    "strategy": "e2e", "command": "train_e2e.py run.yaml", "started": "2026-11-22T10:00:00+00:00",
    "seconds": 190.2,
    "options": {"model_name_or_path": "minilm", "dataset_name": "snippets",
    "learning_rate": 2e-4, "max_rows": 10000, "decay": None},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "hardware": {"device": "cpu", "name": "Chip", "cores": 2, "memory_mb": 24000, "processes": 1},
    "model": {"name": "minilm", "parameters": 22713986, "num_hidden_layers": 6, "hidden_size": 384},
    "precision": "bf16", "seed": 42, "peak_memory_mb": 1530.0,
    "data": {
        "dataset": "snippets", "fingerprints": {"train": "ab12", "validation": "cd34", "test": "ef56"},
        "audit": {
            "cleaning": "light", "split": "stratified", "keep_duplicates": False, "max_seq_length": 128,
            "splits": {
                "train": SPLIT, "validation": {**SPLIT, "rows": 1001}, "test": {**SPLIT, "rows": 1000},
            },
            "across": {"train & validation": 0, "train & test": 0, "validation & test": 0},
            "test_in_train": {"rows": 0, "share": 0.0}, "test_contained_in_train": {"rows": 0, "share": 0.0},
            "dropped": {"empty": 3, "both_labels": 14, "in_several_splits": 2376},
        },
    },
}  # fmt: skip

ADAPTATION: dict[str, Any] = {
    "run_dir": "outputs/mlm", "base_model": "minilm", "datasets": ["imdb"], "rows": 8000, "texts": 24310,
    "num_train_epochs": 2, "steps": 1520, "seconds": 1100.2, "train_seconds": 1060.0,
    "loss_before": 10.8, "loss_after": 4.1, "test_texts_seen": 0, "objective": "masked language modelling",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "dull", "film", "not"]
    return BertTokenizerFast(vocab={piece: number for number, piece in enumerate(pieces)})


@pytest.fixture
def run() -> dict[str, Any]:
    return copy.deepcopy(RUN)


@pytest.fixture
def metrics() -> dict[str, Any]:
    before = {**compute_metrics([1, 1, 1, 1], LABELS, LABEL_NAMES), "loss": 0.7}
    after = {**compute_metrics(PREDICTED, LABELS, LABEL_NAMES), "loss": 0.3}
    return {
        "test": {"before": before, "after": after},
        "validation": after,
        "history": [{"epoch": epoch, "step": epoch, "train_loss": 0.5, "validation": after}
                    for epoch in (1, 2)],
        "best_epoch": 2,
        "resources": {"train_seconds": 180.1, "examples_per_second": 201.0, "tokens_per_second": 2650.0,
                      "peak_memory_mb": 1530.0, "precision": "bf16"},
    }  # fmt: skip


def write_run(folder: Path, run: dict[str, Any], metrics: dict[str, Any], rows: list[int] | None = None) -> None:
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    columns = {"row": rows or [0, 1, 2, 3], "text": TEXTS, "label": LABELS, "predicted": PREDICTED}
    pyarrow.parquet.write_table(pa.table({**columns, **PROBABILITIES}), folder / "predictions.parquet")


def report_of(folder: Path, tokenizer: BertTokenizerFast) -> tuple[str, str]:
    run, metrics = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "metrics.json"))
    write_report(folder, run, metrics, tokenizer)
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    return markdown, (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_both_reports_and_seven_figures_are_written(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    labels = np.array([0, 1, 1, 0] * 10)
    chances = np.where(labels[:, np.newaxis] == [0, 1], 0.9, 0.1)
    baseline = {"accuracy": 0.5, "accuracy_ci95": [0.3, 0.7], "macro_f1": 0.3}
    metrics |= {
        "calibration": compare_calibration(chances, labels, 1.5),
        "abstention": evaluate_abstention(chances.max(axis=1), np.ones(40), 0.8, 0.95),
        "baselines": {
            "scores": {"majority": baseline}, "best": "majority", "metric": "accuracy", "outcome": "better",
            "difference": 0.2, "difference_ci95": [0.1, 0.3], "rows": 320,
        },
    }  # fmt: skip
    write_run(tmp_path, run, metrics)
    markdown, html = report_of(tmp_path, tokenizer)
    figures = {"loss.svg", "metrics.svg", "confusion.svg", "before_after.svg"}
    figures |= {"calibration.svg", "coverage.svg", "curves.svg"}
    given = {"run.json", "metrics.json", "predictions.parquet"}
    assert {path.name for path in tmp_path.iterdir()} == figures | given | {"report.md", "report.html"}
    assert set(re.findall(r"\]\((.*?)\)", markdown)) == figures
    for text in (markdown, Page(html).words):
        words = " ".join(text.split())
        assert "the model beats always answering the most frequent class (50.0%), by 20.0 points" in words
        assert "expected calibration error" in words
        assert "accuracy rose from 50.0% to 75.0%" in " ".join(text.split())
        for number in [
            "8,000",
            "1,001",
            "3,801",
            "13.4",
            "33.0",
            "166",
            "1.2%",
            "2,376",
            "22,713,986",
            "ab12",
            "2,650",
        ]:
            assert number in text, number
        assert "2 (restored)" in text
        assert "phrase of sentences in different splits" in text


def test_review_text_is_escaped(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run["options"]["dataset_name"] = run["data"]["dataset"] = ATTACK
    write_run(tmp_path, run, metrics)
    markdown, html = report_of(tmp_path, tokenizer)
    page = Page(html)
    assert ATTACK in page.words
    assert not [attributes for _, attributes in page.found if "onerror" in attributes]
    assert "<img" not in markdown


def test_html_loads_nothing_from_outside(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    write_run(tmp_path, run, metrics)
    _, html = report_of(tmp_path, tokenizer)
    page = Page(html)
    images = [attributes["src"] or "" for tag, attributes in page.found if tag == "img"]
    assert len(images) == 4
    assert all(image.startswith("data:image/svg+xml;base64,") for image in images)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.found}
    assert not re.search(r"https?:|@import|url\(", html)


def test_tables_in_markdown_keep_their_columns(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    write_run(tmp_path, run, metrics)
    markdown, _ = report_of(tmp_path, tokenizer)
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) == 12
    for table in tables:
        lines = table.splitlines()
        assert re.fullmatch(r"\|( :?--:? \|)+", lines[1])
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, table


@pytest.mark.parametrize("leak", [False, True])
def test_a_leak_is_reported_only_if_there_is_one(
    leak: bool, tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    audit = run["data"]["audit"]
    if leak:
        audit["test_in_train"] = {"rows": 35, "share": 0.035}
        audit["test_contained_in_train"] = {"rows": 380, "share": 0.38}
    write_run(tmp_path, run, metrics)
    for text in report_of(tmp_path, tokenizer):
        words = " ".join(text.split())
        assert ("Warning." in words) == leak
        assert ("3.5% of test texts also occur in the training split" in words) == leak
        assert ("expect a lower accuracy on new reviews" in words) == leak
        assert ("38.0% of test texts are contained in a training text" in words) == leak
    write_model_card(tmp_path, run, metrics)
    assert ("too optimistic" in (tmp_path / "README.md").read_text(encoding="utf-8")) == leak


def test_duplicates_kept_without_a_leak_are_noted(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run["data"]["audit"]["keep_duplicates"] = True
    write_run(tmp_path, run, metrics)
    markdown, _ = report_of(tmp_path, tokenizer)
    assert "> **Note.** Duplicates were kept and assigned to splits independently" in markdown
    assert "Warning." not in markdown


def test_a_small_leak_is_not_rounded_to_zero(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run["data"]["audit"]["test_in_train"] = {"rows": 1, "share": 1 / 6823}
    write_run(tmp_path, run, metrics)
    assert "under 0.1% of test texts also occur" in report_of(tmp_path, tokenizer)[0]


def test_the_adaptation_section(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run |= {"strategy": "finetune", "adaptation": ADAPTATION}
    run["options"]["model_name_or_path"] = run["model"]["name"] = "outputs/mlm"
    write_run(tmp_path, run, metrics)
    markdown, html = report_of(tmp_path, tokenizer)
    for text in (markdown, Page(html).words):
        words = " ".join(text.split())
        assert "minilm adapted to imdb, on snippets" in words
        assert "minilm was adapted to 8,000 unlabelled reviews of imdb" in words
        assert "and then fine-tuned on 8,000 texts of snippets" in words
        assert "Before fine-tuning, minilm was adapted to imdb by masked language modelling" in words
        assert "No test text of this run was in the adaptation corpus" in words
    for row in (
        ["base model", "minilm"],
        ["unlabelled reviews", "8,000"],
        ["epochs", "2"],
        ["validation loss after", "4.1000"],
        ["training time of the adaptation", "17 min 40 s"],
        ["test texts of this run in the adaptation corpus", "0"],
        ["total, with the adaptation", "21 min 30 s"],
    ):
        assert f"| {' | '.join(row)} |" in markdown


def test_an_adaptation_on_a_stream_that_was_not_counted(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run["adaptation"] = {**ADAPTATION, "rows": None, "texts": None, "test_texts_seen": None}
    write_run(tmp_path, run, metrics)
    markdown, _ = report_of(tmp_path, tokenizer)
    assert "minilm was adapted to a stream of unlabelled reviews of imdb" in markdown
    assert "No test text of this run" not in markdown
    assert "It is unknown whether test texts of this run were in the adaptation corpus" in markdown
    assert "| unlabelled reviews | - |" in markdown


def test_a_run_without_an_adaptation_does_not_mention_one(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run |= {"strategy": "finetune", "adaptation": None}
    write_run(tmp_path, run, metrics)
    assert "adapt" not in report_of(tmp_path, tokenizer)[0]
    write_model_card(tmp_path, run, metrics)
    assert "adapt" not in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("counted", "said"), [(8000, "Only 300 of the 8,000 training rows"), (300, "Only 300 training")]
)
def test_a_label_budget_and_the_seed_of_the_split(
    counted: int, said: str, tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run["options"] |= {"max_train_samples": 300, "split_seed": 7}
    run["data"]["audit"]["splits"]["train"] = {**SPLIT, "rows": counted}
    write_run(tmp_path, run, metrics)
    markdown, _ = report_of(tmp_path, tokenizer)
    assert "fine-tuned end to end on 300 texts of snippets" in markdown
    assert f"> **Note.** {said}" in markdown
    assert "| seed of the split | 7 |" in markdown
    write_model_card(tmp_path, run, metrics)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "300 training texts (max_train_samples)" in card
    assert "- split: stratified, seed 7" in card


@pytest.mark.parametrize("empty", [{}, {"max_train_samples": None, "split_seed": None}])
def test_default_options_are_not_mentioned(
    empty: dict[str, None], tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    run["options"] |= empty
    write_run(tmp_path, run, metrics)
    markdown, _ = report_of(tmp_path, tokenizer)
    assert "max_train_samples)" not in markdown
    assert "seed of the split" not in markdown


def test_clusters_are_named_only_if_there_are_fewer_than_rows(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    for clusters, named in ((None, False), ([0, 1, 2, 3], False), ([0, 0, 1, 2], True)):
        metrics["test"]["after"] |= compute_metrics(PREDICTED, LABELS, LABEL_NAMES, clusters)
        write_run(tmp_path, run, metrics)
        write_model_card(tmp_path, run, metrics)
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        for text in (*report_of(tmp_path, tokenizer), card):
            words = " ".join(text.split())
            assert ("4 test rows in 3 clusters of texts that contain each other" in words) == named
            assert "4 test rows" in words
        assert ("interval (Wilson, by cluster)" in card) == named


def test_errors_have_the_row_of_the_test_split(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    write_run(tmp_path, run, metrics, rows=[10, 771, 12, 13])
    markdown, _ = report_of(tmp_path, tokenizer)
    assert "1 of 4 test texts are misclassified (25.0%)" in markdown
    line = "| not &lt;img src=x onerror=alert(1)&gt; \\| \\`good\\` # film | negative | positive | 80.0% | 772 |"
    assert line in markdown


def test_sections_without_data_are_omitted(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], tokenizer: BertTokenizerFast
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"strategy": "e2e", "options": run["options"]}), encoding="utf-8")
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"after": metrics["test"]["after"]}}), encoding="utf-8")
    markdown, html = report_of(tmp_path, tokenizer)
    assert "accuracy is 75.0%" in markdown
    assert "| accuracy | - | 0.7500 | - |" in markdown
    for text in (markdown, html):
        for missing in ("Data audit", "Error analysis", "loss.svg", "Training by epoch"):
            assert missing not in text


def test_model_card(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model card needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    run["options"] |= {"model_name_or_path": "google-bert/bert-base-uncased", "dataset_name": "sst2"}
    write_model_card(tmp_path, run, metrics)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["base_model"] == "google-bert/bert-base-uncased"
    assert card["datasets"] == ["stanfordnlp/sst2"]
    (result,) = card["model-index"][0]["results"]
    assert {"type": "accuracy", "value": 0.75} in result["metrics"]
    assert 'pipeline("text-classification"' in body
    assert "0.3006 to 0.9544" in body


def test_model_card_after_an_adaptation(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    run["options"] |= {"model_name_or_path": "outputs/mlm", "dataset_name": "sst2"}
    run["adaptation"] = {**ADAPTATION, "datasets": ["imdb", "sst2"]}
    write_model_card(tmp_path, run, metrics)
    _, front, body = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert card["datasets"] == ["stanfordnlp/sst2", "stanfordnlp/imdb"]
    assert "masked language modelling on 8,000 unlabelled reviews of imdb and sst2" in " ".join(body.split())


def test_model_card_does_not_take_a_folder_for_a_hub_model(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    run["options"] |= {"model_name_or_path": "models/mine", "dataset_name": "reviews.csv"}
    write_model_card(tmp_path, run, metrics)
    front = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert not {"base_model", "datasets"} & set(yaml.safe_load(front))


def test_escape_markdown_keeps_one_line() -> None:
    assert escape_markdown("a\r\nb\u2028c") == "a b c"
    assert escape_markdown("[x](javascript:alert(1)) $1$ ~~y~~ a_b \\|") == (
        r"\[x\](javascript:alert(1)) \$1\$ \~\~y\~\~ a\_b \\\|"
    )
