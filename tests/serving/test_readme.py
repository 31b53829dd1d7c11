"""The documents' examples of the service, run as they are there."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/serving.md")]
CURLS = [curl for page in PAGES for curl in re.findall(r"^curl (?:.*\\\n)*.*$", page, re.MULTILINE)]
KEYS = {"/query": {"results", "labels", "scores"}, "/explain": {"label", "score", "words", "counterfactual"}}


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
