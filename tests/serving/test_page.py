"""The demo page: its files, and its behaviour in headless Chromium if that is installed."""

import csv
import fcntl
import http.server
import io
import itertools
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pyarrow.parquet
import pytest
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from sentiment.pipelines.comparison import compare
from sentiment.serving.middleware import PAGE_FILES

AXE = "axe-core@4.12.1"
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
SECONDS = 60  # timeout of every wait
TOKEN = "café secret"
HOSTILE = "good <img src=x onerror=\"document.title='hacked'\"> film"
NUMBER_OF_ROWS = "find('results').children.length"
IS_REQUIRED = os.environ.get("SENTIMENT_REQUIRE_BROWSER") == "1"  # in CI these tests fail without a browser
in_chromium = pytest.mark.skipif(
    CHROMIUM is None and not IS_REQUIRED, reason="no chromium on the PATH: the page is not opened"
)


class Chromium:
    """A browser controlled over two pipes by the Chrome DevTools protocol."""

    def __init__(self, program: str, folder: Path):
        (command, self.commands), (self.answers, answer) = os.pipe(), os.pipe()
        # It reads from descriptor 3 and writes to 4. Copies far above these, so that neither is overwritten too early.
        above = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (command, answer)]
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(above, start=3)]
        actions += [(os.POSIX_SPAWN_OPEN, 2, str(folder / "log"), os.O_WRONLY | os.O_CREAT, 0o600)]
        arguments = [program, f"--user-data-dir={folder}", "--remote-debugging-pipe", *FLAGS]
        self.process = os.posix_spawn(program, arguments, os.environ, file_actions=actions, setpgroup=0)
        for end in (command, answer, *above):
            os.close(end)
        self.numbers, self.rest, self.events = itertools.count(), b"", list[dict[str, Any]]()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        number = next(self.numbers)
        command = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while (message := self.read()).get("id") != number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def read(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.rest:
            assert select.select([self.answers], [], [], SECONDS)[0], "the browser does not answer"
            read = os.read(self.answers, 1 << 16)
            assert read, "the browser has ended"
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.commands)
        os.close(self.answers)


class Tab:
    """A tab in a browser context of its own."""

    def __init__(self, browser: Chromium, width: int = 1200, height: int = 900, **media: str):
        self.browser = browser
        self.context = browser.ask("Target.createBrowserContext")["browserContextId"]
        self.target = browser.ask("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Network.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **parameters)

    def open(self, url: str) -> None:
        """Open a page, and wait for the first answer of its service."""
        self.ask("Page.navigate", url=url)
        self.wait("find('models').children.length || find('error').textContent || !find('token-form').hidden")

    def run(self, script: str) -> Any:
        """The value of an expression; of a promise, once it is resolved."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until this expression is true on the page."""
        everything = "{subtree: true, childList: true, attributes: true, characterData: true}"
        self.run(
            "new Promise((done) => { const find = (id) => document.getElementById(id);"
            f"const look = () => {{ if (document.readyState === 'complete' && ({condition})) done(); }};"
            f"new MutationObserver(look).observe(document, {everything}); addEventListener('load', look); look(); }})"
        )

    def press(self, key: str, modifiers: int = 0) -> None:
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": modifiers}
        text = {"text": "\r" if key == "Enter" else key} if key != "Tab" and not modifiers else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Insert text at the focus, as pasting does."""
        self.ask("Input.insertText", text=text)


class Prefixed(http.server.BaseHTTPRequestHandler):
    """A proxy that maps `/some/where/...` to `/...` of the service."""

    prefix, target = "/some/where", ""

    def pass_on(self) -> None:
        path = self.path.removeprefix(self.prefix)
        if path == self.path:
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0))) or None
        headers = {"content-type": self.headers["content-type"]} if body else {}
        with urllib.request.urlopen(urllib.request.Request(self.target + path, body, headers)) as answer:
            self.send_response(answer.status)
            for name in ("content-type", "content-security-policy", "content-length"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.read())

    do_GET = do_POST = pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    started = Chromium(str(CHROMIUM), tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def plain(run_server: Callable[..., Any]) -> str:
    """One model, no token."""
    return run_server().url


@pytest.fixture(scope="module")
def guarded(run_server: Callable[..., Any], tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two models that always disagree, a token, and small limits."""
    contrary = tmp_path_factory.mktemp("models") / "contrary"
    shutil.copytree(tiny_classifier, contrary)
    weights = load_file(contrary / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, contrary / "model.safetensors", metadata={"format": "pt"})
    flags = ("--compare-with", str(contrary), "--max-sentences", "3", "--max-characters", "40")
    return run_server(*flags, SENTIMENT_SERVE_TOKEN=TOKEN).url


@pytest.fixture
def proxy(plain: str) -> Iterator[http.server.ThreadingHTTPServer]:
    """A proxy with a path prefix in front of the service."""
    handler = type("Handler", (Prefixed,), {"target": plain})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(SECONDS)


def ask_service(url: str, body: dict[str, Any]) -> Any:
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}".encode().decode("latin-1")}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)


