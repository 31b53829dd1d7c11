"""The sequence of `sentiment serve`: load the models, open the port, serve, and end without losing a request."""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve as serve_hypercorn
from hypercorn.config import Config
from starlette.middleware.cors import CORSMiddleware

from sentiment.exceptions import InputError, require
from sentiment.serving.app import build_app
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.front import Front
from sentiment.serving.service import Service, load_service

TOKEN_VARIABLE = "SENTIMENT_SERVE_TOKEN"
# Python hands over between threads this often, in seconds: the model's thread takes up Python again after each of its
# operations, and would wait 5 ms each time for an event loop that is busy.
SWITCH_SECONDS = 0.0005
# After the signal, so long requests are still taken, while whoever sends them learns that the service is not ready.
CLOSING_SECONDS = 1.0
GRACE_SECONDS = 25.0


def serve(args: ServingArguments) -> None:
    """Serves until SIGTERM or SIGINT; what was accepted until then is answered.

    Raises:
        InputError: a model, the token or the port cannot be had; before the port opens.
    """
    token = read_token(args.token_file)
    service = load_service(args)
    listener = open_port(args.host, args.port)
    sys.setswitchinterval(SWITCH_SECONDS)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {' and '.join(model.name for model in service.models)} on http://{shown}:{port}", flush=True)
    asyncio.run(run(service, token, listener.detach()))


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
        raise InputError(f"--token_file {token_file} cannot be read: {error}") from error
    require(bool(token), f"--token_file {token_file} is empty: write the token into it")
    return token


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InputError: another program has the port, or there is no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}: pass another --host or --port") from error


async def run(service: Service, token: str | None, port: int) -> None:
    """Serves on the open port, given as a file descriptor, until a signal comes and every request is answered."""
    args = service.args
    front = Front(
        build_app(service), service.metrics.observe_request, args.max_body_bytes, body_timeout=args.timeout, token=token
    )
    app: Any = front
    if args.cors_origins:
        app = CORSMiddleware(front, args.cors_origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    await service.start()
    await serve_hypercorn(app, build_config(args, port), shutdown_trigger=lambda: wait_for_end(service, front))
    await service.stop()


def build_config(args: ServingArguments, port: int) -> Config:
    """Hypercorn's options."""
    config = Config()
    config.bind = [f"fd://{port}"]
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    # It also ends the wait of a client that has sent all and reads: an answer must be there before.
    config.read_timeout = args.timeout + 2  # type: ignore[assignment]
    config.keep_alive_timeout = 10.0
    config.graceful_timeout = GRACE_SECONDS
    return config


async def wait_for_end(service: Service, front: Front) -> None:
    """Returns when the service is to end: a signal has come, and nothing is under way any more."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    await signalled.wait()
    service.is_ready = False
    front.is_closing = True  # each answer closes its connection from now on
    await asyncio.sleep(CLOSING_SECONDS)
    async with asyncio.timeout(GRACE_SECONDS):
        while front.open_requests:
            await asyncio.sleep(0.01)
