"""`sentiment serve` on a real port: how it starts, what it refuses, and how it ends."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file, save_file

from sentiment.cli import main
from sentiment.exceptions import InputError
from sentiment.serving import connections, server
from sentiment.serving import middleware as front
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.server import TOKEN_VARIABLE, catch_signals, open_port, read_token, stop_listening
from sentiment.serving.service import load_service

ROOT = Path(__file__).parents[2]
SECONDS = 60  # no wait here takes so long, unless it would take for ever
BODY = b'{"sentences": ["a good film", "bad"]}'


def ask(
    connection: http.client.HTTPConnection, method: str = "POST", path: str = "/query", body: bytes | None = BODY
) -> tuple[int, str | None, Any]:
    """Status, `connection` header and JSON of one request on an open connection."""
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.getheader("connection"), json.loads(response.read())


def ask_anew(port: int, method: str = "POST", path: str = "/query", body: bytes | None = BODY) -> tuple[int, Any]:
    """Status and JSON of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        status, _, answer = ask(connection, method, path, body)
        return status, answer
    finally:
        connection.close()


def send(port: int, content: bytes) -> socket.socket:
    """A connection on which this has been sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(content)
    return connection


def head(*lines: str, path: str = "/query") -> bytes:
    """A request up to its body."""
    fixed = f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json"
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the next answer."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    content = response.read()
    return response.status, dict(response.getheaders()), json.loads(content) if content else None


# --- the end ---


def wait_until(happens: Callable[[], bool]) -> None:
    """Asks again and again, as another process gives no event to wait for."""
    deadline = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send_until_refused(port: int, answers: list[int], has_answers: threading.Event) -> None:
    """Notes the status of each answer; any error other than a refused connection is raised."""
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            answers.append(ask_anew(port)[0])
            has_answers.set()


def ask_ready(port: int) -> int:
    """The status of /health/ready; 0 once no connection is taken any more."""
    try:
        return ask_anew(port, "GET", "/health/ready", None)[0]
    except ConnectionRefusedError:
        return 0


@pytest.fixture
def clients() -> Iterator[Callable[[int], list[list[int]]]]:
    """`clients(port)` sends requests from 4 threads until the port is closed; back once each has an answer.

    What it gives is the status of each answer; a request that is neither answered nor refused fails the test.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures: list[concurrent.futures.Future[None]] = []

        def start(port: int) -> list[list[int]]:
            answers: list[list[int]] = [[] for _ in range(4)]
            events = [threading.Event() for _ in answers]
            futures.extend(pool.submit(send_until_refused, port, *each) for each in zip(answers, events, strict=True))
            assert all(event.wait(SECONDS) for event in events)
            return answers

        yield start
        for future in futures:
            future.result(SECONDS)


def test_the_end_loses_no_request(run_server: Callable[..., Any], clients: Callable[[int], list[list[int]]]) -> None:
    running = run_server("--timeout", "30")
    half_sent = send(running.port, head(f"content-length: {len(BODY)}") + BODY[:9])
    answers = clients(running.port)
    asking, querying = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=SECONDS) for _ in range(2)]
    assert ask(asking, "GET", "/health/ready", None) == (200, None, {"status": "ready"})
    assert ask(querying)[:2] == (200, None)
    started = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: ask_ready(running.port) != 200)
    # Connections that were open already are served as long as a request is under way, and closed by their answer.
    assert ask(asking, "GET", "/health/ready", None) == (503, "close", {"error": "the service is ending"})
    assert ask(querying)[:2] == (200, "close")
    wait_until(lambda: ask_ready(running.port) == 0)
    assert running.process.poll() is None
    half_sent.sendall(BODY[9:])
    status, headers, answer = read_answer(half_sent)
    assert (status, headers["connection"], len(answer["labels"])) == (200, "close", 2)
    assert running.process.wait(SECONDS) == 0
    assert time.monotonic() - started < 30
    assert {status for found in answers for status in found} == {200}
    log = running.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert "a good film" not in log
    assert "POST /query 200 " in log
    for connection in (half_sent, asking, querying):
        connection.close()


