"""Clients of the service, in a process of their own; on raw sockets, since they share its machine.

    python tests/benchmarks/serving_client.py closed PORT TEXTS.json --clients 32 --seconds 10
    python tests/benchmarks/serving_client.py open PORT TEXTS.json --rate 2000 --seconds 30
    python tests/benchmarks/serving_client.py idle PORT TEXTS.json --requests 200

`closed`: a closed loop; each client sends its next sentence after the answer to the last. `open`: an open loop at a
fixed rate, and one second after its end the latency of single requests. `idle`: one client. TEXTS.json is a list of
sentences. The results are printed as JSON, latencies in milliseconds.
"""

import argparse
import asyncio
import collections
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
MAX_CONNECTIONS = 900
TICK_SECONDS = 0.004
LAST_ANSWER_SECONDS = 20.0  # the service's own limit is 10


def build_requests(texts: list[str], path: str) -> Iterator[bytes]:
    """One request per text, repeated for ever."""
    requests = []
    for text in texts:
        body = json.dumps({"sentences": [text]}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return itertools.cycle(requests)


class Tally:
    """Statuses and latencies of the responses."""

    def __init__(self) -> None:
        self.statuses: collections.Counter[str] = collections.Counter()
        self.latencies: list[float] = []
        self.lost = 0  # requests whose connection ended without an answer
        self.refused = 0  # connections
        self.last_answer = 0.0

    def summarize(self, seconds: float) -> dict[str, Any]:
        """Counts, rate of answers with 200, and latencies."""
        found = sorted(self.latencies) or [float("nan")]
        places = {"p50": len(found) // 2, "p99": len(found) * 99 // 100, "max": len(found) - 1}
        return {
            "statuses": dict(self.statuses),
            "lost": self.lost,
            "refused": self.refused,
            "rate": self.statuses["200"] / seconds,
            "latency_ms": {name: 1000 * found[place] for name, place in places.items()},
        }


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self, tally: Tally, on_free: Callable[["Connection"], None]) -> None:
        self.tally, self.on_free = tally, on_free
        self.received = b""
        self.is_busy = self.is_open = False

    def connection_made(self, transport: Any) -> None:
        self.transport, self.is_open = transport, True

    def send(self, request: bytes, due: float | None = None) -> None:
        """Send a request; its latency counts from its due time."""
        self.due, self.is_busy = due or time.perf_counter(), True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head_end = self.received.find(HEAD_END)
        if head_end < 0:
            return
        head = self.received[:head_end]
        length = LENGTH.search(head)
        if len(self.received) < head_end + len(HEAD_END) + (int(length[1]) if length else 0):
            return
        self.received, self.is_busy = b"", False
        self.tally.last_answer = time.perf_counter()
        self.tally.latencies.append(self.tally.last_answer - self.due)
        self.tally.statuses[head[9:12].decode()] += 1
        if b"connection: close" in head.lower():
            self.is_open = False
            self.transport.close()
        self.on_free(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if self.is_busy:
            self.tally.lost += 1
            self.is_busy = False
            self.on_free(self)


async def connect(port: int, tally: Tally, on_free: Callable[[Connection], None]) -> Connection | None:
    """A new connection; None if it is refused."""
    try:
        create = asyncio.get_running_loop().create_connection
        _, connection = await create(lambda: Connection(tally, on_free), "127.0.0.1", port)
    except OSError:
        tally.refused += 1
        return None
    return connection


async def run_closed(port: int, requests: Iterator[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Clients in a closed loop; ends early when connections are refused."""
    tally, tasks = Tally(), set()
    started = time.perf_counter()
    end = started + seconds
    is_done = asyncio.Event()
    working = clients

    def stop_one() -> None:
        nonlocal working
        working -= 1
        if working == 0:
            is_done.set()

    def go_on(connection: Connection) -> None:
        if time.perf_counter() >= end:
            stop_one()
        elif connection.is_open:
            connection.send(next(requests))
        else:
            task = asyncio.ensure_future(begin())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def begin() -> None:
        connection = await connect(port, tally, go_on)
        if connection is None:
            stop_one()
        else:
            connection.send(next(requests))

    await asyncio.gather(*(begin() for _ in range(clients)))
    await asyncio.wait_for(is_done.wait(), seconds + LAST_ANSWER_SECONDS)
    return tally.summarize(time.perf_counter() - started)


async def run_open(port: int, requests: Iterator[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """One request per 1 / rate seconds; one second after the last, the latency of single requests."""
    tally, free, connections, unsent = Tally(), [], [], 0
    tasks: set[asyncio.Task[None]] = set()

    async def send_on_new(due: float) -> None:
        connection = await connect(port, tally, free.append)
        if connection is not None:
            connections.append(connection)
            connection.send(next(requests), due)

    started, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < started + seconds:
        while sent < (now - started) * rate:
            due = started + sent / rate
            sent += 1
            while free and not free[-1].is_open:
                connections.remove(free.pop())
            if free:
                free.pop().send(next(requests), due)
            elif len(connections) + len(tasks) < MAX_CONNECTIONS:
                task = asyncio.ensure_future(send_on_new(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                unsent += 1  # the maximum number of connections is in use
        await asyncio.sleep(TICK_SECONDS)
    deadline = time.perf_counter() + LAST_ANSWER_SECONDS
    while (tasks or any(connection.is_busy for connection in connections)) and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)
    found = tally.summarize(max(tally.last_answer - started, seconds))
    unanswered = sum(connection.is_busy for connection in connections)
    for connection in connections:
        connection.transport.close()
    await asyncio.sleep(max(0.0, started + seconds + 1 - time.perf_counter()))
    after = await run_idle(port, requests, 20)
    return found | {"sent": sent, "unsent": unsent, "unanswered": unanswered, "after": after}


async def run_idle(port: int, requests: Iterator[bytes], number: int) -> dict[str, Any]:
    """Requests one after another, on one connection."""
    tally, is_free = Tally(), asyncio.Event()
    started = time.perf_counter()
    connection = None
    for _ in range(number):
        if connection is None or not connection.is_open:
            connection = await connect(port, tally, lambda _: is_free.set())
            if connection is None:
                break
        is_free.clear()
        connection.send(next(requests))
        await asyncio.wait_for(is_free.wait(), LAST_ANSWER_SECONDS)
    return tally.summarize(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["closed", "open", "idle"])
    parser.add_argument("port", type=int)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--path", default="/query")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    requests = build_requests(json.loads(options.texts.read_text(encoding="utf-8")), options.path)
    work = {
        "closed": lambda: run_closed(options.port, requests, options.clients, options.seconds),
        "open": lambda: run_open(options.port, requests, options.rate, options.seconds),
        "idle": lambda: run_idle(options.port, requests, options.requests),
    }[options.kind]
    print(json.dumps(asyncio.run(work())))


if __name__ == "__main__":
    main()
