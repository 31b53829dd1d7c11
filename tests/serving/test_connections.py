"""Connections on a real port: deadlines, limits, invalid HTTP, graceful shutdown, and the methods of uvicorn in use."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import inspect
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sentiment.serving import connections, middleware
from sentiment.serving.connections import ACCEPT_SECONDS, Connection, Server
from sentiment.serving.server import open_port

SECONDS = 60  # timeout of every wait
BODY = b'{"sentences": ["a good film", "bad"]}'


def ask(
    connection: http.client.HTTPConnection, method: str = "POST", path: str = "/query", body: bytes | None = BODY
) -> tuple[int, str | None, Any]:
    """Status, `connection` header and JSON of the response on an open connection."""
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.getheader("connection"), json.loads(response.read())


def ask_once(port: int, method: str = "POST", path: str = "/query", body: bytes | None = BODY) -> tuple[int, Any]:
    """Status and JSON of the response on a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        status, _, answer = ask(connection, method, path, body)
        return status, answer
    finally:
        connection.close()


def send(port: int, content: bytes) -> socket.socket:
    """A connection on which this content is sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(content)
    return connection


def head(*lines: str, path: str = "/query") -> bytes:
    """A request without its body."""
    fixed = f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json"
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the next response."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    content = response.read()
    return response.status, dict(response.getheaders()), json.loads(content) if content else None


# --- graceful shutdown ---


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send_until_refused(port: int, answers: list[int], has_answers: threading.Event) -> None:
    """Record the status of each response; raise any error other than a refused connection."""
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            answers.append(ask_once(port)[0])
            has_answers.set()


def ask_ready(port: int) -> int:
    """The status of /health/ready; 0 once connections are refused."""
    try:
        return ask_once(port, "GET", "/health/ready", None)[0]
    except ConnectionRefusedError:
        return 0


@pytest.fixture
def clients() -> Iterator[Callable[[int], list[list[int]]]]:
    """`clients(port)` sends requests from 4 threads until they are refused; returns once each has a response.

    It returns the statuses by thread; a request that is neither answered nor refused fails the test.
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


def test_a_shutdown_loses_no_request(run_server: Callable[..., Any], clients: Callable[[int], list[list[int]]]) -> None:
    running = run_server("--timeout", "30", "--access-log")
    half_sent = send(running.port, head(f"content-length: {len(BODY)}") + BODY[:9])
    answers = clients(running.port)
    asking, querying = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=SECONDS) for _ in range(2)]
    assert ask(asking, "GET", "/health/ready", None) == (200, None, {"status": "ready"})
    assert ask(querying)[:2] == (200, None)
    started = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: ask_ready(running.port) != 200)
    # Open connections are served, and closed by their response.
    assert ask(asking, "GET", "/health/ready", None) == (503, "close", {"error": "the service is shutting down"})
    assert ask(querying)[:2] == (200, "close")
    wait_until(lambda: ask_ready(running.port) == 0)
    assert running.process.poll() is None
    half_sent.sendall(BODY[9:])
    status, headers, answer = read_response(half_sent)
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
            connection.sendall(b"GET / HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n")
            if not connection.recv(1000).startswith(b"HTTP/1.1 200"):
                sys.exit("no answer")
except ConnectionRefusedError:
    pass
"""


async def answer_and_close(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b"answer"})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_connection_is_reset_when_the_port_is_closed(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6")

    async def close_under_load() -> list[int]:
        listener = open_port(host, 0)
        server = Server(answer_and_close, SimpleNamespace(is_ready=True))  # type: ignore[arg-type]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        command = [sys.executable, "-c", CLIENT.replace("127.0.0.1", host), str(listener.getsockname()[1])]
        clients = [await asyncio.create_subprocess_exec(*command) for _ in range(4)]
        await asyncio.sleep(0.5)
        server.should_exit = True
        await serving
        return [await client.wait() for client in clients]

    for _ in range(3):
        assert asyncio.run(close_under_load()) == [0, 0, 0, 0]


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize(("signals", "accept_seconds", "is_forced"), [
    ([signal.SIGTERM], ACCEPT_SECONDS, False),
    ([signal.SIGINT], 0, False),
    ([signal.SIGINT, signal.SIGINT], 0, True),
    ([signal.SIGTERM, signal.SIGINT], 0, True),
])  # fmt: skip
def test_signals_begin_the_shutdown(signals: list[signal.Signals], accept_seconds: float, is_forced: bool) -> None:
    async def wait() -> None:
        service: Any = SimpleNamespace(is_ready=True)
        server = Server(answer_and_close, service)
        with server.capture_signals():
            assert not server.should_exit
            for number in signals:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0)
            assert server.should_exit
            assert not service.is_ready
        assert (server.accept_seconds, server.force_exit) == (accept_seconds, is_forced)

    asyncio.run(wait())


# --- slow, large and invalid requests ---


@pytest.fixture(scope="module")
def impatient(listen: Callable[..., Any]) -> Iterator[Any]:
    """A service with short deadlines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.5)
        patch.setattr(middleware, "LINGER_SECONDS", 0.1)
        yield listen(timeout=0.25)


