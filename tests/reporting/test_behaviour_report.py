"""The report of behaviour tests: sentences, tables, examples, and texts that stay texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentiment.data.behaviour_cases import Case
from sentiment.evaluation.behaviour import summarize_capabilities
from sentiment.reporting.behaviour_report import FIGURE, draw_failure_rates, render_behaviour, write_behaviour_report

RATES = {"negation": (0.5, 0.2), "names": (0.0, 0.02), "contrast": (0.3, 0.32), "<b>|odd|</b>": (0.1, 0.1)}


def build_result(models: int) -> dict[str, Any]:
    cases = [Case(name, "invariance", f"{name} {row}", original="x") for name in RATES for row in range(200)]
    failed = [
        np.concatenate([np.arange(200) < 200 * rates[min(place, 1)] for rates in RATES.values()])
        for place in range(models)
    ]
    summaries = summarize_capabilities(cases, failed)
    answer = {"label": "positive", "probability": 0.25, "original_label": "negative", "original_probability": 0.75}
    example = {"text": "<script>|a|</script>", "original": "a" * 400, "expected": None, "kind": "invariance"}
    for summary in summaries:
        answers = [answer | {"failed": place == 0} for place in range(models)]
        summary |= {"description": "", "examples": [example | {"tolerance": 0.1, "answers": answers}]}
    summaries[1]["examples"] = []
    return {
        "cases": {"source": "the built-in suite", "number": 800, "count": 200, "seed": 1},
        "models": [
            {"name": f"run_{place}", "folder": "x", "labels": [], "temperature": 1.5} for place in range(models)
        ],
        "warnings": ["run_0: something is truncated"],
        "capabilities": summaries,
    }


def test_terminal() -> None:
    lines = render_behaviour(build_result(2)).splitlines()
    assert lines[0] == (
        "Of 4 capabilities that are looked at, with Holm's correction for their number: run_1 fails less often in "
        "negation (McNemar's exact test)."
    )
    assert lines[1:4] == [
        "run_0 fails most often in negation (50.0%), contrast (30.0%), <b>|odd|</b> (10.0%).",
        "run_1 fails most often in contrast (32.0%), negation (20.0%), <b>|odd|</b> (10.0%).",
        "Probabilities are calibrated, at temperature 1.50 (run_0), 1.50 (run_1); labels do not depend on it.",
    ]
    assert "Warning: run_0: something is truncated." in lines
    (row,) = [line for line in lines if line.startswith("negation ")]
    assert " ".join(row.split()) == (
        "negation 200 50.0% (43.1 to 56.9) 20.0% (15.0 to 26.1) -30.0 (-36.2 to -23.3) under 0.001"
    )
    alone = render_behaviour(build_result(1))
    assert alone.startswith("run_0 fails most often in negation (50.0%)")
    assert "B - A" not in alone


def test_no_difference_and_no_failure() -> None:
    result = build_result(2)
    for summary in result["capabilities"]:
        summary["difference"]["better"] = None
        summary["models"][1]["failure_rate"] = 0.0
    text = render_behaviour(result)
    assert "no difference is shown (McNemar's exact test)" in text
    assert "run_1 fails no case." in text


@pytest.mark.parametrize("models", [1, 2, 5])
def test_files(models: int, tmp_path: Path) -> None:
    write_behaviour_report(tmp_path, build_result(models))
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.html", FIGURE}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;|a|&lt;/script&gt; (original: aaa" in page
    assert "✗ negative → positive, P(negative) 75.0% → 25.0%" in page
    assert ("Holm p" in page) == (models == 2)
    assert "No case is failed." in page
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"]({FIGURE})" in markdown
    assert "a" * 301 not in markdown


def test_figure_has_a_point_for_each_capability_and_model() -> None:
    (axes,) = draw_failure_rates(build_result(2)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*RATES]
    assert [line.get_xdata().tolist() for line in axes.lines] == [  # type: ignore[union-attr]
        [0.5, 0.0, 0.3, 0.1],
        [0.2, 0.02, 0.32, 0.1],
    ]
    assert axes.get_xlim()[0] < 0
