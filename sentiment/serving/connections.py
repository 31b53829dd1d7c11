"""How clients' connections are kept and closed: uvicorn's, with an end to those that bring or take nothing."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterator
from typing import Any

import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sentiment.serving.errors import JSON, RefusedError
from sentiment.serving.middleware import send_answer

# The head of a request may take so long, from the connection's start or the last answer.
HEAD_SECONDS = 10.0
# A client may leave what it is sent unread for so long, once the system takes no more for it.
READING_SECONDS = 5.0
# Of a request, all that is not its body: the head, the lengths of chunks, trailers. A head that comes at once may be as
# large as what is read at once (256 KiB).
MAX_HEAD_BYTES = 1 << 16


class Connection(HttpToolsProtocol):
    """A connection that is closed when its client sends no whole head in time, an endless one, or does not read.

    uvicorn alone waits for ever for a head that has begun. The body's time and size are the application's.
    """

    _deadline: asyncio.TimerHandle | None = None
    _reading_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # `pause_writing` is called for whatever the system does not take at once
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of several."""
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            self._decline_offer(data[offer.args[0] :])
        except HttpParserError:
            self.send_400_response("the request is not valid HTTP/1.1")
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"the request without its body is larger than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is whole: the request goes to the application."""
        if not self.parser.should_upgrade():
            self._stop_expecting()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a request's body."""
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written: another request may follow."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._expect_head()

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's own limit on the time between requests: `_expect_head` sets another."""

    def send_400_response(self, msg: str) -> None:
        """What has come cannot be taken; requests that came whole before it are answered first."""
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(msg)
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        elif self.pipeline:  # its turn to be answered is yet to come
            self.cycle.keep_alive = False
            self.cycle.more_body = False
            self.pipeline[0] = (self.cycle, build_refusal(msg))
            self.flow.pause_reading()
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(msg)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._reading_deadline = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """One side has closed it."""
        self._stop_expecting()
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._stop_expecting()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _decline_offer(self, rest: bytes) -> None:
        """Reads a request that offers another protocol anew, without the offer: the parser would leave out its body."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse("method: CONNECT is for proxies")
            return
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        start = method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()
        self.parser = HttpRequestParser(self)
        self.data_received(b"\r\n".join([start, *headers, b"", rest]))

    def _refuse(self, message: str) -> None:
        body = RefusedError(400, message).body
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def build_refusal(message: str) -> Any:
    """An application that answers with 400."""

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await send_answer(RefusedError(400, message), send)

    return refuse


class Server(uvicorn.Server):
    """Ends when `should_exit` is set; signals are its caller's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them alone."""
        yield


def build_server(app: ASGIApp) -> Server:
    """The HTTP server of an application; `serve(sockets=[...])` runs it."""
    # What it would log of an error may hold a user's text, and the application logs what there is to say.
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
        timeout_graceful_shutdown=math.ceil(READING_SECONDS),
    )
    return Server(config)
