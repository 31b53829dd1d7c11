"""The layers of the package: a module imports from its own layer or a lower one (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

import sentiment

PACKAGE = Path(sentiment.__file__).parent
# From the bottom to the top.
LAYERS = (
    *(("exceptions",), ("environment", "storage"), ("config", "demo"), ("data",), ("models",), ("training",)),
    *(("evaluation",), ("runs",), ("reporting",), ("inference",), ("pipelines", "serving"), ("study",)),
    ("commands",),
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
