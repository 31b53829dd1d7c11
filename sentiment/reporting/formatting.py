"""Numbers, texts and names as reports and terminal show them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LONGEST_QUOTE = 300  # characters of a review shown in a table


def escape_markdown(value: object) -> str:
    """The text on one line, with all characters escaped that have a meaning in Markdown, its tables or HTML."""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


def quote_text(text: str) -> str:
    """A review as far as it is shown in a table."""
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE].rstrip() + " …"


def hide_folder(name: str) -> str:
    """The name of a model or dataset: of an absolute path, or one that starts with a dot, the file name alone.

    >>> hide_folder("/home/me/reviews.csv"), hide_folder("../reviews.csv"), hide_folder("outputs/mlm")
    ('reviews.csv', 'reviews.csv', 'outputs/mlm')
    """
    return Path(name).name if name.startswith(".") or Path(name).is_absolute() else name


def format_change(value: float) -> str:
    """A difference with its sign, or without one if it is rounded to 0."""
    text = f"{value:+.4f}"
    return text if float(text) else text[1:]


def describe_test_rows(rows: int, clusters: int | None) -> str:
    """The number of test rows, and of their clusters if there are fewer."""
    suffix = f" in {clusters:,} clusters of texts that contain each other" if clusters and clusters < rows else ""
    return f"{rows:,} test rows{suffix}"


def format_percent(share: float) -> str:
    """A share in percent; a small leak in a large split must not be rounded to 0."""
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def format_duration(seconds: float) -> str:
    """Seconds as "4.3 s", "1 min 34 s" or "1 h 1 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def format_points(*shares: float) -> list[str]:
    """Differences of shares in percentage points, with enough decimals that none is rounded to 0."""
    points = [100 * share + 0.0 for share in shares]  # turns -0.0 into 0.0
    decimals = next((count for count in (1, 2) if all(round(point, count) or not point for point in points)), 3)
    return [f"{point:.{decimals}f}" for point in points]


def format_p_value(value: float) -> str:
    """A p-value with two significant digits."""
    return "under 0.001" if value < 0.001 else f"{value:.2g}"


def join_values(value: Any) -> Any:
    """A list or mapping of options in one line.

    >>> join_values(["a", "b"]), join_values({"lr": 0.1, "dropout": 0})
    ('a, b', 'lr 0.1, dropout 0')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def round_for_reading(count: float) -> str:
    """An estimated count with two significant digits: "12,000"."""
    return f"{float(f'{count:.2g}'):,.0f}"
