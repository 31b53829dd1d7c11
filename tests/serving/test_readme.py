"""The README's examples of the service, run as they stand there."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CURLS = re.findall(r"^curl (?:.*\\\n)*.*$", README, re.MULTILINE)
KEYS = {"/query": {"results", "labels", "scores"}, "/explain": {"label", "score", "words"}}


def test_there_are_examples() -> None:
    paths = {path for path in ("/query", "/predict", "/explain") if any(f":8000{path} " in curl for curl in CURLS)}
    assert paths == {"/query", "/predict", "/explain"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("example", CURLS)
def test_curl(example: str, listen: Callable[..., Any]) -> None:
    command = example.replace("http://127.0.0.1:8000", listen().url).replace("curl ", "curl --silent --fail ", 1)
    found = json.loads(subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout)
    path = re.search(r":8000(/\w+)", example)
    assert path is not None
    if path[1] == "/predict":
        assert [{answer["label"] for answer in answers} for answers in found] == [{"negative", "positive"}]
    else:
        assert found.keys() == KEYS[path[1]]


def test_three_lines_of_python(tiny_classifier: Path) -> None:
    (example,) = [
        code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "SentimentPredictor" in code
    ]
    *lines, last = example.replace("outputs/e2e", str(tiny_classifier)).strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join([*lines, f"found = {last}"]), names)
    assert [prediction.label in ("negative", "positive") for prediction in names["found"]] == [True]
