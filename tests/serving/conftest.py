"""Services with the tiny classifier: behind a test client, on a port, and in a process of their own."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from sentiment.serving.arguments import ServingArguments
from sentiment.serving.connections import Server
from sentiment.serving.server import TOKEN_VARIABLE, build_asgi_app, open_port
from sentiment.serving.service import load_service

ROOT = Path(__file__).parents[2]
SECONDS = 60  # timeout of every wait


@pytest.fixture(scope="session")
def open_service(tiny_classifier: Path) -> Callable[..., Any]:
    """`with open_service(token=None, **options) as opened:` yields `client` and `service`."""

    @contextlib.contextmanager
    def open_with(token: str | None = None, **options: Any) -> Iterator[SimpleNamespace]:
        service = load_service(
            ServingArguments(**{"model": str(tiny_classifier), "precision": "fp32", "workers": 1} | options),
            in_processes=False,
        )
        with TestClient(build_asgi_app(service, token), raise_server_exceptions=False) as client:
            assert client.portal is not None
            client.portal.call(service.start)
            yield SimpleNamespace(client=client, service=service)
            client.portal.call(service.stop)

    return open_with


@pytest.fixture(scope="module")
def opened(open_service: Callable[..., Any]) -> Iterator[Any]:
    """A service with default limits, which no test changes."""
    with open_service() as found:
        yield found


@pytest.fixture(scope="module")
def client(opened: Any) -> TestClient:
    """The client of the service with default limits."""
    return opened.client


@dataclass
class Gate:
    """Wraps `compute_logits`: each batch waits until the gate is opened."""

    compute_logits: Callable[[Any], np.ndarray]
    is_entered: threading.Event = field(default_factory=threading.Event)
    is_open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, input_ids: Any) -> np.ndarray:
        self.is_entered.set()
        assert self.is_open.wait(SECONDS)
        return self.compute_logits(input_ids)


@pytest.fixture
def close_gate() -> Callable[[Any], Gate]:
    """`close_gate(service)` wraps its model in a closed gate, and returns the gate."""

    def close(service: Any) -> Gate:
        batcher = service.models[0].batcher
        batcher.compute_logits = Gate(batcher.compute_logits)
        return batcher.compute_logits

    return close


@pytest.fixture(scope="module")
def listen(tiny_classifier: Path) -> Iterator[Callable[..., Any]]:
    """`listen(**options)` serves on a free port, in a thread; returns `port`, `url`, `service`."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> SimpleNamespace:
            arguments = {"model": str(tiny_classifier), "precision": "fp32", "workers": 1, "port": 0} | options
            service = load_service(ServingArguments(**arguments), in_processes=False)
            listener = open_port("127.0.0.1", 0)
            port = listener.getsockname()[1]
            loop, is_started = asyncio.new_event_loop(), threading.Event()
            server = Server(build_asgi_app(service, None), service)

            async def run() -> None:
                await service.start()
                is_started.set()
                await server.serve(sockets=[listener])
                await service.stop()

            thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=lambda: loop).run(run()))
            thread.start()
            stack.callback(thread.join, SECONDS)
            stack.callback(setattr, server, "should_exit", True)
            assert is_started.wait(SECONDS)
            return SimpleNamespace(port=port, url=f"http://127.0.0.1:{port}", service=service)

        yield start


@dataclass
class Process:
    """`sentiment serve` in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def run_server(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """`run_server(*flags)` runs `sentiment serve` with the tiny classifier on a free port; returns once it serves."""
    processes = []

    def start(*flags: str, model: Path = tiny_classifier, **variables: str) -> Process:
        log = tmp_path_factory.mktemp("serve") / "log"
        command = [sys.executable, "-m", "sentiment", "serve", str(model), "--port", "0", "--precision", "fp32", *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
        environment.pop(TOKEN_VARIABLE, None) if TOKEN_VARIABLE not in variables else None
        with log.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r" on http://127\.0\.0\.1:(\d+)$", line.strip())
        assert found, line + log.read_text(encoding="utf-8")
        return Process(process, int(found[1]), log)

    yield start
    for process in processes:
        process.kill()
        process.communicate()
