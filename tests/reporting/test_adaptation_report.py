import copy
import math
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentiment.objectives.masked_language_modeling import MaskedLanguageModeling
from sentiment.reporting.adaptation_report import truncate_around_mask, write_adaptation_report
from sentiment.reporting.model_cards import write_adapted_model_card

OBJECTIVE = asdict(MaskedLanguageModeling.description) | {"num_classes": 30522}
ATTACK = "<img src=x onerror=alert(1)>"


def measure(loss: float, accuracy: float) -> dict[str, Any]:
    return {"loss": loss, "perplexity": math.exp(loss), "accuracy": accuracy, "masked_tokens": 41210}


def fill_masks() -> list[dict[str, Any]]:
    before, after = [["##ing", 0.004], ["1994", 0.003]], [["funny", 0.41], ["good", 0.2]]
    masks: list[dict[str, Any]] = [{"text": "a very [MASK] film", "word": "funny", "before": before, "after": after}]
    attacks = [[ATTACK, 0.5], ["|", 0.3], ["`good`", 0.1]]
    masks.append({"text": f"{ATTACK} | `x` [MASK]\n# y", "word": "|", "before": attacks, "after": attacks})
    return masks * 10


RUN: dict[str, Any] = {
    "strategy": "mlm", "command": "train_mlm.py --model minilm", "started": "2026-11-22T10:00:00+00:00",
    "seconds": 1100.2,
    "options": {"model_name_or_path": "minilm", "dataset_name": ["imdb", "own.txt"],
    "learning_rate": 1e-4, "max_rows": 10000, "max_steps": None, "objective": "mlm"},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "hardware": {"device": "cpu", "name": "Chip", "cores": 2, "memory_mb": 24000, "processes": 1},
    "model": {"name": "minilm", "parameters": 22713986, "num_hidden_layers": 6, "hidden_size": 384},
    "precision": "bf16", "seed": 42, "peak_memory_mb": 2310.0,
    "data": {
        "datasets": ["imdb", "own.txt"], "fingerprints": {"train": "ab12", "validation": "cd34"},
        "audit": {
            "cleaning": "light", "max_seq_length": 128, "long_texts": "chunk",
            "rows": {"read": 10000, "train": 7990, "validation": 1994},
            "dropped": {"empty": 1, "duplicates": 12, "in_test": 3},
            "texts": {"train": 24310, "validation": 6020}, "tokens": {"train": 2404112, "validation": 600441},
            "long_text_modes": {
                "chunk": {"texts": 24310, "tokens": 2404112, "lost_tokens": 0, "padding_share": 0.013},
                "truncate": {"texts": 7990, "tokens": 1002112, "lost_tokens": 1402000, "padding_share": 0.004},
            },
        },
    },
}  # fmt: skip
METRICS: dict[str, Any] = {
    "objective": OBJECTIVE,
    "validation": {"before": measure(10.8, 0.0001), "after": measure(4.2, 0.311)},
    "history": [
        {"epoch": 1, "step": 760, "train_loss": 5.6, "validation": measure(4.7, 0.27)},
        {"epoch": 2, "step": 1520, "train_loss": 4.5, "validation": measure(4.2, 0.311)},
    ],
    "best_epoch": 2,
    "steps": [{"step": step, "loss": 4 + 60 / step, "lr": 1e-4} for step in range(10, 1530, 10)],
    "head_warmup_steps": 76,
    "examples": fill_masks(),
    "resources": {"train_seconds": 1060.0, "examples_per_second": 45.9, "tokens_per_second": 4536.0,
                  "padding_share": 0.013, "peak_memory_mb": 2310.0, "precision": "bf16"},
}  # fmt: skip


@pytest.fixture
def run() -> dict[str, Any]:
    return copy.deepcopy(RUN)


@pytest.fixture
def metrics() -> dict[str, Any]:
    return copy.deepcopy(METRICS)


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


def report_of(folder: Path, run: dict[str, Any], metrics: dict[str, Any]) -> tuple[str, str]:
    write_adaptation_report(folder, run, metrics)
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    return markdown, (folder / "report.html").read_text(encoding="utf-8")