CLIENT = """
import socket, sys
try:
    while True:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
            connection.sendall(b"?")
            if connection.recv(9) != b"answer":
                sys.exit("no answer")
except ConnectionRefusedError:
    pass
"""


async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"answer")
    writer.close()


def test_no_connection_is_reset_when_the_port_is_closed() -> None:
    async def close_under_load() -> list[int]:
        listener = open_port("127.0.0.1", 0)
        serving = await asyncio.start_server(answer_and_close, sock=listener)
        command = [sys.executable, "-c", CLIENT, str(listener.getsockname()[1])]
        clients = [await asyncio.create_subprocess_exec(*command) for _ in range(4)]
        await asyncio.sleep(0.5)
        await stop_listening(listener)
        await asyncio.sleep(0.1)
        serving.close()
        return [await client.wait() for client in clients]

    for _ in range(5):
        assert asyncio.run(close_under_load()) == [0, 0, 0, 0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_either_signal_is_the_end(number: signal.Signals) -> None:
    async def wait() -> None:
        signalled = catch_signals()
        assert not signalled.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(signalled.wait(), SECONDS)

    asyncio.run(wait())


# --- what is refused at the start ---


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def refuse(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one line with which `sentiment serve` ends, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *flags])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    line, end = shown.err.split("\n")
    assert (line.startswith("error: "), end) == (True, "")
    return line


