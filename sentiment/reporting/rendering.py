"""How a story becomes Markdown and HTML: the templates' environment, their filters, and files written at once.

The wording stands in `templates/`: each story is told once, and html.j2 and markdown.j2 know how to write it.
"""

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader, Undefined

from sentiment.storage import write_atomically

LONGEST_QUOTE = 300  # characters of a review that a table shows


def write_pages(folder: Path, template: str, story: Mapping[str, Any]) -> None:
    """Write report.md and report.html into the folder; the page carries its pictures inside and asks for nothing."""
    for name, writer in (("report.md", "markdown.j2"), ("report.html", "html.j2")):
        write_page(folder / name, render_template(template, {**story, "folder": folder}, writer))


def write_page(path: Path, text: str) -> None:
    """Writes the text without runs of blank lines."""
    with write_atomically(path) as staged:
        staged.write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", encoding="utf-8")


def render_template(template: str, story: Mapping[str, Any], writer: str = "markdown.j2") -> str:
    """The story as one of `templates/` tells it, in the form that `writer` (html.j2 or markdown.j2) knows."""
    return build_environment(writer).get_template(template).render(story, writer=writer)


def escape_markdown(value: object) -> str:
    r"""The text on one line, with every character escaped that Markdown, its tables or HTML would act on.

    >>> print(escape_markdown("<b>5 | 4</b>\n`x` *y*"))
    &lt;b&gt;5 \| 4&lt;/b&gt; \`x\` \*y\*
    """
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


@cache
def build_environment(writer: str) -> Environment:
    """The templates with the filters that they use; autoescape is on for HTML."""
    environment = Environment(
        loader=PackageLoader("sentiment.reporting"),
        autoescape=writer == "html.j2",
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": or_dash(lambda value: f"{value:,}"),
        "decimal": or_dash(lambda value: f"{value:.4f}"),
        "duration": or_dash(format_duration),
        "number": or_dash(lambda value: f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"),
        "percent": or_dash(format_percent),
        "range": or_dash(lambda ends: f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}%"),
        "positive_share": compute_positive_share,
        "data_uri": lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        "escape_markdown": escape_markdown,
        "quote": lambda text: text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE].rstrip() + " …",
        "short": or_dash(lambda value: f"{value:.2f}"),
        "points": or_dash(lambda ends: " to ".join(format_points(*ends))),
        "signed_points": or_dash(
            lambda share: format_points(share)[0] if share <= 0 else "+" + format_points(share)[0]
        ),
        "p_value": or_dash(format_p_value),
        "rounded": or_dash(round_for_reading),
    }
    return environment


def or_dash(form: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same filter, with a dash for a value that the run did not record."""
    return lambda value: "-" if value is None or isinstance(value, Undefined) else form(value)


def compute_positive_share(part: Mapping[str, Any]) -> float | None:
    """Share of positive rows among the labelled ones of an audited split."""
    labelled = part["labels"]["negative"] + part["labels"]["positive"]
    return part["labels"]["positive"] / labelled if labelled else None


def format_percent(share: float) -> str:
    """A share in per cent; a leak of a few texts among many thousands must not read as none."""
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def format_duration(seconds: float) -> str:
    """Seconds in the units that a reader thinks in.

    >>> format_duration(4.26), format_duration(94), format_duration(3700)
    ('4.3 s', '1 min 34 s', '1 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def format_points(*shares: float) -> list[str]:
    """Differences of shares in percentage points, with the decimals that it takes for none to read as 0.

    >>> format_points(0.0192, -0.004), format_points(0.0004, 0.011), format_points(-0.0)
    (['1.9', '-0.4'], ['0.04', '1.10'], ['0.0'])
    """
    points = [100 * share + 0.0 for share in shares]  # which makes -0.0 of no sign
    decimals = next((count for count in (1, 2) if all(round(point, count) or not point for point in points)), 3)
    return [f"{point:.{decimals}f}" for point in points]


def format_p_value(value: float) -> str:
    """A p-value with what a reader needs of it.

    >>> format_p_value(0.03857), format_p_value(0.00004), format_p_value(1.0)
    ('0.039', 'under 0.001', '1')
    """
    return "under 0.001" if value < 0.001 else f"{value:.2g}"


def round_for_reading(count: int) -> str:
    """The count with two digits that say something, more than which an estimate cannot have.

    >>> round_for_reading(12_417), round_for_reading(87)
    ('12,000', '87')
    """
    return f"{float(f'{count:.2g}'):,.0f}"
