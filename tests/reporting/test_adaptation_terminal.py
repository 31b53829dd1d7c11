from typing import Any

from sentiment.reporting.terminal import render_adaptation

METRICS: dict[str, Any] = {
    "validation": {
        "before": {"loss": 10.8, "perplexity": 49020.8, "accuracy": 0.0001, "masked_tokens": 41210},
        "after": {"loss": 4.2, "perplexity": 66.69, "accuracy": 0.3111, "masked_tokens": 41210},
    }
}


def test_adaptation() -> None:
    title, *rows, tokens = [line.split() for line in render_adaptation(METRICS).splitlines()]
    assert title == ["validation", "before", "after", "change"]
    assert [row[-3:] for row in rows] == [
        ["10.8000", "4.2000", "-6.6000"],
        ["49,020.8", "66.7", "-48,954.1"],
        ["0.0001", "0.3111", "+0.3110"],
    ]
    assert tokens == ["masked", "tokens:", "41,210"]


def test_adaptation_that_was_not_measured_before() -> None:
    metrics = {"validation": {"after": METRICS["validation"]["after"]}}
    assert render_adaptation(metrics).splitlines()[1].split()[-3:] == ["-", "4.2000", "-"]
