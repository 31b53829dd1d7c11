"""A griffe extension for the site: doctests of docstrings become code blocks."""

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"(?:^|(?<=\n\n))>>> .+?(?=\n\n|\Z)", re.DOTALL)


class FencedDoctests(griffe.Extension):
    """Fences each doctest, so that its output is not read as Markdown."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **_: Any) -> None:
        """Rewrites the docstring of an object that was just read."""
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
