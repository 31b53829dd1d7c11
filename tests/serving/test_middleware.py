"""Token, request bodies, metrics, log and shutdown, with stub routes."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from sentiment.serving import middleware
from sentiment.serving.middleware import RequestMiddleware
from sentiment.serving.service import ServiceMetrics

SECONDS = 20  # timeout of every wait
MAX_BODY_BYTES = 100


@dataclass
class Routes:
    """An application that records bodies, and answers 200."""

    bodies: list[bytes] = field(default_factory=list)
    work: Callable[[Receive], Awaitable[None]] | None = None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        if self.work is not None:
            await self.work(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-from", b"routes")]})
        await send({"type": "http.response.body", "body": b"{}"})


@dataclass
class Exchange:
    """One request: what was sent to the client, and what was not read from it."""

    sent: list[Message]
    left: list[Message]

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def error(self) -> str:
        (message,) = json.loads(b"".join(part["body"] for part in self.sent[1:])).values()
        assert self.headers[b"content-type"] == b"application/json"
        assert not self.sent[-1].get("more_body", False)
        return message


@dataclass
class Observed:
    """A middleware around stub routes."""

    token: str | None = None
    body_timeout: float = SECONDS
    is_full: bool = False
    routes: Routes = field(default_factory=Routes)

    def __post_init__(self) -> None:
        self.service: Any = SimpleNamespace(
            args=SimpleNamespace(max_body_bytes=MAX_BODY_BYTES, timeout=self.body_timeout),
            metrics=ServiceMetrics(),
            is_ready=True,
            is_full=lambda _: self.is_full,
        )
        self.middleware = RequestMiddleware(self.routes, self.service, self.token)

    @property
    def requests(self) -> list[tuple[str, int]]:
        """Path and status of each observed request."""
        (family,) = self.service.metrics.requests.collect()
        totals = [sample for sample in family.samples if sample.name.endswith("_total")]
        return [
            (sample.labels["path"], int(sample.labels["status"])) for sample in totals for _ in range(int(sample.value))
        ]

    def ask(
        self,
        parts: Sequence[bytes] = (b"",),
        path: str = "/query",
        ends: bool = True,
        leaves: bool = False,
        **headers: str,
    ) -> Exchange:
        """Send a request whose body has these parts, `ends` with the last or not; the client may leave after it."""
        messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": not ends or number < len(parts)}
            for number, part in enumerate(parts, start=1)
        ]
        if leaves:
            messages.append({"type": "http.disconnect"})
        sent: list[Message] = []

        async def receive() -> Message:
            if not messages:
                await asyncio.Event().wait()  # the client sends nothing more
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": pairs}
        asyncio.run(asyncio.wait_for(self.middleware(scope, receive, send), SECONDS))
        return Exchange(sent, messages)


def test_routes_receive_the_complete_body() -> None:
    observed = Observed()
    assert observed.ask([b"{", b'"a"', b"", b": 1}"]).status == 200
    assert observed.routes.bodies == [b'{"a": 1}']


@pytest.mark.parametrize(("path", "status"), [("/query", 429), ("/explain", 429), ("/info", 200), ("/nowhere", 200)])
def test_requests_for_a_full_model_are_refused_before_the_routes(path: str, status: int) -> None:
    observed = Observed(is_full=True)
    exchange = observed.ask([b"{", b"}"], path=path)
    assert exchange.status == status
    assert len(observed.routes.bodies) == (status == 200)
    if status == 429:
        assert exchange.error == "too many texts are waiting: try again"
        assert exchange.headers[b"retry-after"] == b"1"
        assert b"connection" not in exchange.headers  # the body is read: the connection can be reused
        assert exchange.left == []


def test_routes_learn_that_the_client_disconnected() -> None:
    learned: list[Message] = []

    async def wait_for_disconnect(receive: Receive) -> None:
        learned.append(await receive())

    Observed(routes=Routes(work=wait_for_disconnect)).ask([b"{}"], leaves=True)
    assert learned == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("parts", [[b"x" * 100], [b"x" * 60, b"x" * 40]])
def test_a_body_of_the_maximum_size_is_accepted(parts: list[bytes]) -> None:
    observed = Observed()
    assert observed.ask(parts, content_length="100").status == 200
    assert observed.routes.bodies == [b"x" * 100]


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([b"x" * 101], {}),
        ([b"x" * 60, b"x" * 41], {}),
        ([b"x" * 60, b"x" * 41], {"content_length": "5"}),
        ([b"x" * 60, b"x" * 41], {"content_length": "five"}),
        ([b"x"], {"content_length": "101"}),
        ([b"x" * 60] * 50, {"transfer_encoding": "chunked"}),
    ],
)
def test_larger_bodies_are_refused_whatever_their_content_length(
    parts: list[bytes], headers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.05)
    observed = Observed()
    exchange = observed.ask(parts, **headers)
    assert exchange.status == 413
    assert exchange.error == "the body is larger than 100 bytes: send fewer texts per request"
    assert exchange.headers[b"connection"] == b"close"
    assert exchange.left == []  # all of it is read, so that the client can read the error
    assert observed.routes.bodies == []


def test_an_endless_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.05)
    exchange = Observed().ask([b"x" * 101] * 5, ends=False)
    assert (exchange.status, exchange.left) == (413, [])


def test_a_body_that_arrives_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.05)
    observed = Observed(body_timeout=0.1)
    exchange = observed.ask([b"{"], ends=False)
    assert exchange.status == 408
    assert exchange.error == "the body took longer than 0.1 s"
    assert exchange.headers[b"connection"] == b"close"
    assert observed.routes.bodies == []


def test_a_client_that_disconnects_while_it_sends() -> None:
    observed = Observed()
    assert observed.ask([b"{"], ends=False, leaves=True).sent == []
    assert observed.routes.bodies == []
    assert observed.requests == [("/query", 499)]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer SECRET", "Basic secret", "é"],
)
def test_requests_without_the_token_are_not_read(authorization: str | None) -> None:
    observed = Observed(token="secret")
    headers = {} if authorization is None else {"authorization": authorization}
    exchange = observed.ask([b'{"sentences": "good"}'], **headers)
    assert exchange.status == 401
    assert exchange.error == "authorization: must be 'Bearer' and the service's token"
    assert exchange.headers[b"www-authenticate"] == b"Bearer"
    assert observed.routes.bodies == []


def test_requests_with_the_token() -> None:
    assert Observed(token="secret").ask(authorization="Bearer secret").status == 200
    assert Observed(token="süß").ask(authorization="Bearer süß").status == 200
    assert Observed(token=None).ask(authorization="Bearer anything").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/page.js", 200),
        ("/page.css", 200),
        ("/docs", 200),
        ("/docs/swagger-ui.css", 200),
        ("/openapi.json", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics", 401),
        ("/info", 401),
        ("/query", 401),
        ("/predict", 401),
        ("/explain", 401),
        ("/docsx", 401),
        ("//query", 401),
        ("/elsewhere", 401),
    ],
)
def test_public_paths_need_no_token(path: str, status: int) -> None:
    assert Observed(token="secret").ask(path=path).status == status


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(middleware.hmac, "compare_digest", lambda a, b: compared.append((a, b)))
    assert Observed(token="secret").ask(authorization="Bearer mine").status == 401
    assert compared == [(b"Bearer mine", b"Bearer secret")]


@pytest.mark.parametrize("parts", [[b"{}"], [b"x" * 101]])
def test_during_shutdown_answers_close_their_connection(parts: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.05)
    observed = Observed()
    assert b"connection" not in observed.ask([b"{}"]).headers
    observed.service.is_ready = False
    assert observed.ask(parts).headers[b"connection"] == b"close"


def test_an_exception_is_logged_by_type_and_line_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Receive) -> None:
        raise ValueError("a secret of the user")

    observed = Observed(routes=Routes(work=fail))
    with caplog.at_level(logging.DEBUG):
        observed.ask()
    assert "a request failed: ValueError in " in caplog.text
    assert "test_middleware.py, line " in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_log_and_metrics_hold_no_unknown_path(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    with caplog.at_level(logging.INFO):
        observed.ask(path="/a/secret")
    assert observed.requests == [("other", 200)]
    assert "POST other 200 " in caplog.text
    assert "secret" not in caplog.text