@pytest.mark.parametrize("content", [b"", b"POST /query HT", head()[:-2]])
def test_a_connection_without_a_complete_head_is_closed(impatient: Any, content: bytes) -> None:
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
def test_a_body_that_does_not_arrive_is_answered_and_closed(impatient: Any, content: bytes) -> None:
    with send(impatient.port, content) as connection:
        status, headers, answer = read_response(connection)
        assert (status, headers["connection"]) == (408, "close")
        assert answer == {"error": "the body took longer than 0.25 s"}
        assert connection.recv(1000) == b""


def test_incomplete_requests_do_not_block_others(impatient: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(contextlib.closing(send(impatient.port, head("content-length: 100") + b"{")))
        assert ask_once(impatient.port, "GET", "/health/live", None) == (200, {"status": "live"})


@pytest.fixture(scope="module")
def patient(listen: Callable[..., Any]) -> Any:
    """A service with default limits."""
    return listen()


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(patient: Any) -> None:
    with send(patient.port, head("content-length: 1048577", "expect: 100-continue")) as connection:
        assert read_response(connection)[0] == 413  # an interim "100 continue" is skipped


def test_a_client_that_sends_a_large_body_before_it_reads_gets_the_error(patient: Any) -> None:
    body = b" " * (1 << 20) + b"{}"
    with send(patient.port, head(f"content-length: {len(body)}") + body) as connection:
        status, headers, answer = read_response(connection)
    assert (status, headers["connection"]) == (413, "close")
    assert answer == {"error": "the body is larger than 1,048,576 bytes: send fewer texts per request"}


def test_a_large_body_in_chunks(patient: Any) -> None:
    chunk = b"10000\r\n" + b" " * (1 << 16) + b"\r\n"
    with send(patient.port, head("transfer-encoding: chunked") + chunk * 17 + b"0\r\n\r\n") as connection:
        status, _, answer = read_response(connection)
    assert status == 413
    assert answer["error"].startswith("the body is larger than")


def test_a_content_length_below_that_of_the_body(patient: Any) -> None:
    with send(patient.port, head("content-length: 10") + BODY * 10 + b"\r\n\r\n") as connection:
        status, _, answer = read_response(connection)
        assert status == 400
        assert answer["error"].startswith("the body: not valid JSON")
        while rest := connection.recv(1000):  # the rest is not a request
            assert b"200" not in rest
    assert ask_once(patient.port)[0] == 200


def test_a_client_that_disconnects_before_its_content_length(patient: Any) -> None:
    with send(patient.port, head("content-length: 1000") + BODY):
        pass
    assert ask_once(patient.port)[0] == 200


def test_invalid_http_is_answered_and_closed(patient: Any) -> None:
    for content in (b"\x16\x03\x01\x02\x00", b"query\r\n\r\n", head("content-length: 1", "transfer-encoding: chunked")):
        with send(patient.port, content) as connection:
            status, headers, answer = read_response(connection)
            assert (status, headers["connection"]) == (400, "close")
            assert answer == {"error": "the request is not valid HTTP/1.1"}
            assert connection.recv(1000) == b""


def test_invalid_http_does_not_affect_the_request_before_it(patient: Any) -> None:
    with send(patient.port, head(f"content-length: {len(BODY)}") + BODY + b"nonsense") as connection:
        status, headers, answer = read_response(connection)
        assert (status, headers["connection"], len(answer["results"])) == (200, "close", 2)
        assert connection.recv(1000) == b""


@pytest.mark.parametrize(
    ("rest", "statuses"),
    [
        (b"GET /info HTTP/1.1\r\nx: " + b"x" * 100_000, [b"200"]),
        (head("transfer-encoding: chunked") + b"nonsense\r\n", [b"200", b"400"]),
    ],
)
def test_errors_are_sent_after_the_response_to_the_request_before(
    patient: Any, rest: bytes, statuses: list[bytes]
) -> None:
    with send(patient.port, head(f"content-length: {len(BODY)}") + BODY + rest) as connection:
        content = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert re.findall(rb"HTTP/1.1 (\d+) ", content) == statuses


@pytest.mark.parametrize("start", [b"POST /query", head("x: ")[:-4], head("transfer-encoding: chunked") + b"0\r\n"])
def test_an_endless_head_is_refused(patient: Any, start: bytes) -> None:
    with send(patient.port, start) as connection:
        for _ in range(40):
            line = b"y: " + b"y" * 4000
            connection.sendall(line if b"x: " in start else line + b"\r\n" if start[-1:] == b"\n" else b"y" * 4000)
            if select.select([connection], [], [], 0.01)[0]:
                break
        assert read_response(connection)[0] == 400


def test_a_client_that_does_not_read_is_dropped(patient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.2)
    with send(patient.port, b"") as connection:
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20)
        time.sleep(1)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while content := connection.recv(1 << 20):
                received += len(content)
    assert received < 15 << 20  # of 28 MB: what the system had buffered
    assert ask_once(patient.port)[0] == 200