def words_of(folder: Path, run: dict[str, Any], metrics: dict[str, Any]) -> tuple[str, str]:
    """The text of both reports, on one line each."""
    markdown, html = report_of(folder, run, metrics)
    return " ".join(markdown.split()), " ".join(Page(html).words.split())


def test_both_reports_and_the_figure_are_written(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    for words in words_of(tmp_path, run, metrics):
        assert "minilm was adapted to imdb and own.txt by masked language modelling" in words
        assert "on 7,990 unlabelled reviews (2 epochs, 1,520 steps)" in words
        assert "On 1,994 held-out reviews, the loss fell from 10.80 to 4.20" in words
        assert "the perplexity from 49,020.8 to 66.7" in words
        assert "In the first 76 steps" in words
        assert "The top prediction is right in 0 of 20 texts before and in 10 after" in words
        assert "3 reviews were dropped because the same text is in a labelled validation or test split" in words
        assert "Warning." not in words
        for fact in ("2 (restored)", "10,000", "2,404,112", "1,402,000", "58.3%", "4,536", "1.3%", "17 min 40 s",
                     "2,310", "22,713,986", "ab12", "cd34", "imdb, own.txt"):  # fmt: skip
            assert fact in words, fact
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.html", "loss.svg"}


def test_before_and_after(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    markdown, _ = report_of(tmp_path, run, metrics)
    assert "| loss per masked token (nats) | 10.8000 | 4.2000 | -6.6000 |" in markdown
    assert "| accuracy of masked tokens | 0.0001 | 0.3110 | +0.3109 |" in markdown


def test_examples(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    markdown, html = report_of(tmp_path, run, metrics)
    line = r"| a very \[MASK\] film | funny | ##ing 0.4% · 1994 0.3% | funny ✓ 41.0% · good 20.0% |"
    assert markdown.count(line) == 10
    page = Page(html)
    assert len([tag for tag, _ in page.found if tag == "mark"]) == 20
    assert html.count("<mark>[MASK]</mark>") == 20
    # The true word is highlighted anywhere, the tick is for top predictions only.
    assert html.count("<strong>funny ✓</strong>") == 10
    assert html.count("<strong>|</strong>") == 20


def test_the_text_of_reviews_and_predictions_is_escaped(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]
) -> None:
    run["options"]["dataset_name"] = run["data"]["datasets"] = [ATTACK]
    metrics["examples"][0]["word"] = ATTACK
    markdown, html = report_of(tmp_path, run, metrics)
    page = Page(html)
    assert f"{ATTACK} | `x` [MASK] # y" in " ".join(page.words.split())
    assert f"was adapted to {ATTACK}" in " ".join(page.words.split())
    assert not [attributes for _, attributes in page.found if "onerror" in attributes]
    assert len([tag for tag, _ in page.found if tag == "img"]) == 1
    assert "<img" not in markdown
    assert r"&lt;img src=x onerror=alert(1)&gt; \| \`x\` \[MASK\] # y" in markdown
    assert r"50.0% · \| 30.0% · \`good\` 10.0%" in markdown


def test_tables_in_markdown_keep_their_columns(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    markdown, _ = report_of(tmp_path, run, metrics)
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) == 9
    for table in tables:
        lines = table.splitlines()
        assert re.fullmatch(r"\|( :?--:? \|)+", lines[1])
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, table


def test_html_loads_nothing_from_outside(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    _, html = report_of(tmp_path, run, metrics)
    page = Page(html)
    (image,) = [attributes["src"] or "" for tag, attributes in page.found if tag == "img"]
    assert image.startswith("data:image/svg+xml;base64,")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.found}
    assert not re.search(r"https?:|@import|url\(", html)


@pytest.mark.parametrize(
    ("before", "after", "fresh", "worse", "copying"),
    [
        (10.8, 4.2, True, False, False),
        (2.7, 2.3, False, False, False),
        (2.3, 2.7, False, True, False),
        (2.3, 2.3, False, True, False),
        (2.3, 0.0005, False, False, True),
    ],
)
def test_warnings_and_notes_on_the_loss(
    before: float, after: float, fresh: bool, worse: bool, copying: bool,
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any],
) -> None:  # fmt: skip
    metrics["validation"] = {"before": measure(before, 0.1), "after": measure(after, 0.1)}
    run["model"]["has_new_head"] = fresh
    for words in words_of(tmp_path, run, metrics):
        assert ("The loss before training is about ln(30,522) = 10.33" in words) == fresh
        assert ("The validation loss did not fall" in words) == worse
        assert ("the model may be copying its input" in words) == copying


def test_a_new_head_with_a_small_vocabulary(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    run["model"] |= {"has_new_head": True}
    metrics["objective"]["num_classes"] = 40
    metrics["validation"]["before"] = measure(3.7, 0.02)
    assert "The loss before training is about ln(40) = 3.69" in words_of(tmp_path, run, metrics)[0]


def test_a_corpus_without_reviews_of_a_labelled_split(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]
) -> None:
    run["data"]["audit"]["dropped"]["in_test"] = 0
    assert "No review is in a labelled validation or test split" in words_of(tmp_path, run, metrics)[0]
    del run["data"]["audit"]["dropped"]["in_test"]
    assert "labelled validation" not in words_of(tmp_path, run, metrics)[0]


def test_a_stream_has_no_counts_and_no_epochs(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    run["data"]["audit"] = {"cleaning": "light", "max_seq_length": 128, "long_texts": "chunk", "streaming": True}
    for entry in metrics["history"]:
        entry["epoch"] = 1
    metrics |= {"best_epoch": 1, "resources": metrics["resources"] | {"padding_share": None}}
    for words in words_of(tmp_path, run, metrics):
        assert "modelling on a stream of unlabelled reviews (1,520 steps)" in words
        assert "On held-out reviews, the loss fell" in words
        assert "They were streamed" in words
        assert "760 (restored)" not in words
        assert "1,520 (restored)" in words
    markdown, _ = report_of(tmp_path, run, metrics)
    assert "| step | training loss |" in markdown
    assert "| read |" not in markdown
    write_adapted_model_card(tmp_path, run, metrics)
    assert "own.txt, unlabelled reviews of at most" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_predictions_are_compared_ignoring_case(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    metrics["examples"] = [metrics["examples"][0] | {"word": "Funny"}]
    assert "| Funny | ##ing 0.4% · 1994 0.3% | funny ✓ 41.0%" in report_of(tmp_path, run, metrics)[0]
    assert "in 0 of 1 texts before and in 1 after" in words_of(tmp_path, run, metrics)[1]


def test_sections_without_data_are_omitted(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    few = {"strategy": "mlm", "options": run["options"]}
    for text in report_of(
        tmp_path, few, {"objective": OBJECTIVE, "validation": {"after": metrics["validation"]["after"]}}
    ):
        assert "the loss is 4.20" in " ".join(text.split())
        for missing in ("Corpus audit", "Filled masks", "loss.svg", "Loss by step", "Warning.", "Note."):
            assert missing not in text


def test_texts_are_truncated_around_the_mask() -> None:
    long = "word " * 60 + "[MASK]" + " other" * 60
    quote = truncate_around_mask(long)
    assert re.fullmatch(r"… (word )+\[MASK\]( other)+ …", quote)
    assert 150 < len(quote) < 240
    assert truncate_around_mask("[MASK] film") == "[MASK] film"


def test_adapted_model_card(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    write_adapted_model_card(tmp_path, run, metrics)
    _, front, body = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["library_name"] == "transformers"
    assert card["pipeline_tag"] == "fill-mask"
    assert card["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert card["datasets"] == ["stanfordnlp/imdb"]  # own.txt is not on the Hub
    (result,) = card["model-index"][0]["results"]
    assert {"type": "loss", "value": 4.2} in result["metrics"]
    assert 'pipeline("fill-mask"' in body
    assert 'model("a very [MASK] film")' in body
    assert "python train_finetune.py --model path/to/this/folder" in body
    assert "| loss per masked token (nats) | 10.8000 | 4.2000 | -6.6000 |" in body
    assert "7,990 unlabelled reviews" in body
    assert "dropped because they are in a labelled validation or test split: 3" in body


def test_model_card_of_local_files(
    tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    run["options"]["model_name_or_path"], run["data"]["datasets"] = "models/mine", [f"{ATTACK}.txt"]
    write_adapted_model_card(tmp_path, run, metrics)
    _, front, body = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert not {"base_model", "datasets"} & set(yaml.safe_load(front))
    assert "<img" not in body
