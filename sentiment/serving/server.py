"""`sentiment serve`: load the models, open the port, and serve until a signal arrives."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from sentiment.exceptions import InputError, first_line, require
from sentiment.serving.app import build_app
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.connections import Server
from sentiment.serving.middleware import RequestMiddleware
from sentiment.serving.service import Service, load_service

TOKEN_VARIABLE = "SENTIMENT_SERVE_TOKEN"
# Interval in seconds at which Python switches threads. A model's thread needs Python after each of its operations, and
# would wait 5 ms, the default, for a busy event loop.
SWITCH_SECONDS = 0.0001
# New objects per garbage collection; those that exist at the start are not scanned. The default took an eighth of the
# event loop's time.
COLLECTION_OBJECTS = 20_000


def serve(args: ServingArguments) -> None:
    """Serve until SIGTERM or SIGINT; requests accepted until then are answered.

    Raises:
        InputError: a model, the token or the port is not available.
    """
    token = read_token(args.token_file)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # while loading; uvicorn sets its own
    service = load_service(args)
    listener = open_port(args.host, args.port)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO if args.access_log else logging.WARNING
    )
    asyncio.run(run(service, token, listener))


def read_token(token_file: str | None) -> str | None:
    """The bearer token, from the file or else from the environment; raises InputError if the file has none."""
    if token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {token_file} cannot be read: {error}") from error
    require(bool(token), f"--token-file {token_file} is empty: write the token into it")
    return token


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; raises InputError if the port is taken or the address is not of this machine."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:  # UnicodeError: names that no host can have, such as "a..b"
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(f"cannot listen on {host}:{port}: {reason}: pass another --host or --port") from error
    # With its protocol set: asyncio sets TCP_NODELAY only then, and an answer would wait 40 ms for an acknowledgement.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


async def run(service: Service, token: str | None, listener: socket.socket) -> None:
    """Serve on a listening socket until the server has shut down."""
    app = build_asgi_app(service, token)
    await service.start()
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"serving {' and '.join(model.name for model in service.models)} on {url}", flush=True)
    await Server(app, service).serve(sockets=[listener])
    await service.stop()


def build_asgi_app(service: Service, token: str | None) -> ASGIApp:
    """The routes of a service behind its middleware, with CORS headers if origins are allowed."""
    app = RequestMiddleware(build_app(service), service, token)
    origins: Sequence[str] = service.args.cors_origins
    return CORSMiddleware(app, origins, allow_methods=["GET", "POST"], allow_headers=["*"]) if origins else app
