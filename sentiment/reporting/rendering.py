"""Templates with the wording of the reports to Markdown and HTML; html.j2 and markdown.j2 hold the markup's macros."""

import base64
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChainableUndefined, Environment, PackageLoader, Undefined
from markupsafe import Markup

from sentiment.reporting.formatting import (
    describe_test_rows,
    escape_markdown,
    format_duration,
    format_p_value,
    format_percent,
    format_points,
    hide_folder,
    join_values,
    quote_text,
    round_for_reading,
)
from sentiment.reporting.summaries import (
    DROP_REASONS,
    METRIC_NAMES,
    JsonObject,
    compare_before_after,
    compare_side_by_side,
    describe_baseline,
    describe_best_baseline,
    describe_label_issues,
    describe_slices,
    list_baselines,
    list_class_counts,
    list_confused_pairs,
    list_headline_metrics,
    list_scores,
)
from sentiment.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # terminal commands do without


def write_report_files(folder: Path, template: str, context: JsonObject, figures: Mapping[str, "Figure"]) -> None:
    """Write the figures, report.md, and report.html, which embeds the figures and loads nothing."""
    save_figures(folder, figures)
    for name, markup in (("report.md", "markdown.j2"), ("report.html", "html.j2")):
        write_page(folder / name, template, {**context, "folder": folder, "figures": list(figures)}, markup)


def save_figures(folder: Path, figures: Mapping[str, "Figure"]) -> None:
    """Write figures as SVG under their file names; the same data gives the same file."""
    from sentiment.reporting.plots import render_svg  # terminal commands do without matplotlib

    for name, figure in figures.items():
        with write_atomically(folder / name) as staged:
            staged.write_text(render_svg(figure), encoding="utf-8")


def write_page(path: Path, template: str, context: JsonObject, markup: str = "markdown.j2") -> None:
    """Render a template with the macros of html.j2 or markdown.j2, and write it without repeated blank lines."""
    text = build_environment(markup).get_template(template).render(context, markup=markup)
    with write_atomically(path) as staged:
        staged.write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", encoding="utf-8")


@cache
def build_environment(markup: str) -> Environment:
    """The Jinja environment with its filters; autoescape is on for HTML."""

    def or_dash(form: Callable[[Any], str]) -> Callable[[Any], str]:
        return lambda value: "-" if value is None or isinstance(value, Undefined) else form(value)

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
        "form": lambda value, form: or_dash(lambda number: f"{number:{form or '.4f'}}")(value),
        "data_uri": lambda path: "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
        "add_contents": add_contents,
        "escape_markdown": escape_markdown,
        "log": math.log,
        "make_anchor": make_anchor,
        "quote": quote_text,
        "file_name": hide_folder,
        "values": join_values,
    }
    constants = {"drop_reasons": DROP_REASONS, "metric_names": METRIC_NAMES}
    functions = (
        *(describe_baseline, describe_slices, describe_test_rows, compare_before_after, compare_side_by_side),
        *(describe_best_baseline, describe_label_issues, list_baselines),
        *(list_scores, list_headline_metrics, list_class_counts, list_confused_pairs),
    )
    environment.globals |= constants | {function.__name__: function for function in functions}
    return environment


def make_anchor(title: str) -> str:
    """The id of a section.

    >>> make_anchor("Before and after training")
    'before-and-after-training'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def add_contents(body: Markup) -> Markup:
    """The body of an HTML page with links to its sections before the first one, if there are more than three."""
    sections = re.findall(r'<section id="(.*?)">.*?<h2>(.*?)</h2>', body, flags=re.DOTALL)
    if len(sections) <= 3:
        return body
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in sections)
    start, first, end = body.partition("<section ")
    return Markup(f'{start}<nav aria-label="Contents"><ul>{links}</ul></nav>\n{first}{end}')
