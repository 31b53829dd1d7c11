"""ASGI middleware in front of the routes: token, request bodies, connection close at shutdown, metrics and log."""

import asyncio
import contextlib
import hmac
import logging
import time
import traceback
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentiment.serving.schemas import CLIENT_CLOSED_REQUEST, build_busy_error, build_error_response
from sentiment.serving.service import Service

# Time to read and discard the rest of a body after an error: closing a connection with unread data resets it, and the
# client, which may still be sending, cannot read the error.
LINGER_SECONDS = 2.0
PAGE_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/table.js": ("table.js", "text/javascript"),
    "/file.js": ("file.js", "text/javascript"),
}  # and their media types
PUBLIC_PATHS = PAGE_FILES.keys() | {"/health/live", "/health/ready", "/docs", "/openapi.json"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
MODEL_PATHS = {"/query", "/predict", "/explain"}
logger = logging.getLogger(__name__)


@dataclass
class RequestMiddleware:
    """Check the token, except on public paths, read the whole body within its limits, and observe each request.

    HEAD is answered as GET, without the body.

    `app`, the routes, receives complete bodies only; `token` is None for a service without one.
    """

    app: ASGIApp
    service: Service
    token: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), CLIENT_CLOSED_REQUEST
        method = scope["method"] if scope["method"] in METHODS else "other"
        if is_head := method == "HEAD":
            scope = dict(scope, method="GET")

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not self.service.is_ready:
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            elif is_head:
                message = dict(message, body=b"")
            await send(message)

        try:
            await self._serve(scope, receive, send_observed)
        except Exception as error:  # already answered with 500; the message may hold a user's text, and is not logged
            status = 500 if status == CLIENT_CLOSED_REQUEST else status
            frame = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("a request failed: %s in %s, line %d", type(error).__name__, frame.filename, frame.lineno)
        finally:
            known = scope["path"] if scope["path"] in MODEL_PATHS else "other"
            path = str(getattr(scope.get("route"), "path", known))
            seconds = time.perf_counter() - started
            self.service.metrics.requests.labels(path, status).inc()
            self.service.metrics.seconds.labels(path).observe(seconds)
            logger.info("%s %s %d %.1f ms", method, path, status, 1000 * seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = dict(scope["headers"]), scope["path"]
        try:
            self._check_token(path, headers.get(b"authorization", b""))
            body = await self._read_body(receive, headers)
        except HTTPException as error:
            await send_early_error(error, receive, send)
            return
        if body and scope["method"] == "POST" and path in MODEL_PATHS and self.service.is_full(path):
            await build_error_response(build_busy_error())(scope, receive, send)
        elif body is not None:
            await self.app(scope, replay_body(body, receive), send)

    def _check_token(self, path: str, authorization: bytes) -> None:
        if self.token is None or path in PUBLIC_PATHS or path.startswith("/docs/"):
            return
        if not hmac.compare_digest(authorization, f"Bearer {self.token}".encode()):
            message = "authorization: must be 'Bearer' and the service's token"
            raise HTTPException(401, message, {"www-authenticate": "Bearer"})

    async def _read_body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
        """The complete body; None if the client disconnected."""
        maximum, timeout = self.service.args.max_body_bytes, self.service.args.timeout
        too_large = HTTPException(413, f"the body is larger than {maximum:,} bytes: send fewer texts per request")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > maximum:
            raise too_large
        body, more_body = bytearray(), True
        try:
            async with asyncio.timeout(timeout):
                while more_body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > maximum:
                        raise too_large
                    more_body = message.get("more_body", False)
        except TimeoutError:
            raise HTTPException(408, f"the body took longer than {timeout:g} s") from None
        return bytes(body)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body first, and then waits for the client to disconnect."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body() -> Message:
        return messages.pop() if messages else await receive()

    return receive_body


async def send_early_error(error: HTTPException, receive: Receive, send: Send) -> None:
    """Send an error before the body has arrived completely, and close the connection."""
    headers = {"connection": "close"} | dict(error.headers or {})
    response = build_error_response(HTTPException(error.status_code, error.detail, headers))
    await send({"type": "http.response.start", "status": error.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] != "http.disconnect" and message.get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
