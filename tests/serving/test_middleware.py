"""What stands before the routes: tokens, limits of bodies, the log, and the end."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from sentiment.serving import middleware as front_module
from sentiment.serving.middleware import RequestMiddleware

SECONDS = 20  # no wait here takes so long, unless it would take for ever
MAX_BODY_BYTES = 100


@dataclass
class Routes:
    """An application that notes what it is given, and answers 200."""

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
    """One request through a front: what it sends back, and what is left of what the client sends."""

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
    """A front with its routes, and what it told of its requests."""

    token: str | None = None
    body_timeout: float = SECONDS
    is_full: bool = False
    routes: Routes = field(default_factory=Routes)
    requests: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.front = RequestMiddleware(
            self.routes,
            lambda path, status, _: self.requests.append((path, status)),
            MAX_BODY_BYTES,
            self.body_timeout,
            self.token,
            lambda _: self.is_full,
        )

    def ask(
        self,
        parts: Sequence[bytes] = (b"",),
        path: str = "/query",
        ends: bool = True,
        leaves: bool = False,
        **headers: str,
    ) -> Exchange:
        """What a request of these parts is answered; its body `ends` with the last or not, and the client `leaves`."""
        messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": not ends or number < len(parts)}
            for number, part in enumerate(parts, start=1)
        ]
        if leaves:
            messages.append({"type": "http.disconnect"})
        sent: list[Message] = []

        async def receive() -> Message:
            if not messages:
                await asyncio.Event().wait()  # the client says no more
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": pairs}
        asyncio.run(asyncio.wait_for(self.front(scope, receive, send), SECONDS))
        return Exchange(sent, messages)


def test_routes_get_the_body_in_one_piece_whatever_its_chunks() -> None:
    observed = Observed()
    assert observed.ask([b"{", b'"a"', b"", b": 1}"]).status == 200
    assert observed.routes.bodies == [b'{"a": 1}']
    assert observed.front.open_requests == 0


@pytest.mark.parametrize(("path", "status"), [("/query", 429), ("/explain", 429), ("/info", 200), ("/nowhere", 200)])
def test_what_is_for_a_full_model_is_refused_before_the_routes(path: str, status: int) -> None:
    observed = Observed(is_full=True)
    exchange = observed.ask([b"{", b"}"], path=path)
    assert exchange.status == status
    assert len(observed.routes.bodies) == (status == 200)
    if status == 429:
        assert exchange.error == "too many texts are waiting: try again"
        assert exchange.headers[b"retry-after"] == b"1"
        assert b"connection" not in exchange.headers  # the body is read: the connection can go on
        assert exchange.left == []


def test_routes_learn_that_the_client_has_gone() -> None:
    learned: list[Message] = []

    async def wait_for_leaving(receive: Receive) -> None:
        learned.append(await receive())

    Observed(routes=Routes(work=wait_for_leaving)).ask([b"{}"], leaves=True)
    assert learned == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("parts", [[b"x" * 100], [b"x" * 60, b"x" * 40]])
def test_a_body_of_the_largest_size_is_taken(parts: list[bytes]) -> None:
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
def test_larger_bodies_are_refused_whatever_they_say_of_their_length(
    parts: list[bytes], headers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "LINGER_SECONDS", 0.05)
    observed = Observed()
    exchange = observed.ask(parts, **headers)
    assert exchange.status == 413
    assert exchange.error == "the body is larger than 100 bytes: send fewer texts at a time"
    assert exchange.headers[b"connection"] == b"close"
    assert exchange.left == []  # it is read to its end, so that the answer is read too
    assert observed.routes.bodies == []


def test_a_body_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "LINGER_SECONDS", 0.05)
    exchange = Observed().ask([b"x" * 101] * 5, ends=False)
    assert (exchange.status, exchange.left) == (413, [])


def test_a_body_that_comes_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "LINGER_SECONDS", 0.05)
    observed = Observed(body_timeout=0.1)
    exchange = observed.ask([b"{"], ends=False)
    assert exchange.status == 408
    assert exchange.error == "the body took longer than 0.1 s"
    assert exchange.headers[b"connection"] == b"close"
    assert observed.routes.bodies == []


def test_a_client_that_goes_while_it_sends() -> None:
    observed = Observed()
    assert observed.ask([b"{"], ends=False, leaves=True).sent == []
    assert observed.routes.bodies == []
    assert observed.requests == [("/query", 499)]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer SECRET", "Basic secret", "é"],
)
def test_without_the_token_nothing_is_read(authorization: str | None) -> None:
    observed = Observed(token="secret")
    headers = {} if authorization is None else {"authorization": authorization}
    exchange = observed.ask([b'{"sentences": "good"}'], **headers)
    assert exchange.status == 401
    assert exchange.error == "authorization: must be 'Bearer' and the service's token"
    assert exchange.headers[b"www-authenticate"] == b"Bearer"
    assert observed.routes.bodies == []


def test_with_the_token() -> None:
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
def test_what_needs_the_token(path: str, status: int) -> None:
    assert Observed(token="secret").ask(path=path).status == status


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(front_module.hmac, "compare_digest", lambda a, b: compared.append((a, b)))
    assert Observed(token="secret").ask(authorization="Bearer mine").status == 401
    assert compared == [(b"Bearer mine", b"Bearer secret")]


@pytest.mark.parametrize("parts", [[b"{}"], [b"x" * 101]])
def test_while_ending_each_answer_closes_its_connection(parts: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "LINGER_SECONDS", 0.05)
    observed = Observed()
    assert b"connection" not in observed.ask([b"{}"]).headers
    observed.front.is_closing = True
    assert observed.ask(parts).headers[b"connection"] == b"close"


def test_requests_under_way_are_counted() -> None:
    counts: list[int] = []
    observed = Observed()

    async def count(_: Receive) -> None:
        counts.append(observed.front.open_requests)

    observed.routes.work = count
    observed.ask()
    assert (counts, observed.front.open_requests) == ([1], 0)


def test_a_failure_is_logged_by_its_place_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Receive) -> None:
        raise ValueError("a secret of the user")

    observed = Observed(routes=Routes(work=fail))
    with caplog.at_level(logging.DEBUG):
        observed.ask()
    assert observed.front.open_requests == 0
    assert "a request failed: ValueError in " in caplog.text
    assert "test_front.py, line " in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_the_log_and_the_counters_hold_no_path_of_the_user(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    with caplog.at_level(logging.INFO):
        observed.ask(path="/a/secret")
    assert observed.requests == [("other", 200)]
    assert "POST other 200 " in caplog.text
    assert "secret" not in caplog.text
