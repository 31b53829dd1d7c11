"""What stands before the routes: the token, the body's limits, counting, and the end of the service."""

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentiment.serving.errors import CLIENT_GONE, JSON, BusyError, RefusedError

# A client that is still sending cannot read why its body is refused: so long, more of it is read and dropped.
LINGER_SECONDS = 2.0
PUBLIC = {"/", "/page.css", "/page.js", "/health/live", "/health/ready", "/docs", "/openapi.json"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
FOR_THE_MODEL = {"/query", "/predict", "/explain"}
logger = logging.getLogger(__name__)


@dataclass
class RequestMiddleware:
    """An ASGI application around another one, which is given whole bodies only.

    Args:
        app: the routes.
        observe: told the path, status and seconds of each request.
        is_full: whether requests for the model, by their path, are to be answered with 429 at a glance.
        max_body_bytes: larger bodies are answered with 413, whatever their header says of their length.
        body_timeout: bodies that take longer, in seconds, are answered with 408.
        token: what `Authorization: Bearer` must say, if anything; the page, the documentation and the health checks
            are open to all.
    """

    app: ASGIApp
    observe: Callable[[str, int, float], None]
    max_body_bytes: int
    body_timeout: float
    token: str | None = None
    is_full: Callable[[str], bool] = lambda _: False
    is_closing: bool = False
    open_requests: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), CLIENT_GONE

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.is_closing:
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        self.open_requests += 1
        try:
            await self._serve(scope, receive, send_observed)
        except Exception as error:  # the routes have answered it already; its message may hold a user's text
            status = 500 if status == CLIENT_GONE else status
            place = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("a request failed: %s in %s, line %d", type(error).__name__, place.filename, place.lineno)
        finally:
            self.open_requests -= 1
            known = scope["path"] if scope["path"] in FOR_THE_MODEL else "other"
            path = str(getattr(scope.get("route"), "path", known))
            seconds = time.perf_counter() - started
            self.observe(path, status, seconds)
            method = scope["method"] if scope["method"] in METHODS else "other"
            logger.info("%s %s %d %.1f ms", method, path, status, 1000 * seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = dict(scope["headers"])
            self._check_token(scope["path"], headers.get(b"authorization", b""))
            body = await self._read_body(receive, headers)
        except RefusedError as refusal:
            await send_refusal(refusal, receive, send)
            return
        is_for_model = scope["method"] == "POST" and scope["path"] in FOR_THE_MODEL
        if body and is_for_model and self.is_full(scope["path"]):
            await send_answer(BusyError(), send)
        elif body is not None:
            await self.app(scope, replay(body, receive), send)

    def _check_token(self, path: str, authorization: bytes) -> None:
        is_public = path in PUBLIC or path.startswith("/docs/")
        if self.token is None or is_public:
            return
        if not hmac.compare_digest(authorization, f"Bearer {self.token}".encode()):
            raise RefusedError(
                401, "authorization: must be 'Bearer' and the service's token", {"www-authenticate": "Bearer"}
            )

    async def _read_body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
        """The whole body; None where the client has gone."""
        too_large = RefusedError(
            413, f"the body is larger than {self.max_body_bytes:,} bytes: send fewer texts at a time"
        )
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.max_body_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self.max_body_bytes:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RefusedError(408, f"the body took longer than {self.body_timeout:g} s") from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and then what the server's own does: that the client has gone."""
    is_read = False

    async def receive_body() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body


async def send_answer(refusal: RefusedError, send: Send) -> None:
    """Answers a request whose body has been read."""
    await send({"type": "http.response.start", "status": refusal.status, "headers": encode_headers(refusal)})
    await send({"type": "http.response.body", "body": refusal.body})


def encode_headers(refusal: RefusedError, **others: str) -> list[tuple[bytes, bytes]]:
    """The headers of the answer."""
    headers = {"content-type": JSON, "content-length": str(len(refusal.body))} | others | refusal.headers
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def send_refusal(refusal: RefusedError, receive: Receive, send: Send) -> None:
    """Answers a request whose body is not read to its end, and closes its connection.

    The rest of the body is read for a while, and dropped: a connection that is closed on unread bytes is reset, and the
    answer with it.
    """
    headers = encode_headers(refusal, connection="close")
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": True})
    dropping = asyncio.create_task(drop_body(receive))
    await asyncio.wait([dropping], timeout=LINGER_SECONDS)
    await send({"type": "http.response.body", "body": b""})
    dropping.cancel()


async def drop_body(receive: Receive) -> None:
    """Reads until the body ends or the client goes."""
    while (message := await receive())["type"] != "http.disconnect" and message.get("more_body", False):
        pass
