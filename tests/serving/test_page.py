"""The page: what it is made of, and what headless Chromium makes of it where there is one."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=10000", "--dump-dom",
)  # fmt: skip


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/page.css", "/page.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"https?://(?!www\.w3\.org/)|innerHTML|insertAdjacentHTML|eval\(", answer.text), path


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: the page is not opened")
def test_what_is_typed_stays_text(run_server: Callable[..., Any], tmp_path: Path) -> None:
    text = "good <img src=x onerror=\"document.title='hacked'\"> film"
    url = f"{run_server().url}/#text={quote(text)}"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path}", url]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "good &lt;img src=x" in page
    assert "<img" not in page
    assert "hacked</title>" not in page
    assert re.search(r"(positive|negative)", page)
    assert "1 text:" in page