def compute_contrast(*colors: list[float]) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21, of two RGB colors; small text needs 4.5."""
    parts = [[part / 255 for part in color] for color in colors]
    linear = [
        [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color] for color in parts
    ]
    dark, light = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear)
    return (light + 0.05) / (dark + 0.05)


def give_token(tab: Tab, token: str) -> None:
    tab.run("find('token').focus(); find('token').select()")
    tab.type(token)
    tab.press("Enter")


def test_files_load_nothing_from_other_hosts(client: TestClient) -> None:
    for path in sorted(PAGE_FILES):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"https?://(?!www\.w3\.org/)|innerHTML|insertAdjacentHTML|eval\(", answer.text), path
    page = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)
    assert not re.search(r"""(?:src|href)=["'](?:/|\w+:(?!image/svg))""", page), (
        "behind a path prefix, / is another service"
    )


@in_chromium
def test_typed_html_stays_text(plain: str, tmp_path: Path) -> None:
    flags = (*FLAGS, "--virtual-time-budget=10000", "--dump-dom", f"--user-data-dir={tmp_path}")
    command = [str(CHROMIUM), *flags, f"{plain}/#text={quote(HOSTILE)}"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "good &lt;img src=x" in page
    assert "<img" not in page
    assert "hacked</title>" not in page
    assert re.search(r"(positive|negative)", page)
    assert "1 text:" in page


@in_chromium
def test_marked_words_stay_text(browser: Chromium, plain: str) -> None:
    tab = Tab(browser)
    tab.open(f"{plain}/#text={quote(HOSTILE)}")
    tab.wait(NUMBER_OF_ROWS)
    tab.run("document.querySelector('#results button').click()")
    tab.wait("document.querySelector('[aria-expanded=true]') && document.querySelector('.reasons').textContent")
    assert tab.run("document.querySelector('.text').textContent") == HOSTILE
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run("document.title") == "Sentiment"


@in_chromium
def test_answers_are_shown(browser: Chromium, plain: str) -> None:
    texts = ["a good film", "the plot is awful", "very good but a bad ending"]
    answer = ask_service(f"{plain}/query", {"sentences": texts})
    tab = Tab(browser)
    tab.open(f"{plain}/#text={quote(f'  {texts[0]}  {chr(10)}{chr(10)}{texts[1]}{chr(10)}{texts[2]}')}")
    tab.wait(NUMBER_OF_ROWS)
    read = "[...document.querySelectorAll('{}')].map((element) => {})"
    assert tab.run(read.format("#results .text", "element.textContent")) == texts
    assert tab.run(read.format("#results .label", "element.textContent")) == answer["labels"]
    widths = tab.run(read.format(".bar > span", "element.offsetWidth / element.parentElement.offsetWidth"))
    assert widths == pytest.approx([score - 0.5 for score in answer["scores"]], abs=0.02)
    positive = sum(answer["results"])
    assert tab.run("find('summary').textContent") == f"3 texts: {positive} positive, {3 - positive} negative"
    assert "fp32 · up to 16 tokens per text" in tab.run("find('models').textContent")


@in_chromium
def test_keyboard_only(browser: Chromium, plain: str) -> None:
    tab = Tab(browser)
    tab.open(plain)
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "texts"
    tab.type("a good film")
    tab.press("Enter", modifiers=2)
    tab.wait(NUMBER_OF_ROWS)
    assert tab.run("find('texts').value") == "a good film"
    places = []
    for _ in range(3):
        tab.press("Tab")
        places.append(tab.run("document.activeElement.textContent"))
        assert tab.run("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2, places
    assert places == ["Label texts", "Label a file", "Why? Text 1"]
    tab.press("Enter")
    tab.wait("document.querySelector('[aria-expanded=true]')")
    found = ask_service(f"{plain}/explain", {"sentence": "a good film"})
    words, counterfactual = found["words"], found["counterfactual"]
    weights = {word["text"]: word["weight"] for word in words if abs(word["weight"]) >= 0.01}
    heavy = [[word, "for" if weight > 0 else "against"] for word, weight in weights.items()]
    marks = tab.run("[...document.querySelectorAll('.text mark')].map((mark) => [mark.textContent, mark.className])")
    assert heavy
    assert marks == heavy
    listed = " and ".join(f"“{words[place]['text']}”" for place in (counterfactual or {"omitted": []})["omitted"])
    expected = f"Without {listed}, the answer would be" if listed else "No few words were found"
    assert expected in tab.run("document.querySelector('.reasons').textContent")
    assert tab.run("find('announcement').textContent") == tab.run("document.querySelector('.reasons').textContent")
    tab.press("Enter")
    tab.wait("document.querySelector('.reasons').hidden")
    assert tab.run("document.querySelectorAll('.text mark').length") == 0


@in_chromium
def test_marks_are_on_the_right_words(browser: Chromium, plain: str) -> None:
    tab = Tab(browser)
    tab.open(plain)
    weights = [{"text": "was", "weight": 0.0}, {"text": "as", "weight": 0.001}, {"text": "bad", "weight": None}]
    words = json.dumps([*weights, {"text": "as", "weight": -0.2}, {"text": "was", "weight": 0.3}])
    row = f"{{text: 'was  as bad as was', found: {{label: 'positive', words: {words}}}}}"
    pieces = tab.run(f"markWords({row}).map((piece) => piece.className ? [piece.className, piece.textContent] : piece)")
    marked = "".join(piece if isinstance(piece, str) else f"<{piece[0]} {piece[1]}>" for piece in pieces)
    assert marked == "was  as bad <against as> <for was>"


@in_chromium
def test_token_limits_and_two_models(browser: Chromium, guarded: str) -> None:
    tab = Tab(browser)
    tab.open(f"{guarded}/#text={quote('a good film' + chr(10) + 'a bad film')}")
    assert tab.run("find('token-form').hidden") is False
    assert tab.run("document.activeElement.id") == "token"
    assert tab.run("find('error').textContent") == ""
    give_token(tab, "another")
    tab.wait("find('error').textContent")
    assert "rejected this token" in tab.run("find('error').textContent")
    give_token(tab, TOKEN)
    tab.wait(NUMBER_OF_ROWS)
    assert tab.run("find('token-form').hidden") is True
    kept = tab.run("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert "secret" not in kept

    assert tab.run("find('summary').textContent") == "2 texts: the models disagree on 2"
    assert tab.run("[...document.querySelectorAll('li.apart .differ')].length") == 2
    labels = tab.run(
        "[...document.querySelectorAll('li.apart')].map((row) => row.querySelectorAll('.positive').length)"
    )
    assert labels[:2] == [1, 1]
    assert tab.run("[...document.querySelectorAll('li.apart .model')][1].textContent") == "contrary"

    assert tab.run("find('count').textContent") == "2 of 3 texts"
    sent = len([event for event in browser.events if event["method"] == "Network.requestWillBeSent"])
    for typed, said in (("a\n" * 4, "4 texts are too many"), (f"a\n\n{'b' * 41}", "Line 3 has 41 characters")):
        tab.run("find('error').replaceChildren(); find('texts').focus(); find('texts').select()")
        tab.type(typed)
        tab.press("Enter", modifiers=2)
        tab.wait("find('error').textContent")
        assert said in tab.run("find('error').textContent")
    assert tab.run("[find('texts').selectionStart, find('texts').selectionEnd]") == [3, 44]
    events = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"][sent:]
    assert {event["params"]["request"]["url"] for event in events} == {f"{guarded}/info"}


@in_chromium
def test_an_error_selects_its_line(browser: Chromium, plain: str) -> None:
    tab = Tab(browser)
    tab.open(plain)
    tab.run("find('texts').value = 'a good film\\n\\nbad \\ud800'; find('submit').click()")
    tab.wait("find('error').textContent")
    assert "Line 3: holds a lone surrogate" in tab.run("find('error').textContent")
    assert tab.run("[find('texts').selectionStart, find('texts').selectionEnd]") == [13, 18]
    assert tab.run("find('texts').getAttribute('aria-invalid')") == "true"


@in_chromium
def test_texts_without_an_answer_and_texts_that_were_cut(browser: Chromium, plain: str) -> None:
    tab = Tab(browser)
    tab.open(f"{plain}/#text={quote('a good film' + chr(10) + '<br>' + chr(10) + 'good ' * 15)}")
    tab.wait(NUMBER_OF_ROWS)
    notes = tab.run("[...find('results').children].map((row) => row.querySelector('.fine')?.textContent ?? '')")
    assert notes == [
        "",
        "No label: the text is blank, or empty without its HTML tags",
        "Read in part only: it has more than 16 tokens",
    ]
    assert tab.run("find('summary').textContent").endswith(", 1 without text")
    assert tab.run("[...find('results').children].map((row) => row.querySelectorAll('button').length)") == [1, 0, 1]


CLASSES = ["terrible", "bad", "mediocre", "good", "a very long name of a class that no column has room for"]


@in_chromium
def test_examples_are_those_of_the_service(
    browser: Chromium, run_server: Callable[..., Any], build_classifier: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(build_classifier(CLASSES), tmp_path / "model")
    texts = ["a good plane and a fine crew", "the bags came two days late", "where is my seat, please"]
    table = {"row": [0, 1, 2], "text": texts, "label": [4, 0, 2], "predicted": [4, 0, 2], "score": [0.9] * 3}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "predictions.parquet")
    tab = Tab(browser)
    tab.open(run_server("--examples", model=tmp_path).url)
    tab.wait("!find('examples').hidden")
    assert tab.run("find('texts').placeholder") == f"{texts[1]}\n{texts[2]}"
    tab.run("find('examples').click()")
    tab.wait(NUMBER_OF_ROWS)
    shown = tab.run("[...document.querySelectorAll('#results .text')].map((element) => element.textContent)")
    assert shown == [texts[1], texts[2], texts[0]]
    tab.run("find('texts').value = 'x'.repeat(20000); labelTexts()")
    tab.wait("find('error').textContent")
    assert tab.run(NUMBER_OF_ROWS) == 0  # the answers before were to other texts
    assert tab.run("find('summary').textContent") == ""
    tab.open(run_server(model=tmp_path).url)  # film reviews are no examples for other classes
    assert tab.run("find('examples').hidden")
    assert tab.run("find('texts').placeholder") == ""


@in_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_many_classes_and_texts_of_many_languages(
    browser: Chromium, run_server: Callable[..., Any], build_classifier: Callable[..., Path], width: int
) -> None:
    url = run_server(model=build_classifier(CLASSES)).url
    texts = ["a good film", "这部电影很好看", "فيلم رائع جدا", "the plot is awful"]
    answer = ask_service(f"{url}/query", {"sentences": texts, "top_k": 3})
    tab = Tab(browser, width)
    tab.open(f"{url}/#text={quote(chr(10).join(texts))}")
    tab.wait(NUMBER_OF_ROWS)
    assert tab.run("document.documentElement.scrollWidth") <= width
    read = "[...document.querySelectorAll('{}')].map((element) => {})"
    shown = tab.run(read.format(".ranking .label", "element.textContent"))
    assert shown == [entry["label"] for top in answer["top"] for entry in top]
    widths = tab.run(read.format(".share > span", "element.offsetWidth / element.parentElement.offsetWidth"))
    assert widths == pytest.approx([entry["score"] for top in answer["top"] for entry in top], abs=0.03)
    assert tab.run("document.querySelectorAll('.positive, .negative, .bar').length") == 0
    counts = [int(count) for count in re.findall(r"(\d+) \u00d7", tab.run("find('summary').textContent"))]
    assert counts == sorted((answer["labels"].count(label) for label in {*answer["labels"]}), reverse=True)
    assert tab.run("find('classes').textContent") == f"5 classes: {', '.join(CLASSES)}"
    directions = tab.run(read.format("#results .text", "getComputedStyle(element).direction"))
    assert directions == ["ltr", "ltr", "rtl", "ltr"]
    words = [{"text": word, "weight": 0.5} for word in "这部电影很"] + [{"text": "好", "weight": -0.5}]
    row = f"{{text: '{texts[1]}', found: {{label: 'good', words: {json.dumps(words)}}}}}"
    pieces = tab.run(f"markWords({row}).map((piece) => piece.textContent ?? piece).filter(Boolean)")
    assert pieces == [*texts[1]]
    tab.run("document.querySelectorAll('#results button')[1].click()")
    tab.wait("document.querySelector('[aria-expanded=true]')")
    assert tab.run(read.format("#results .text", "element.textContent")) == texts


@in_chromium
def test_behind_a_path_prefix_until_the_service_is_down(
    browser: Chromium, proxy: http.server.ThreadingHTTPServer
) -> None:
    browser.events.clear()
    tab = Tab(browser)
    tab.ask("Log.enable")
    url = f"http://127.0.0.1:{proxy.server_port}/some/where/"
    tab.open(f"{url}#text=a%20good%20film")
    tab.wait(NUMBER_OF_ROWS)
    asked = [event["params"]["request"]["url"] for event in browser.events if "request" in event["params"]]
    assert {f"{url}{name}" for name in ("", "page.css", "page.js", "info", "query")} <= set(asked)
    assert [found for found in asked if not found.startswith((url, "data:"))] == []
    assert [event["params"] for event in browser.events if event["method"] == "Log.entryAdded"] == []
    assert tab.run("document.querySelector('footer a').href") == f"{url}docs"

    proxy.shutdown()
    proxy.server_close()
    tab.run("find('submit').click()")
    tab.wait("find('error').textContent")
    assert tab.run("find('error').textContent").startswith("The service does not answer")
    assert tab.run("find('texts').value") == "a good film"
    assert tab.run("find('submit').getAttribute('aria-disabled')") == "false"


@in_chromium
def test_documentation_shows_every_path(browser: Chromium, plain: str) -> None:
    tab = Tab(browser)
    tab.ask("Page.navigate", url=f"{plain}/docs")
    tab.wait("document.querySelector('.opblock') || document.querySelector('.errors-wrapper, .error-wrapper')")
    shown = tab.run("[...document.querySelectorAll('.opblock-summary-path')].map((path) => path.dataset.path)")
    assert {"/query", "/predict", "/explain", "/health/ready", "/info", "/metrics"} <= set(shown)


@in_chromium
def test_small_screens_and_preferences(browser: Chromium, plain: str) -> None:
    tab = Tab(browser, 360, 740, prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    tab.open(f"{plain}/#text={'w' * 200}%0Aa%20good%20film")
    tab.wait(NUMBER_OF_ROWS)
    assert tab.run("document.documentElement.scrollWidth") <= 360
    small = "[...document.querySelectorAll('button')].filter((one) => one.offsetHeight && one.offsetHeight < 44).length"
    assert tab.run(small) == 0
    assert tab.run("getComputedStyle(find('results')).transitionDuration") == "0s"
    dark = tab.run("getComputedStyle(document.body).backgroundColor")
    light = Tab(browser, prefers_color_scheme="light")
    light.open(plain)
    assert light.run("getComputedStyle(document.body).backgroundColor") != dark
    assert light.run("getComputedStyle(find('results')).transitionDuration") != "0s"


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Chromium, guarded: str, scheme: str) -> None:
    tab = Tab(browser, prefers_color_scheme=scheme)
    tab.open(f"{guarded}/#text=a%20good%20film")
    give_token(tab, "another")
    tab.wait("find('error').textContent")
    give_token(tab, TOKEN)
    tab.wait(NUMBER_OF_ROWS)
    color = "getComputedStyle({}).{}.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    grounds = [tab.run(color.format(ground, "backgroundColor")) for ground in ("document.body", "find('texts')")]
    tab.run("find('error').append(build('strong', '', 'wrong'))")
    for selector in (
        "h1",
        "header p",
        ".positive .label",
        ".negative .label",
        ".model",
        ".differ",
        "footer a",
        "#error strong",
    ):
        ink = tab.run(color.format(f"document.querySelector('{selector}')", "color"))
        assert min(compute_contrast(ink, ground) for ground in grounds) >= 4.5, selector
    button = [tab.run(color.format("find('submit')", name)) for name in ("color", "backgroundColor")]
    assert compute_contrast(*button) >= 4.5


@in_chromium
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_are_read_and_written_as_python_does(browser: Chromium, plain: str, delimiter: str) -> None:
    tab = Tab(browser)
    tab.open(plain)
    cells = ["", "a", 'said "no"', "a,b;c\td|e", "two\nlines", "Zoë 好", '"', " "]
    generator = random.Random(delimiter)
    rows = [["id", "text", "last"], *([generator.choice(cells) for _ in range(3)] for _ in range(60))]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    for text in (stream.getvalue(), stream.getvalue().removesuffix("\r\n"), stream.getvalue().replace("\r\n", "\n")):
        assert tab.run(f"findDelimiter({json.dumps(text)})") == delimiter
        assert tab.run(f"parseTable({json.dumps(text)}, {json.dumps(delimiter)})") == rows
    written = tab.run(f"formatTable({json.dumps(rows)}, {json.dumps(delimiter)})")
    assert [*csv.reader(io.StringIO(written, newline=""), delimiter=delimiter)] == rows


def choose_file(tab: Tab, path: Path) -> None:
    """Choose a file as a user does."""
    root = tab.ask("DOM.getDocument")["root"]["nodeId"]
    node = tab.ask("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    tab.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@in_chromium
def test_a_file_is_labelled(browser: Chromium, plain: str, tmp_path: Path) -> None:
    texts = [f"a {word} film, number {number}" for number in range(75) for word in ("good", "bad")]
    texts[3], texts[10], texts[70] = "  ", "x" * 20_000, "good " * 30
    texts[140] = 'two lines:\nsaid "good"'
    rows = [["Label", "Review", "label"], *([f"{number}", text, "old"] for number, text in enumerate(texts))]
    path = tmp_path / "my reviews.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows(rows)
    tab = Tab(browser)
    tab.open(plain)
    browser.ask(
        "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), browserContextId=tab.context
    )
    choose_file(tab, path)
    tab.wait("!find('file-form').hidden")
    assert tab.run("find('column').selectedOptions[0].textContent") == "Review (“a good film, number 0”)"
    assert tab.run("find('file-submit').textContent") == "Label 150 rows"
    tab.run("window.counts = []; new MutationObserver(() => counts.push(find('progress').value))"
            ".observe(find('file-status'), {childList: true})")  # fmt: skip
    refused = "{ok: false, status: 429, json: () => Promise.resolve({error: 'too many texts are waiting'})}"
    tab.run(  # busy twice
        "window.left = 2; window.fetch = ((fetch) => (path, ...more) => "
        f"path === 'query' && left-- > 0 ? Promise.resolve({refused}) : fetch(path, ...more))(window.fetch)"
    )
    tab.run("find('file-submit').click()")
    tab.wait("!find('download').hidden || find('error').textContent")
    assert tab.run("find('error').textContent") == ""
    assert tab.run("left") == -3
    assert tab.run("counts") == [0, 64, 128, 150]
    tab.run("find('download').click()")
    written = tmp_path / "my reviews_labelled.csv"
    deadline = time.monotonic() + SECONDS
    while not written.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with written.open(encoding="utf-8-sig", newline="") as stream:
        header, *found = csv.reader(stream, delimiter=";")
    assert written.read_bytes().startswith(b"\xef\xbb\xbf")
    assert header == ["Label", "Review", "input_label", "label", "score"]
    assert [row[:3] for row in found] == rows[1:]
    assert [place for place, row in enumerate(found) if row[3:] == ["", ""]] == [3, 10]
    answer = ask_service(f"{plain}/query", {"sentences": texts[20:84]})
    assert [row[3] for row in found[20:84]] == answer["labels"]
    assert [float(row[4]) for row in found[20:84]] == pytest.approx(answer["scores"], abs=1e-6)
    positive = sum(row[3] == "positive" for row in found)
    said = f"150 rows: {positive} positive, {148 - positive} negative, 2 without a label (blank or too long)"
    assert tab.run("find('file-status').textContent") == f"{said}, 1 read in part only"


@in_chromium
def test_files_that_cannot_be_read(browser: Chromium, plain: str, tmp_path: Path) -> None:
    tab = Tab(browser)
    tab.open(plain)
    wrong = {
        "latin.csv": ("text\ncafé\n".encode("latin-1"), "latin.csv is not text in UTF-8"),
        "ragged.csv": (b"id,text\n1,good\n2,bad,film\n", "row 2 has 3 cells, and the header has 2"),
        "quote.csv": (b'id,text\n1,good\n2,"bad\n', "the quote in line 3 is not closed"),
        "empty.csv": (b"text\n", "empty.csv has no rows below its header"),
        "empty.txt": (b"", "empty.txt has no rows."),
        "large.csv": (b"text\n" + b"x" * (1 << 20), "large.csv has 1.0 MiB: at most 1 here"),
    }
    for name, (content, said) in wrong.items():
        (tmp_path / name).write_bytes(content)
        choose_file(tab, tmp_path / name)
        tab.wait(f"find('error').textContent.includes('{name}')")
        assert said in tab.run("find('error').textContent")
        assert tab.run("find('file-form').hidden")
    (tmp_path / "one.csv").write_bytes(b"sep=;\r\nnote;comment\r\nx;a good film\r\n")
    choose_file(tab, tmp_path / "one.csv")
    tab.wait("!find('file-form').hidden")
    assert tab.run("find('column').selectedOptions[0].textContent").startswith("comment")  # the longest cells
    assert tab.run("find('error').textContent") == ""
    (tmp_path / "lines.txt").write_bytes(b"a good film, really\nbad\n")
    choose_file(tab, tmp_path / "lines.txt")
    tab.wait("find('file-submit').textContent === 'Label 2 rows'")
    tab.run("find('close').click()")
    assert tab.run("find('file-form').hidden")
    assert tab.run("document.activeElement.id") == "open"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds faults of accessibility."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on the PATH to fetch axe-core with")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "--pack-destination", str(folder), AXE]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"axe-core cannot be fetched: {done.stderr[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as package:
        source = package.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def find_violations(tab: Tab, axe: str) -> list[Any]:
    """Rule and places of what is not accessible, by axe-core."""
    tab.run(f"{axe}; 0")
    return tab.run(
        "axe.run().then(({violations}) => violations.map(({id, nodes}) => [id, ...nodes.map(({html}) => html)]))"
    )


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_accessible(
    browser: Chromium, guarded: str, plain: str, axe: str, width: int, scheme: str, tmp_path: Path
) -> None:
    tab = Tab(browser, width, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    tab.open(f"{plain}/#text={quote('a good film' + chr(10) + '<br>' + chr(10) + 'bad ' * 30)}")
    tab.wait(NUMBER_OF_ROWS)
    tab.run("document.querySelector('#results button').click()")
    tab.wait("document.querySelector('[aria-expanded=true]')")
    (tmp_path / "some.csv").write_bytes(b"id;text\n1;a good film\n")
    choose_file(tab, tmp_path / "some.csv")
    tab.wait("!find('file-form').hidden")
    tab.run("find('file-submit').click()")
    tab.wait("!find('download').hidden")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert find_violations(tab, axe) == []
    tab.open(guarded)
    give_token(tab, TOKEN)
    tab.wait("find('models').children.length")
    tab.run("find('texts').value = 'a good film'; find('submit').click()")
    tab.wait(NUMBER_OF_ROWS)
    assert find_violations(tab, axe) == []


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_report_is_accessible(
    browser: Chromium, write_finished_run: Callable[..., Path], axe: str, width: int, scheme: str, tmp_path: Path
) -> None:
    first, second = write_finished_run("a", wrong=range(12)), write_finished_run("b", wrong=[0, 20])
    compare(first, second, tmp_path / "out")
    tab = Tab(browser, width, prefers_color_scheme=scheme)
    tab.ask("Page.navigate", url=(tmp_path / "out" / "report.html").as_uri())
    tab.wait("document.querySelectorAll('nav a').length")
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("[...document.querySelectorAll('nav a')].every(({hash}) => document.querySelector(hash))")
    assert find_violations(tab, axe) == []