def test_a_port_that_is_taken(tiny_classifier: Path, taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    line = refuse(capsys, str(tiny_classifier), "--port", str(taken_port))
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{taken_port}: Address already in use")
    assert line.endswith(": pass another --host or --port")


def cut_weights(folder: Path, _: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def spoil_weights(folder: Path, _: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def take_out_head(folder: Path, tiny_bert: Path) -> None:
    shutil.copy(tiny_bert / "model.safetensors", folder / "model.safetensors")


def take_out_tokenizer(folder: Path, _: Path) -> None:
    (folder / "tokenizer.json").unlink()


def add_label(folder: Path, _: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "negative", "1": "neutral", "2": "positive"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_weights, "cannot load the weights of "),
        (spoil_weights, "answers with NaN: its weights are damaged"),
        (take_out_head, "holds no trained classifier"),
        (take_out_tokenizer, "cannot read the tokenizer of "),
        (add_label, "has 3 labels: a sentiment classifier has 2"),
    ],
)
@pytest.mark.parametrize("place", ["model", "--compare-with"])
def test_a_broken_model_is_refused_before_the_port_opens(
    spoil: Callable[[Path, Path], None],
    message: str,
    place: str,
    tiny_classifier: Path,
    tiny_bert: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "open_port", lambda *_: pytest.fail("the port is open"))
    monkeypatch.setattr(server, "load_service", partial(load_service, in_processes=False))
    regressions = shutil.copytree(tiny_classifier, tmp_path / "regressions")
    spoil(regressions, tiny_bert)
    flags = [str(regressions)] if place == "model" else [str(tiny_classifier), place, str(regressions)]
    line = refuse(capsys, *flags, "--precision", "fp32")
    assert message in line
    assert str(regressions) in line


def test_a_process_that_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sentiment", "serve", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: no model in {tmp_path}: pass the folder of a run, or one with a config.json\n"


def test_a_signal_while_it_loads_ends_it_and_its_processes(tiny_classifier: Path) -> None:
    command = [sys.executable, "-m", "sentiment", "serve", str(tiny_classifier), "--backend", "torch", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as started:
        service = psutil.Process(started.pid)
        wait_until(lambda: len(service.children()) > 1)
        children = service.children()
        service.send_signal(signal.SIGTERM)
        printed, told = started.communicate(timeout=SECONDS)
    assert (started.returncode, printed, told) == (128 + signal.SIGTERM, "", "")
    assert psutil.wait_procs(children, timeout=SECONDS)[1] == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "-1"],
        ["--port", "70000"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--max-sentences", "0"],
        ["--max-batch-tokens", "-5"],
        ["--precision", "fp8"],
        ["--token-file", "missing"],
    ],
)
def test_a_wrong_option_is_named(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert refuse(capsys, "model", *flags).startswith(f"error: {flags[0]} {flags[1]}")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(InputError, match=f"cannot listen on {host}:0: .*pass another --host"):
        open_port(host, 0)


def test_the_port_is_open_on_this_machine_only_unless_told_otherwise() -> None:
    assert ServingArguments("model").host == "127.0.0.1"
    with open_port("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_answers_are_sent_at_once() -> None:
    async def accept() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = open_port("127.0.0.1", 0)
        async with await asyncio.start_server(note, sock=listener):
            with send(listener.getsockname()[1], b""):
                return await accepted

    assert asyncio.run(accept()) == 1


# --- the token ---


def test_the_token_comes_from_the_file_else_from_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(" from the file\n", encoding="utf-8")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from the variable")
    assert read_token(None) == "from the variable"
    assert read_token(str(path)) == "from the file"


@pytest.mark.parametrize("content", [None, b"", b" \n\t", b"\xff\xfe"])
def test_a_file_without_a_token_opens_no_service_to_all(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"--token-file .*token (cannot be read|is empty)"):
        read_token(str(path))


# --- connections ---


@pytest.fixture(scope="module")
def impatient(listen: Callable[..., Any]) -> Iterator[Any]:
    """A service whose requests must come within a quarter of a second, and on whose connections little may be still."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.5)
        patch.setattr(front, "LINGER_SECONDS", 0.1)
        yield listen(timeout=0.25)


@pytest.mark.parametrize("content", [b"", b"POST /query HT", head()[:-2]])
def test_a_request_that_ends_before_its_body_is_closed(impatient: Any, content: bytes) -> None:
    with send(impatient.port, content) as connection:
        assert connection.recv(1000) == b""


@pytest.mark.parametrize(
    "content",
    [
        head("content-length: 100"),
        head("content-length: 100") + b"{",
        head("transfer-encoding: chunked") + b"1\r\n{\r\n",
    ],
)
def test_a_body_that_does_not_come_is_answered_and_closed(impatient: Any, content: bytes) -> None:
    with send(impatient.port, content) as connection:
        status, headers, answer = read_answer(connection)
        assert (status, headers["connection"]) == (408, "close")
        assert answer == {"error": "the body took longer than 0.25 s"}
        assert connection.recv(1000) == b""


def test_requests_half_sent_hold_nobody_up(impatient: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(contextlib.closing(send(impatient.port, head("content-length: 100") + b"{")))
        assert ask_anew(impatient.port, "GET", "/health/live", None) == (200, {"status": "live"})


@pytest.fixture(scope="module")
def patient(listen: Callable[..., Any]) -> Any:
    """A service with the usual limits."""
    return listen()


def test_a_body_that_is_larger_than_it_may_be_is_refused_before_it_is_sent(patient: Any) -> None:
    with send(patient.port, head("content-length: 1048577", "expect: 100-continue")) as connection:
        assert read_answer(connection)[0] == 413  # "100 continue", which the server may send first, is passed over


def test_a_large_body_whose_client_sends_all_before_it_reads(patient: Any) -> None:
    body = b" " * (1 << 20) + b"{}"
    with send(patient.port, head(f"content-length: {len(body)}") + body) as connection:
        status, headers, answer = read_answer(connection)
    assert (status, headers["connection"]) == (413, "close")
    assert answer == {"error": "the body is larger than 1,048,576 bytes: send fewer texts at a time"}


def test_a_large_body_in_chunks(patient: Any) -> None:
    chunk = b"10000\r\n" + b" " * (1 << 16) + b"\r\n"
    with send(patient.port, head("transfer-encoding: chunked") + chunk * 17 + b"0\r\n\r\n") as connection:
        status, _, answer = read_answer(connection)
    assert status == 413
    assert answer["error"].startswith("the body is larger than")


def test_a_length_that_is_shorter_than_the_body(patient: Any) -> None:
    with send(patient.port, head("content-length: 10") + BODY * 10 + b"\r\n\r\n") as connection:
        status, _, answer = read_answer(connection)
        assert status == 400
        assert answer["error"].startswith("the body: not valid JSON")
        while rest := connection.recv(1000):  # what is left is no request
            assert b"200" not in rest
    assert ask_anew(patient.port)[0] == 200


def test_a_length_that_is_longer_than_the_body_of_a_client_that_goes(patient: Any) -> None:
    with send(patient.port, head("content-length: 1000") + BODY):
        pass
    assert ask_anew(patient.port)[0] == 200


def test_what_is_not_http_is_answered_and_closed(patient: Any) -> None:
    for content in (b"\x16\x03\x01\x02\x00", b"query\r\n\r\n", head("content-length: 1", "transfer-encoding: chunked")):
        with send(patient.port, content) as connection:
            status, headers, answer = read_answer(connection)
            assert (status, headers["connection"]) == (400, "close")
            assert answer == {"error": "the request is not valid HTTP/1.1"}
            assert connection.recv(1000) == b""


def test_what_is_not_http_does_not_hinder_the_request_before_it(patient: Any) -> None:
    with send(patient.port, head(f"content-length: {len(BODY)}") + BODY + b"nonsense") as connection:
        status, headers, answer = read_answer(connection)
        assert (status, headers["connection"], len(answer["results"])) == (200, "close", 2)
        assert connection.recv(1000) == b""


@pytest.mark.parametrize(
    ("rest", "statuses"),
    [
        (b"GET /info HTTP/1.1\r\nx: " + b"x" * 100_000, [b"200"]),
        (head("transfer-encoding: chunked") + b"nonsense\r\n", [b"200", b"400"]),
    ],
)
def test_what_cannot_be_taken_is_no_answer_to_the_request_before_it(
    patient: Any, rest: bytes, statuses: list[bytes]
) -> None:
    with send(patient.port, head(f"content-length: {len(BODY)}") + BODY + rest) as connection:
        content = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert re.findall(rb"HTTP/1.1 (\d+) ", content) == statuses


@pytest.mark.parametrize("start", [b"POST /query", head("x: ")[:-4], head("transfer-encoding: chunked") + b"0\r\n"])
def test_a_head_without_an_end_is_refused(patient: Any, start: bytes) -> None:
    with send(patient.port, start) as connection:
        for _ in range(40):
            line = b"y: " + b"y" * 4000
            connection.sendall(line if b"x: " in start else line + b"\r\n" if start[-1:] == b"\n" else b"y" * 4000)
            if select.select([connection], [], [], 0.01)[0]:
                break
        assert read_answer(connection)[0] == 400


def test_a_client_that_does_not_read_is_dropped(patient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READING_SECONDS", 0.2)
    with send(patient.port, b"") as connection:
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20)
        time.sleep(1)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while content := connection.recv(1 << 20):
                received += len(content)
    assert received < 15 << 20  # of 28: what the system had taken already
    assert ask_anew(patient.port)[0] == 200


def test_a_client_that_offers_another_protocol_is_served(patient: Any) -> None:
    """As Java's own client does for each request."""
    offer = "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAB"
    request = head(f"content-length: {len(BODY)}", *offer) + BODY
    with send(patient.port, b"") as connection:
        for cut in (0, 1, len(request) - 5):
            connection.sendall(request[:cut])
            time.sleep(0.05)
            connection.sendall(request[cut:])
            status, _, answer = read_answer(connection)
            assert (status, len(answer["results"])) == (200, 2)


def test_a_tunnel_is_refused(patient: Any) -> None:
    with send(patient.port, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n") as connection:
        assert read_answer(connection)[0] == 400


def test_one_connection_serves_many_requests(patient: Any) -> None:
    with send(patient.port, b"") as connection:
        for _ in range(5):
            connection.sendall(head(f"content-length: {len(BODY)}") + BODY)
            status, _, answer = read_answer(connection)
            assert (status, len(answer["results"])) == (200, 2)
