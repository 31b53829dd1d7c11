"""The report of a study in Markdown and HTML, for every outcome."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentiment.reporting.study_report import FIGURES, render_study, write_study_report

Build = Callable[..., dict[str, Any]]


def write(folder: Path, verdict: dict[str, Any]) -> tuple[str, str]:
    write_study_report(folder, verdict)
    return tuple((folder / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))  # type: ignore[return-value]


def words_of(page: str) -> str:
    text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>|[|]", " ", page.replace("\\", ""), flags=re.DOTALL))
    return " ".join(text.split())


def test_it_has_every_number_and_loads_nothing(build_verdict: Build, tmp_path: Path) -> None:
    verdict = build_verdict()
    markdown, page = write(tmp_path, verdict)
    assert {path.name for path in tmp_path.iterdir()} == {*FIGURES, "report.md", "report.html"}
    assert page.count("data:image/svg+xml;base64,") == 3
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "<b>|reviews" not in page
    assert "<b>|reviews" not in markdown
    for text in (words_of(markdown), words_of(page)):
        assert verdict["sentence"] in text
        assert [sentence for sentence in verdict["effects_in_words"] if sentence not in text] == []
        for cell in verdict["scores"]:
            assert f"{cell['score']:.4f}" in text
            assert f"{cell['ci95'][0]:.4f} to {cell['ci95'][1]:.4f}" in text
    assert "{{" not in markdown + page


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        (
            {},
            ["Student's t-interval over the 3 seeds", "is 4.3 standard errors to each side",
             "1,000 labelled rows that are not part of the budget", "There are 21 such intervals",
             "The placebo was trained for the same number of steps", "(10 for mlm, 10 for placebo)", "adapt_each_seed",
             "Seeds share an adapted model",
             "(except at the budget that uses all)", "num_train_epochs at 100 labels 30",
             "the effects below tell more"],
            ["only one seed", "ran in parallel", "cluster"],
        ),
        (
            {"arms": ("e2e", "mlm+decay"), "seeds": (1,), "budgets": (100,), "jobs": 4},
            ["There is only one seed", "one seed, and so no interval", "these trained models", "4 trainings ran in"],
            ["t-interval over", "such intervals", "The placebo was"],
        ),
        (
            {"arms": ("e2e", "e2e+decay"), "seeds": (1, 2)},
            ["does not have both e2e and mlm+decay", "is 12.7 standard errors"],
            ["Adaptations", "Amortized", "B pays at", "share an adapted model"],
        ),
        (
            {"cluster_size": 4},
            ["the 400 test rows in 100 clusters of texts that contain each other count as 100 samples"], [],
        ),
        ({"adapt_each_seed": True}, ["Setup"], ["Seeds share an adapted model"]),
        ({"arms": ("e2e",)}, ["All scores"], ["Effect of each change"]),
    ],
)  # fmt: skip
def test_statements_depend_on_the_study(
    changes: dict[str, Any], said: list[str], unsaid: list[str], build_verdict: Build, tmp_path: Path
) -> None:
    for text in map(words_of, write(tmp_path, build_verdict(**changes))):
        assert [words for words in said if words not in text] == []
        assert [words for words in unsaid if words in text] == []


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.1, "mlm+decay beats e2e"), (-0.2, "It loses to e2e by"), (0.0, "mlm+decay is not shown to beat e2e")],
)
def test_the_verdict_follows_the_results(gain: float, words: str, build_verdict: Build, tmp_path: Path) -> None:
    verdict = build_verdict(arms=("e2e", "mlm+decay"), budgets=(100,), gain=gain)
    assert words in verdict["sentence"]
    assert verdict["sentence"] in words_of(write(tmp_path, verdict)[0])


def test_terminal_summary(build_verdict: Build) -> None:
    lines = render_study(build_verdict(arms=("e2e", "mlm"), budgets=(100, 8001))).splitlines()
    assert lines[0].startswith("The study does not have both")
    assert lines[1].startswith("Adaptation, without decay (mlm against e2e): ")
    assert [line.split()[0] for line in lines[3:]] == ["labels", "100", "8,001"]
