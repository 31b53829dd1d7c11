import copy
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.error_analysis import count_fixes_and_regressions, find_most_confident_flips
from sentiment.evaluation.metrics import compute_metrics
from sentiment.evaluation.significance import compare_predictions
from sentiment.evaluation.study_effects import compare_costs
from sentiment.reporting.comparison_report import write_comparison_report
from sentiment.reporting.verdicts import RULE, describe_comparison

ATTACK = "<img src=x onerror=alert(1)> | `dull`"
LABELS = [0, 1] * 20
ADAPTATION = {
    "run_dir": "outputs/mlm", "base_model": "minilm", "datasets": ["imdb"], "rows": 8000, "texts": 24310,
    "num_train_epochs": 2, "steps": 1520, "seconds": 400.0, "loss_before": 10.8, "loss_after": 4.1,
    "objective": "masked language modelling", "loss_unit": "nats per masked token",
}  # fmt: skip
MASKED = {"loss": 5.0, "perplexity": 148.4, "accuracy": 0.2, "masked_tokens": 100}
ADAPTATION_METRICS = {
    "steps": [{"step": step, "loss": 9.0, "lr": 1e-5} for step in (10, 20)], "best_epoch": 1,
    "history": [{"epoch": 1, "step": 20, "train_loss": 9.0, "validation": MASKED}],
    "validation": {"before": MASKED, "after": MASKED}, "head_warmup_steps": 0,
}  # fmt: skip
Write = Callable[..., tuple[str, str]]


def guess(wrong: list[int]) -> list[int]:
    return [1 - label if row in wrong else label for row, label in enumerate(LABELS)]


