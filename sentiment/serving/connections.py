"""uvicorn with deadlines for slow clients, and a graceful shutdown that resets no connection.

The only module that overrides methods of uvicorn: `tests/serving/test_connections.py` fails when they change, and
pyproject.toml pins the minor version. uvicorn's options bound idle connections (`timeout_keep_alive`) and the time for
the last answers (`timeout_graceful_shutdown`), but neither the time nor the size of a request's head
(`h11_max_incomplete_event_size` is for h11 only), nor the time of a client that does not read.
"""

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sentiment.serving.schemas import build_error_response
from sentiment.serving.service import Service

# Time for the head of a request, from the start of the connection or the previous answer.
HEAD_SECONDS = 10.0
# Time for a client to read, once the system's send buffer is full.
READ_SECONDS = 5.0
# Size of a request without its body: head, chunk lengths, trailers. A head that arrives in one read may have 256 KiB.
MAX_HEAD_BYTES = 1 << 16
# After SIGTERM, connections are accepted for this time, while load balancers learn that the service is not ready
# (Kubernetes: some seconds); then for handshakes in progress and their requests (a lost packet is sent again after
# 0.2 s); then for answers. The sum is below the 30 s that Kubernetes waits. Ctrl-C does without the first.
ACCEPT_SECONDS, LAST_REQUEST_SECONDS, ANSWER_SECONDS = 5.0, 0.7, 24
# IP_MINTTL and IPV6_MINHOPCOUNT of Linux, which Python has no names for.
MINIMUM_TTL = {socket.AF_INET: (socket.IPPROTO_IP, 21), socket.AF_INET6: (socket.IPPROTO_IPV6, 73)}


class Connection(HttpToolsProtocol):
    """An HTTP connection with bounds for heads and reading; `RequestMiddleware` has those for bodies."""

    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Start the deadline for the first head."""
        super().connection_made(transport)
        set_minimum_ttl(transport.get_extra_info("socket"), 0)  # inherited from the listener during shutdown
        transport.set_write_buffer_limits(0)  # call `pause_writing` as soon as the system's buffer is full
        self._head_deadline = self._read_deadline = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        self._head_deadline.cancel()
        self._read_deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; answer with 400 what is not HTTP, or a head that is too large."""
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            self.send_400_response("the request is not valid HTTP/1.1")
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"the request without its body is larger than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """Count the bytes of a new head."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Pass the request to the application."""
        if not self.parser.should_upgrade():
            self._head_deadline.cancel()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body, which does not count as head."""
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Complete the request."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the deadline for the next head, unless another request is waiting."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._head_deadline.cancel()
            self._head_deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """Start the deadline for reading."""
        super().pause_writing()
        self._read_deadline = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the deadline for reading."""
        super().resume_writing()
        self._read_deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer with 400 in its turn, after complete requests that came before, and close the connection."""
        response: Any = build_error_response(HTTPException(400, msg, {"connection": "close"}))
        is_idle = self.cycle is None or self.cycle.response_complete
        if not is_idle and (self.pipeline or not self.cycle.more_body):
            if self.cycle.more_body:  # the invalid request waits for the answer to another one
                self.cycle.more_body = False
                self.pipeline[0] = (self.cycle, response)
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if is_idle or not self.cycle.response_started:
            headers = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + headers + b"\r\n" + response.body)
        self.transport.close()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse a request that offers another protocol (h2c) again without the offer: httptools would skip its body."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("method: CONNECT is for proxies")
            return
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        start = method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()
        self.parser = HttpRequestParser(self)
        self.data_received(b"\r\n".join([start, *headers, b"", rest]))


class Server(uvicorn.Server):
    """uvicorn's server for a service: not ready as soon as a signal arrives, and every accepted request is answered."""

    accept_seconds = 0.0

    def __init__(self, app: ASGIApp, service: Service):
        # uvicorn would log tracebacks, which may hold a user's text; the application logs errors itself.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=math.ceil(HEAD_SECONDS),
            timeout_graceful_shutdown=ANSWER_SECONDS,
        )
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Begin the shutdown; a second Ctrl-C ends it. uvicorn's own method raises the signal again at the end."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.accept_seconds = ACCEPT_SECONDS if sig == signal.SIGTERM else 0.0
        self.service.is_ready = False
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections for some time, then complete handshakes in progress only, and answer what was accepted."""
        await asyncio.sleep(self.accept_seconds)
        for listener in sockets or []:
            set_minimum_ttl(listener, 255)
        await asyncio.sleep(LAST_REQUEST_SECONDS)
        await super().shutdown(sockets)


def set_minimum_ttl(connection: Any, ttl: int) -> None:
    """Have the kernel drop packets with a lower TTL, where it can; with 255, those of almost all systems.

    A listening socket that is closed resets the connections in its accept queue. With this option it gets no new ones,
    while handshakes in progress are completed; clients whose handshake is dropped try again a second later.
    """
    if connection.family in MINIMUM_TTL and sys.platform == "linux":
        with contextlib.suppress(OSError):
            connection.setsockopt(*MINIMUM_TTL[connection.family], ttl)
