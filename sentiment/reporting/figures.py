"""The one look that all pictures share. Figures are drawn without pyplot, so nothing global is left behind."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#8A8F98"
INK, FAINT = "#1F2328", "#E3E6EA"
DOTS_PER_INCH = 144


def new_figure(title: str) -> tuple[Figure, Axes]:
    """A figure of a report's width with one set of axes."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    style_axes(axes, title)
    return figure, axes


def style_axes(axes: Axes, title: str, pad: float = 28) -> None:
    """Give axes the look of a report: a title on the left, faint grid, no box."""
    axes.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold", pad=pad)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=10)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def add_legend(axes: Axes) -> None:
    """Put the legend between title and picture, where it can hide no line."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, frameon=False, fontsize=9.5, columnspacing=1.4)


def save_figure(figure: Figure, path: Path) -> None:
    """Write the picture as PNG, at once."""
    unfinished = path.with_name(path.name + ".part")
    figure.savefig(unfinished, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.15)
    unfinished.replace(path)
