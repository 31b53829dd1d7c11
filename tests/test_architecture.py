"""The layers of the package: a module imports from its own layer or a lower one (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

import sentiment

PACKAGE = Path(sentiment.__file__).parent
# From the bottom to the top.
LAYERS = (
    *(("exceptions",), ("environment", "storage"), ("config", "demo"), ("data",), ("models",), ("training",)),
    *(("evaluation",), ("runs",), ("reporting",), ("inference",), ("objectives",), ("pipelines", "serving")),
    *(("study", "search"), ("commands",)),
    ("command_parser",),
    ("cli", "__main__", "__init__"),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def get_part(module: str) -> str:
    """The package or top-level module that a module belongs to."""
    return (module.split(".") + ["__init__"])[1]


def list_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {get_part(name) for name in found if name.startswith("sentiment.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path: Path) -> None:
    own = get_part(".".join(("sentiment", *path.relative_to(PACKAGE).with_suffix("").parts)))
    assert own in LEVELS
    assert sorted(part for part in list_imports(path) if LEVELS[part] > LEVELS[own]) == []


# Files that may know a class by its name or place: the labels, the embedded sentences, the default of a new model, the
# metrics that two classes alone have, the polarity of words, and the page's colours.
KNOWS_TWO_CLASSES = {
    *("data/labels.py", "data/sources.py", "models/classifier.py", "evaluation/significance.py"),
    *("objectives/polarity.py", "serving/page/page.js"),
}
TWO_CLASSES = re.compile(r"\[(:|\.\.\.), ?1\]|LABEL_NAMES|[\"'](positive|negative)[\"']|num_labels ?= ?2|2, 2, 2")


def test_no_other_code_assumes_two_classes() -> None:
    paths = [path for suffix in ("py", "j2", "js", "html") for path in PACKAGE.rglob(f"*.{suffix}")]
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in paths
        if TWO_CLASSES.search(re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL))
    }
    assert found == KNOWS_TWO_CLASSES
