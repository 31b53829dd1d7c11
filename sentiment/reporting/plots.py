"""The common look of all figures, which are not registered with pyplot, so there is no global state."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

from sentiment.data.labels import shorten
from sentiment.reporting.summaries import JsonObject, list_scores

# The colour-blind-safe palette of Okabe and Ito.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#8A8F98"
INK, FAINT, PAPER = "#1F2328", "#E3E6EA", "#FEFEFE"
# On a dark page; marks of PAPER are hollow on either. Black and white, the text of a confusion matrix, stay.
DARK_COLOURS = {
    INK: "#E6E9ED", FAINT: "#333A42", PAPER: "#14171B", GREY: "#8F98A3",
    BLUE: "#4DA6E0", ORANGE: "#F0803C", GREEN: "#2EBD8E", PURPLE: "#D27FC8",
}  # fmt: skip
LONGEST_NAME = 16  # of a class
TITLE_STYLE: dict[str, Any] = {"color": INK, "fontweight": "bold", "fontsize": 12}
LEGEND_STYLE: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "labelcolor": INK}
TITLE_PAD, LEGEND_ROW = 28, 15  # points: above axes with a legend of one row, and for each further row
RUN_STYLES = ((BLUE, "o"), (ORANGE, "s"))


def new_figure(title: str) -> tuple[Figure, Axes]:
    """A figure of the report's width with one set of axes."""
    figure = new_panels([title], width=7.2, height=4.0, pad=TITLE_PAD)
    return figure, figure.axes[0]


def new_panels(
    titles: Sequence[str], width: float, height: float, columns: int = 1, share_y: bool = False, **title_style: Any
) -> Figure:
    """A figure with axes in rows of `columns`, each with its title on the left, a faint grid and no box."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    for position, title in enumerate(titles, start=1):
        shared = figure.axes[0] if share_y and figure.axes else None
        axes = figure.add_subplot(math.ceil(len(titles) / columns), columns, position, sharey=shared)
        axes.set_title(title, loc="left", **(TITLE_STYLE | title_style))
        axes.set_facecolor("none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.grid(color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=10)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
    return figure


def render_svg(figure: Figure) -> str:
    """The figure as SVG with text that can be searched, and with colours for light and for dark pages."""
    svg = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "figure"}):  # ids are hashes, else random
        figure.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.15)
    rules = "".join(
        f'[style*="{part}: {light.lower()}"] {{ {part}: {dark} !important }}\n'
        for light, dark in DARK_COLOURS.items()
        for part in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>"
    return svg.getvalue().replace("<defs>", f"{style}\n<defs>", 1)


@cache
def load_characters() -> frozenset[int]:
    """The characters of the figures' font, DejaVu Sans, by their numbers in Unicode."""
    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def can_draw(name: str) -> bool:
    """Whether the figures' font has all characters of a name."""
    return all(ord(character) in load_characters() for character in name)


def name_class(name: str, number: int) -> str:
    """The name of a class in a figure; its number if the font lacks a character of it, as of Chinese ones."""
    return shorten(name, LONGEST_NAME) if can_draw(name) else f"class {number}"


def name_scores(metrics: JsonObject) -> dict[str, str]:
    """`list_scores` as a figure names them: without their class if the font lacks a character of it."""
    names = list_scores(metrics)
    return {key: name if can_draw(name) else name.partition(" of ")[0] for key, name in names.items()}


def choose_ink(background: Sequence[float]) -> str:
    """Black or white, whichever is easier to read on a background of red, green and blue from 0 to 1.

    By the contrast ratio of WCAG 2.2, which then is at least 4.5.

    >>> choose_ink((0.42, 0.68, 0.84)), choose_ink((0.13, 0.44, 0.71))
    ('black', 'white')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def add_legend(axes: Axes) -> None:
    """Add a legend between the title and the only axes of a figure, which grows by the rows that it needs."""
    labels, figure = axes.get_legend_handles_labels()[1], axes.get_figure(root=True)
    assert figure is not None
    column_inches = 0.6 + 0.075 * max(map(len, labels), default=0)  # handle and gap, and the letters
    columns = max(1, min(len(labels), int(0.92 * figure.get_figwidth() / column_inches)))
    further_rows = max(0, -(-len(labels) // columns) - 1)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, columnspacing=1.4, **LEGEND_STYLE)
    pad = TITLE_PAD + LEGEND_ROW * further_rows
    axes.set_title(axes.get_title(loc="left"), loc="left", pad=pad, **TITLE_STYLE)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * further_rows / 72)


def use_percent(axis: Axis, label: str = "score (%)") -> None:
    """Show shares as percentages on an axis."""
    axis.set_major_formatter(lambda share, _: f"{100 * share:.6g}")
    axis.set_label_text(label)


def use_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    """Scale the x axis to epochs, with whole numbers as ticks."""
    axes.set_xlabel("epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def ensure_y_range(axes: Axes, smallest: float) -> None:
    """Widen the y axis to the smallest range, so that a flat curve looks flat."""
    low, high = axes.get_ylim()
    margin = max(0.0, smallest - (high - low)) / 2
    axes.set_ylim(low - margin, high + margin)


def mark_restored(axes: Axes, place: float, label: str) -> None:
    """Draw a dashed vertical line at the restored epoch or step."""
    axes.axvline(place, color=INK, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1, label=label)


def draw_before_after(tests: Mapping[str, Mapping[str, JsonObject]]) -> Figure:
    """Test scores before and after training of one run or two (by label), with the 95% intervals of accuracy."""
    figure, axes = new_figure("Test metrics before and after training")
    names = name_scores(next(iter(tests.values()))["after"])
    shifts = (-0.17, 0.17) if len(tests) > 1 else (0.0,)
    for (label, test), (colour, marker), shift in zip(tests.items(), RUN_STYLES[: len(tests)], shifts, strict=True):
        for position, metric in enumerate(names):
            place, before, after = position + shift, test["before"][metric], test["after"][metric]
            outward = 1 if after >= before else -1
            axes.plot([before, after], [place, place], color=colour, linewidth=2, alpha=0.45, zorder=1)
            axes.plot([before], [place], color=GREY, marker=marker, markersize=7, linestyle="none")
            name = label if position == 0 else None
            axes.plot([after], [place], color=colour, marker=marker, markersize=8, linestyle="none", label=name)
            for moment, score, direction in (("before", before, -outward), ("after", after, outward)):
                low, high = test[moment]["accuracy_ci95"] if metric == "accuracy" else (score, score)
                band: dict[str, Any] = {"color": colour if moment == "after" else GREY, "linewidth": 7, "alpha": 0.25}
                axes.plot([low, high], [place, place], solid_capstyle="butt", zorder=1, **band)
                label_score(axes, score, (high if direction > 0 else low, place), direction)
    axes.plot([], [], color=GREY, marker="o", markersize=7, linestyle="none", label="before training")
    axes.set_yticks(range(len(names)), list(names.values()))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-0.09, 1.09)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    use_percent(axes.xaxis, "score (%); bands: 95% interval of accuracy")
    add_legend(axes)
    return figure


def label_score(axes: Axes, score: float, point: tuple[float, float], direction: int) -> None:
    """Write a score in percent to the right (1) or to the left (-1) of a point."""
    axes.annotate(
        f"{100 * score:.1f}", point, (8 * direction, 0), textcoords="offset points", va="center",
        ha="left" if direction > 0 else "right", fontsize=9.5, color=INK,
    )  # fmt: skip
