"""The sequence of `sentiment serve`: load the models, open the port, serve, and end without losing a request."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from sentiment.exceptions import InputError, first_line, require
from sentiment.serving.app import build_app
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.connections import build_server
from sentiment.serving.middleware import RequestMiddleware
from sentiment.serving.service import Service, load_service

TOKEN_VARIABLE = "SENTIMENT_SERVE_TOKEN"
# Python hands over between threads this often, in seconds: the model's thread takes up Python again after each of its
# operations, and would wait 5 ms each time for an event loop that is busy.
SWITCH_SECONDS = 0.0001
# Python looks for garbage after so many new objects, and not among those that were there at the start: its looks took
# an eighth of the event loop's time.
COLLECTION_OBJECTS = 20_000
# After the signal, so long requests are still taken, while whoever sends them learns that the service is not ready.
CLOSING_SECONDS = 1.0
# Then no connection begins any more; those that had begun are taken for so long, and have so long to bring a request.
LAST_CONNECTION_SECONDS = 0.2
LAST_REQUEST_SECONDS = 0.2
SO_ATTACH_FILTER = 26
# Answers may take so long then, and clients some seconds to read them: 30 s in all are what orchestrators give.
GRACE_SECONDS = 20.0


def serve(args: ServingArguments) -> None:
    """Serves until SIGTERM or SIGINT; what was accepted until then is answered.

    Raises:
        InputError: a model, the token or the port cannot be had; before the port opens.
    """
    token = read_token(args.token_file)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # while it loads; `run` sets its own
    service = load_service(args)
    listener = open_port(args.host, args.port)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    asyncio.run(run(service, token, listener))


def read_token(token_file: str | None) -> str | None:
    """The token that requests must bring: from the file, else from `SENTIMENT_SERVE_TOKEN`; None where neither is set.

    Raises:
        InputError: the file cannot be read, or there is nothing in it.
    """
    if token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {token_file} cannot be read: {error}") from error
    require(bool(token), f"--token-file {token_file} is empty: write the token into it")
    return token


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InputError: another program has the port, or there is no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have, such as "a..b"
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(f"cannot listen on {host}:{port}: {reason}: pass another --host or --port") from error
    # Made anew, it knows that its protocol is TCP: asyncio sends at once (TCP_NODELAY) only where a socket says so, and
    # an answer would else wait 40 ms for the client to confirm its head.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


async def run(service: Service, token: str | None, listener: socket.socket) -> None:
    """Serves on the open port until a signal comes and every request is answered."""
    signalled = catch_signals()
    front = build_middleware(service, token)
    app: Any = add_cors(front, service.args.cors_origins)
    await service.start()
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {' and '.join(model.name for model in service.models)} on http://{shown}:{port}", flush=True)
    server = build_server(app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ending = asyncio.create_task(wait_for_end(signalled, service, front, listener))
    await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():  # it ends by itself only where it fails
        ending.cancel()
    server.should_exit = True
    await serving
    await service.stop()


def build_middleware(service: Service, token: str | None) -> RequestMiddleware:
    """The service's routes, behind what stands before them."""
    args = service.args
    return RequestMiddleware(
        build_app(service),
        service.metrics.observe_request,
        args.max_body_bytes,
        body_timeout=args.timeout,
        token=token,
        is_full=service.is_full,
    )


def add_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, with the headers that let pages of these origins call it; unchanged where there are none."""
    if not origins:
        return app
    return CORSMiddleware(app, origins, allow_methods=["GET", "POST"], allow_headers=["*"])


def catch_signals() -> asyncio.Event:
    """An event that is set when SIGTERM or SIGINT comes."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    return signalled


async def wait_for_end(
    signalled: asyncio.Event, service: Service, front: RequestMiddleware, listener: socket.socket
) -> None:
    """Returns when the service is to end: a signal has come, and nothing is under way any more."""
    await signalled.wait()
    service.is_ready = False
    front.is_closing = True  # each answer closes its connection from now on
    await asyncio.sleep(CLOSING_SECONDS)
    await stop_listening(listener)
    await asyncio.sleep(LAST_REQUEST_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            while front.open_requests:
                await asyncio.sleep(0.01)


async def stop_listening(listener: socket.socket) -> None:
    """Refuses new connections on the port, while those that are open go on.

    A port that is just closed resets the connections that wait to be taken.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where the system allows no filters, a connection may be reset
            drop_new_connections(listener)
    await asyncio.sleep(LAST_CONNECTION_SECONDS)
    asyncio.get_running_loop().remove_reader(listener)
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RD)


def drop_new_connections(listener: socket.socket) -> None:
    """Lets the system drop each packet that would begin a connection; its sender tries again a second later.

    A filter in the classic form that Linux's `socket(7)` has, on the flags of the TCP header.
    """
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 13),  # the byte with the flags
            (0x45, 0, 1, 0x02),  # where SYN is set, go on; else leave out one
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(code)))
