"""Jinja templates to Markdown and HTML: the environment, its filters, and writing the files.

The wording is in `templates/`, once per report; html.j2 and markdown.j2 hold the macros for the two kinds of markup.
"""

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader, Undefined

from sentiment.storage import write_atomically

METRIC_NAMES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}
HEADLINE_METRICS = METRIC_NAMES | {"macro_f1": "macro F1", "loss": "loss"}
MASKED_LM_METRICS = {
    "loss": "loss per masked token (nats)",
    "perplexity": "perplexity",
    "accuracy": "accuracy of masked tokens",
}
LONGEST_QUOTE = 300  # characters of a review shown in a table
DROP_REASONS = {
    "empty": "no text left after cleaning",
    "both_labels": "same text with both labels",
    "duplicates": "duplicate text",
    "in_test": "same text in a labelled validation or test split",
    "in_several_splits": "phrase of sentences in different splits",
}


def write_pages(folder: Path, template: str, context: Mapping[str, Any]) -> None:
    """Write report.md and report.html, which embeds its figures and loads nothing."""
    for name, markup in (("report.md", "markdown.j2"), ("report.html", "html.j2")):
        write_page(folder / name, render_template(template, {**context, "folder": folder}, markup))


def write_page(path: Path, text: str) -> None:
    """Write the text without repeated blank lines."""
    with write_atomically(path) as staged:
        staged.write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", encoding="utf-8")


def render_template(template: str, context: Mapping[str, Any], markup: str = "markdown.j2") -> str:
    """A template of `templates/` with the macros of html.j2 or markdown.j2."""
    return build_environment(markup).get_template(template).render(context, markup=markup)


def escape_markdown(value: object) -> str:
    r"""The text on one line, with all characters escaped that have a meaning in Markdown, its tables or HTML.

    >>> print(escape_markdown("<b>5 | 4</b>\n`x` *y*"))
    &lt;b&gt;5 \| 4&lt;/b&gt; \`x\` \*y\*
    """
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


@cache
def build_environment(markup: str) -> Environment:
    """The Jinja environment with its filters; autoescape is on for HTML."""
    environment = Environment(
        loader=PackageLoader("sentiment.reporting"),
        autoescape=markup == "html.j2",
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: dict[str, Callable[[Any], str]] = {
        "count": lambda value: f"{value:,}",
        "decimal": lambda value: f"{value:.4f}",
        "duration": format_duration,
        "number": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:,.1f}",
        "percent": format_percent,
        "range": lambda ends: f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}%",
        "short": lambda value: f"{value:.2f}",
        "points": lambda ends: " to ".join(format_points(*ends)),
        "signed_points": lambda share: ("+" if share > 0 else "") + format_points(share)[0],
        "p_value": format_p_value,
        "rounded": round_for_reading,
    }
    environment.filters |= {name: or_dash(form) for name, form in formats.items()} | {
        "positive_share": compute_positive_share,
        "data_uri": lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        "escape_markdown": escape_markdown,
        "quote": lambda text: text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE].rstrip() + " …",
        "values": lambda value: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value,
    }
    environment.globals |= {"drop_reasons": DROP_REASONS, "headline_metrics": HEADLINE_METRICS}
    environment.globals["describe_test_rows"] = describe_test_rows
    return environment


def or_dash(form: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same filter, with a dash for a value that is missing."""
    return lambda value: "-" if value is None or isinstance(value, Undefined) else form(value)


def compute_positive_share(part: Mapping[str, Any]) -> float | None:
    """Share of positive rows among the labelled ones of an audited split; None without labelled rows."""
    labelled = part["labels"]["negative"] + part["labels"]["positive"]
    return part["labels"]["positive"] / labelled if labelled else None


def describe_test_rows(rows: int, clusters: int | None) -> str:
    """The number of test rows, and of their clusters if there are fewer.

    >>> describe_test_rows(1000, 1000), describe_test_rows(1000, 640)
    ('1,000 test rows', '1,000 test rows in 640 clusters of texts that contain each other')
    """
    suffix = f" in {clusters:,} clusters of texts that contain each other" if clusters and clusters < rows else ""
    return f"{rows:,} test rows{suffix}"


def format_percent(share: float) -> str:
    """A share in percent; a small leak in a large split must not be rounded to 0."""
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def format_duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> format_duration(4.26), format_duration(94), format_duration(3700)
    ('4.3 s', '1 min 34 s', '1 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def format_points(*shares: float) -> list[str]:
    """Differences of shares in percentage points, with enough decimals that none is rounded to 0.

    >>> format_points(0.0192, -0.004), format_points(0.0004, 0.011), format_points(-0.0)
    (['1.9', '-0.4'], ['0.04', '1.10'], ['0.0'])
    """
    points = [100 * share + 0.0 for share in shares]  # turns -0.0 into 0.0
    decimals = next((count for count in (1, 2) if all(round(point, count) or not point for point in points)), 3)
    return [f"{point:.{decimals}f}" for point in points]


def format_p_value(value: float) -> str:
    """A p-value with two significant digits.

    >>> format_p_value(0.03857), format_p_value(0.00004), format_p_value(1.0)
    ('0.039', 'under 0.001', '1')
    """
    return "under 0.001" if value < 0.001 else f"{value:.2g}"


def round_for_reading(count: int) -> str:
    """An estimated count with two significant digits.

    >>> round_for_reading(12_417), round_for_reading(87)
    ('12,000', '87')
    """
    return f"{float(f'{count:.2g}'):,.0f}"