def test_a_client_that_offers_http2_is_served(patient: Any) -> None:
    """As the client of Java's standard library."""
    offer = "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAB"
    request = head(f"content-length: {len(BODY)}", *offer) + BODY
    with send(patient.port, b"") as connection:
        for cut in (0, 1, len(request) - 5):
            connection.sendall(request[:cut])
            time.sleep(0.05)
            connection.sendall(request[cut:])
            status, _, answer = read_response(connection)
            assert (status, len(answer["results"])) == (200, 2)


def test_a_tunnel_is_refused(patient: Any) -> None:
    with send(patient.port, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n") as connection:
        assert read_response(connection)[0] == 400


def test_one_connection_serves_many_requests(patient: Any) -> None:
    with send(patient.port, b"") as connection:
        for _ in range(5):
            connection.sendall(head(f"content-length: {len(BODY)}") + BODY)
            status, _, answer = read_response(connection)
            assert (status, len(answer["results"])) == (200, 2)


# --- uvicorn ---


def test_overridden_methods_are_those_of_uvicorn() -> None:
    """A change of these needs a look at `connections.py`, and then here."""
    signatures = {
        name: list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters)[1:]
        for name in vars(Connection)
        if inspect.isfunction(vars(Connection)[name]) and name != "_ignore_upgrade"
    }
    assert signatures == {
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "on_message_begin": [],
        "on_headers_complete": [],
        "on_body": ["body"],
        "on_message_complete": [],
        "on_response_complete": [],
        "pause_writing": [],
        "resume_writing": [],
        "send_400_response": ["msg"],
    }
    assert list(inspect.signature(uvicorn.Server.handle_exit).parameters) == ["self", "sig", "frame"]
    assert list(inspect.signature(uvicorn.Server.shutdown).parameters) == ["self", "sockets"]


def test_attributes_in_use_are_those_of_uvicorn() -> None:
    config = Server(lambda: None, SimpleNamespace()).config  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    connection = HttpToolsProtocol(config, ServerState(), {}, loop)
    loop.close()
    assert vars(connection).keys() >= {"parser", "cycle", "pipeline", "flow", "headers", "transport", "loop"}
    assert vars(uvicorn.Server(config)).keys() >= {"should_exit", "force_exit"}
    source = inspect.getsource(sys.modules[HttpToolsProtocol.__module__])
    for attribute in ("response_started", "response_complete", "more_body", "keep_alive"):
        assert f"self.{attribute} = " in source
    assert "pipeline.appendleft((self.cycle, app))" in source  # `send_400_response` replaces the application