def build_comparison(
    wrong_a: list[int], wrong_b: list[int], adaptations: list[Any], clusters: Any = None
) -> dict[str, Any]:
    predicted = {"a": guess(wrong_a), "b": guess(wrong_b)}
    columns = {
        key: {"row": [100 + row for row in range(40)], "text": [ATTACK] * 40, "label": LABELS, "predicted": answers,
              "p_negative": [0.1 if answer else 0.8 for answer in answers],
              "p_positive": [0.9 if answer else 0.2 for answer in answers]}
        for key, answers in predicted.items()
    }  # fmt: skip
    outcome = compare_predictions(LABELS, predicted["a"], predicted["b"], clusters)
    outcome["metrics"]["loss"] = {"a": 0.3, "b": 0.4, "difference": 0.1}
    correct = [[label == one for label, one in zip(LABELS, answers, strict=True)] for answers in predicted.values()]
    seconds = [adaptation["seconds"] if adaptation else 0.0 for adaptation in adaptations]
    return copy.deepcopy({
        "sentence": describe_comparison("e2e", "finetune", outcome), "rule": RULE, "warnings": [],
        "runs": {
            key: {"name": name, "folder": f"outputs/{name}", "strategy": name, "model": "minilm", "dataset": "sst2",
                  "seed": 1, "precision": "bf16", "train_rows": 8001, "best_epoch": 2,
                  "fingerprints": {"train": f"train-{key}", "test": f"test-{key}"}, "adaptation": adaptation}
            for key, name, adaptation in zip("ab", ("e2e", "finetune"), adaptations, strict=True)
        },
        **outcome,
        "language": "en",
        "slices": count_fixes_and_regressions(
            {"all texts": np.ones(40, dtype=bool), "1 word": np.zeros(40, dtype=bool)}, *correct
        ),
        "flips": find_most_confident_flips(columns["a"], columns["b"]),
        "cost": compare_costs(100, 100, *seconds),
        "differences": {"options": {"layer_decay": [1.0, 0.9], "head_lr": [None, 1e-3]}, "machine": {}, "versions": {}},
    })  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write([wrong rows of A], [of B])` gives report.md and report.html, in one line each."""

    def write_pages(
        wrong_a: list[int],
        wrong_b: list[int],
        adaptations: Any = (None, None),
        found: Any = (None, None),
        clusters: Any = None,
        **changes: Any,
    ) -> tuple[str, str]:
        test = {
            key: compute_metrics(guess(wrong), LABELS, LABEL_NAMES) | {"loss": 0.3}
            for key, wrong in (("a", wrong_a), ("b", wrong_b))
        }
        metrics = {
            key: {"test": {"before": compute_metrics([1] * 40, LABELS, LABEL_NAMES) | {"loss": 0.7}, "after": after},
                  "history": [{"epoch": 1, "validation": after}], "best_epoch": 1}
            for key, after in test.items()
        }  # fmt: skip
        comparison = build_comparison(wrong_a, wrong_b, list(adaptations), clusters) | changes
        write_comparison_report(tmp_path, comparison, metrics, dict(zip("ab", found, strict=True)))
        return tuple((tmp_path / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))

    return write_pages


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text on one line."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_both_pages_have_the_same_content(write: Write, tmp_path: Path) -> None:
    markdown, html = write(list(range(12)), [0, 20], (None, ADAPTATION), (None, ADAPTATION_METRICS))
    figures = {"test_metrics.svg", "history.svg", "before_after.svg", "mlm_loss.svg"}
    assert {path.name for path in tmp_path.iterdir()} == figures | {"report.md", "report.html"}
    assert set(re.findall(r"\]\((.*?)\)", markdown)) == figures
    for text in (" ".join(markdown.replace("\\", "").split()), Page(html).words):
        for words in (
            "finetune is better than e2e by 25.0 points (95% interval",
            "Both runs were tested on the same 40 test rows. finetune fixes 11 of the errors of e2e and makes 1 that",
            "with probability 0.0063 (exact McNemar test, two-sided)",
            RULE,
            "To detect a difference of one point with 80% power, about",
            "layer_decay (1.0 and 0.9); head_lr (- and 0.001). The difference is due to all of these",
            "from 10.80 to 4.10 nats per masked token",
            "finetune took 5.00 times as long as e2e",
            "From 40 fine-tunings on, finetune takes at most 1.1 times",
            "train-a",
            "test-b",
        ):
            assert words in text, words
        assert "Warning." not in text
        assert "cluster" not in text


def test_tables_in_markdown_keep_their_columns(write: Write) -> None:
    markdown, _ = write([0, 1], [1, 2], (None, ADAPTATION))
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) == 9
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert "| all texts | 40 | 2 | 2 | 1 | 1 | 0 |" in markdown


def test_review_text_is_escaped_and_the_page_loads_nothing(write: Write) -> None:
    markdown, html = write([0, 1], [1, 2])
    page = Page(html)
    assert ATTACK in page.words
    assert not [attributes for _, attributes in page.found if "onerror" in attributes]
    assert "<img" not in markdown
    assert all((attributes["src"] or "").startswith("data:") for tag, attributes in page.found if tag == "img")
    assert not re.search(r"https?:|@import|url\(", html)
    assert "| negative | 10.0% | 80.0% | 101 |" in markdown  # fixes: A was 90% sure that row 101 is positive


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"better": None, "mcnemar_p": 0.04}, "p is below 0.05, but the interval contains 0"),
        ({"better": None, "mcnemar_p": 0.06}, "the interval excludes 0, but the exact test"),
        ({"warnings": ["Other rows <b>."]}, "Warning. Other rows <b>."),
    ],
)
def test_borderline_cases_and_warnings(changes: dict[str, Any], words: str, write: Write) -> None:
    _, html = write(list(range(12)), [0, 20], **changes)
    assert words in Page(html).words


def test_runs_with_the_same_predictions(write: Write) -> None:
    for text in write([3], [3]):
        assert "classify the same rows correctly" in text
        assert "Most confident fixes" not in text
        assert "borderline" not in text


@pytest.mark.parametrize("shared", [True, False])
def test_two_adapted_runs(shared: bool, write: Write, tmp_path: Path) -> None:
    other = ADAPTATION if shared else ADAPTATION | {"run_dir": "outputs/placebo", "datasets": ["news"]}
    markdown, _ = write([3], [4], (ADAPTATION, other), (ADAPTATION_METRICS, ADAPTATION_METRICS))
    assert ("e2e and finetune started from minilm" in markdown) == shared
    assert ("finetune started from minilm, adapted to news" in markdown) != shared
    assert (tmp_path / "mlm_loss_a.svg").exists() != shared
    assert (tmp_path / "mlm_loss.svg").exists()


def test_a_missing_adaptation_and_none(write: Write, tmp_path: Path) -> None:
    markdown, _ = write([3], [4], (None, ADAPTATION))
    assert "outputs/mlm cannot be read, or holds another adaptation now" in markdown
    markdown, _ = write([3], [4])
    assert "Neither run started from an adapted model" in markdown
    assert "Amortized" not in markdown
    assert not (tmp_path / "mlm_loss.svg").exists()


def test_clusters_are_counted_in_the_report(write: Write) -> None:
    for text in write(list(range(12)), [0, 20], clusters=np.arange(40) // 2):
        words = " ".join(text.replace("\\", "").split())
        assert (
            "Both runs were tested on the same 40 test rows in 20 clusters of texts that contain each other." in words
        )
        assert "the signs of whole clusters are flipped" in words
        assert "10,000 resamples of the clusters" in words
        assert "; 40 test rows in 20 clusters of texts that contain each other)" in words  # the verdict
