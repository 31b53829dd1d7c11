from collections.abc import Callable
from typing import Any

import pytest

from sentiment.reporting.adaptation_report import smooth, truncate_around_mask
from sentiment.reporting.formatting import (
    describe_test_rows,
    escape_markdown,
    format_change,
    format_duration,
    format_p_value,
    format_points,
    round_for_reading,
)
from sentiment.reporting.model_cards import find_hub_name, shorten_dataset_name
from sentiment.reporting.summaries import describe_slices
from sentiment.reporting.terminal import render_table
from sentiment.reporting.verdicts import name_budgets


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (escape_markdown, ["<b>5 | 4</b>\n`x` *y*"], r"&lt;b&gt;5 \| 4&lt;/b&gt; \`x\` \*y\*"),
        (format_change, [0.0123], "+0.0123"),
        (format_change, [-0.00001], "0.0000"),
        (describe_test_rows, [1000, 1000], "1,000 test rows"),
        (describe_test_rows, [1000, 640], "1,000 test rows in 640 clusters of texts that contain each other"),
        (format_duration, [4.26], "4.3 s"),
        (format_duration, [94], "1 min 34 s"),
        (format_duration, [3700], "1 h 1 min"),
        (format_points, [0.0192, -0.004], ["1.9", "-0.4"]),
        (format_points, [0.0004, 0.011], ["0.04", "1.10"]),
        (format_points, [-0.0], ["0.0"]),
        (format_p_value, [0.03857], "0.039"),
        (format_p_value, [0.00004], "under 0.001"),
        (format_p_value, [1.0], "1"),
        (round_for_reading, [12_417], "12,000"),
        (round_for_reading, [87], "87"),
        (find_hub_name, ["imdb"], "stanfordnlp/imdb"),
        (find_hub_name, ["cornell/rotten"], "cornell/rotten"),
        (find_hub_name, ["reviews.csv"], None),
        (shorten_dataset_name, ["stanfordnlp/sst2"], "sst2"),
        (shorten_dataset_name, ["my_reviews.csv"], "my_reviews"),
        (name_budgets, [[100, 1000]], "100 and 1,000 labels"),
        (truncate_around_mask, ["a very [MASK] film"], "a very [MASK] film"),
        (truncate_around_mask, ["好" * 200 + "[MASK]" + "很" * 200], "… " + "好" * 110 + "[MASK]" + "很" * 110 + " …"),
        (truncate_around_mask, ["word " * 40 + "[MASK]"], "… " + "word " * 21 + "[MASK]"),
        (render_table, [[["test", "rows"], ["accuracy", "7"]]], "test      rows\naccuracy     7"),
    ],
)
def test_formats(function: Callable[..., Any], arguments: list[Any], expected: Any) -> None:
    assert function(*arguments) == expected


def test_smoothing_keeps_a_straight_line() -> None:
    losses = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    assert smooth(losses) == pytest.approx(losses)


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "Language of the texts: en. Negation and contrast are found by lists of English words."),
        ("de", "Language of the texts: de. Negation and contrast are left out: their lists of words are English."),
        (
            "und",
            "Language of the texts: not determined. Negation and contrast are left out: their lists of words are E",
        ),
        ("th", "Language of the texts: th, without spaces between words, so lengths are in letters and digits."),
    ],
)
def test_slices_are_described_by_the_language(language: str, sentence: str) -> None:
    assert describe_slices(language).startswith(sentence)
