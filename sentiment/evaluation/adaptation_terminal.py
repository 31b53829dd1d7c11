"""The table that an adaptation ends with, for a terminal."""

from collections.abc import Mapping
from typing import Any

from sentiment.evaluation.terminal import render_table

FORMS = {
    "loss": ("loss per masked token (nats)", ".4f"),
    "perplexity": ("perplexity", ",.1f"),
    "accuracy": ("accuracy of masked tokens", ".4f"),
}


def render_adaptation(metrics: Mapping[str, Any]) -> str:
    """Validation loss, perplexity and accuracy of masked tokens before and after, and how many tokens these rest on."""
    rows = [["validation", "before", "after", "change"], *compare_adaptation(metrics)]
    return f"{render_table(rows)}\nmasked tokens: {metrics['validation']['after']['masked_tokens']:,}"


def compare_adaptation(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Name, value before, value after and change of each measure; a dash where one is missing."""
    before, after = metrics["validation"].get("before") or {}, metrics["validation"]["after"]
    rows = []
    for key, (name, form) in FORMS.items():
        old, new = before.get(key), after[key]
        change = "-" if old is None else f"{new - old:+{form}}"
        rows.append([name, "-" if old is None else f"{old:{form}}", f"{new:{form}}", change])
    return rows
