"""The service with invalid requests, with slow clients, and at shutdown under load.

    python tests/benchmarks/serving_hostile.py outputs/e2e
    python tests/benchmarks/serving_hostile.py outputs/e2e --parts bodies --bodies 500

`bodies`: 10,000 generated requests get a documented status, and none of their texts is logged. `slow`: 200 clients that
send one byte per second, or nothing, are disconnected within 15 s, and a good client's p99 at most doubles. `end`: 20
SIGTERMs under load lose no request. Prints one table; exits with 1 if a check fails.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sentiment.reporting.terminal import render_table

HERE = Path(__file__).parent
PARTS = ("bodies", "slow", "end")
TEXTS = ["a gripping, funny film", "two hours I want back", "the plot is thin but the cast is a delight"]
FIELDS = {"/query": "sentences", "/predict": "inputs", "/explain": "sentence"}
STATUSES = {200, 400, 404, 405, 413, 415, 429}
MARK = "zebra"  # part of every text that is sent; must not be logged

KEYS = st.sampled_from(["sentences", "inputs", "sentence", "parameters", "top_k", "function_to_apply"]) | st.text()
TEXT = st.text(st.characters(), max_size=60).map(lambda text: MARK + text) | st.sampled_from(
    ["", " ", "<br>", "\ud800", "good\udfff", "\x00", MARK * 2500, "&#xD800;", "softmax"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TEXT_LISTS = TEXT | st.lists(TEXT, max_size=5)
NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={"sentences": TEXT_LISTS, "inputs": TEXT_LISTS, "sentence": TEXT, "parameters": VALUES},
)
JSON_BODIES = (VALUES | NEARLY_RIGHT).map(lambda value: json.dumps(value).encode())
BODIES = st.one_of(
    JSON_BODIES,
    NEARLY_RIGHT.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
    st.tuples(JSON_BODIES, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]]),
    st.tuples(JSON_BODIES, st.binary(max_size=3)).map(lambda pair: pair[0] + pair[1]),
    st.integers(1, 2000).map(lambda depth: b"[" * depth),
    st.integers(1, 2000).map(lambda depth: b'{"sentences":' * depth),
)
JSON = "application/json"
KINDS = st.sampled_from([*[JSON] * 20, "", "text/plain", f"{JSON}; charset=utf-16", "*/*", "\xe9"])
METHODS = st.sampled_from([*["POST"] * 30, "GET", "PUT", "DELETE", "OPTIONS", "TRACE"])
# Valid requests, except for their texts.
RIGHT = st.sampled_from(sorted(FIELDS.items())).flatmap(
    lambda pair: st.tuples(
        st.just(pair[0]),
        st.fixed_dictionaries({pair[1]: TEXT if pair[1] == "sentence" else TEXT_LISTS}).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
REQUESTS = RIGHT | st.tuples(st.sampled_from(sorted(FIELDS)), BODIES)


@dataclass
class Server:
    """A service in a process of its own, and its log."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def ask_clients(self, texts: Path, **flags: Any) -> subprocess.Popen[str]:
        """A process with clients of `serving_client.py`."""
        command = [sys.executable, str(HERE / "serving_client.py"), "closed", str(self.port), str(texts)]
        command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def start_server(model: str, folder: Path) -> Iterator[Server]:
    """The service, killed at the end of the block."""
    log = folder / "log"
    command = [sys.executable, "-m", "sentiment", "serve", model, "--port", "0"]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " on http://" not in line:
            sys.exit(f"the service did not start: {log.read_text(encoding='utf-8')}")
        yield Server(process, int(line.rsplit(":", 1)[1]), log)
    finally:
        process.kill()
        process.communicate()


class Checks:
    """The table of results, and the checks that failed."""

    def __init__(self) -> None:
        self.rows = [["what", "found", "must be", ""]]
        self.failed: list[str] = []

    def add(self, what: str, found: object, must_be: str, is_met: bool) -> None:
        """A row."""
        self.rows.append([what, str(found), must_be, "" if is_met else "failed"])
        if not is_met:
            self.failed.append(what)


def send_bodies(model: str, folder: Path, options: argparse.Namespace, checks: Checks) -> None:
    """Generated requests, one after another, on keep-alive connections."""
    statuses: Counter[int] = Counter()
    with start_server(model, folder) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

        @seed(options.seed)
        @settings(max_examples=options.bodies, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(METHODS, REQUESTS, KINDS, st.booleans())
        def send(method: str, request: tuple[str, bytes], kind: str, is_chunked: bool) -> None:
            path, body = request
            headers = {"Content-Type": kind.encode("latin-1")} if kind else {}
            content = iter([body[:7], body[7:]]) if is_chunked and len(body) > 7 else body
            connection.request(method, path, content, headers, encode_chunked=is_chunked and len(body) > 7)
            response = connection.getresponse()
            answer = response.read()
            statuses[response.status] += 1
            assert response.status in STATUSES, (response.status, method, path, kind, body)
            if method != "TRACE":
                found = json.loads(answer)
                assert response.status == 200 or (set(found) == {"error"} and found["error"]), (found, body)

        fault = ""
        try:
            send()
        except Exception as error:  # hypothesis has printed the minimal example
            fault = f"{type(error).__name__}: {error}"[:200]
        checks.add("bodies: answers by status", dict(sorted(statuses.items())), "documented", not fault)
        if fault:
            print(f"bodies: {fault}", file=sys.stderr)
        checks.add("bodies: process", server.process.poll() or "runs", "runs", server.process.poll() is None)
        log = server.log.read_text(encoding="utf-8")
    for word in (MARK, "Traceback"):
        checks.add(f"bodies: '{word}' in the log", log.count(word), "0", word not in log)


async def send_slowly(port: int, kind: int, end: asyncio.Event) -> float:
    """One slow client; the seconds until its connection is closed, infinite if it is not."""
    head = b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    begins = [
        b"",  # sends nothing
        b"POST /que",  # one byte per second of the request line
        head + b"X-Slow: ",  # of the headers
        head + b"Content-Length: 1000\r\n\r\n{",  # of the body
        head + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n{",  # of a chunk
        head + b'Content-Length: 23\r\n\r\n{"sentences": ["good"]}',  # a complete request, then nothing
    ]
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def drip() -> None:
        writer.write(begins[kind % len(begins)])
        while kind % len(begins) in (1, 2, 3, 4):
            await asyncio.sleep(1)
            writer.write(b"a")

    async def read_to_end() -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass

    tasks = [asyncio.create_task(work) for work in (drip(), read_to_end(), end.wait())]
    await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
    taken = time.perf_counter() - started if tasks[1].done() else float("inf")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    writer.close()
    return taken


async def measure_slow(server: Server, texts: Path, options: argparse.Namespace) -> tuple[list[float], Any, Any]:
    """Seconds until each slow client was disconnected, and results of a good client before and during."""

    async def ask_good_client() -> Any:
        clients = server.ask_clients(texts, clients=1, seconds=options.seconds)
        printed, _ = await asyncio.to_thread(clients.communicate)
        return json.loads(printed)

    before = await ask_good_client()
    end = asyncio.Event()
    tasks = [asyncio.create_task(send_slowly(server.port, kind, end)) for kind in range(options.slow)]
    started = time.perf_counter()
    during = await ask_good_client()
    await asyncio.wait(tasks, timeout=max(0, options.closed_goal + 5 - (time.perf_counter() - started)))
    end.set()
    return await asyncio.gather(*tasks), before, during


def send_slow(model: str, folder: Path, options: argparse.Namespace, checks: Checks) -> None:
    """Slow clients and a good one."""
    with start_server(model, folder) as server:
        texts = write_texts(folder)
        server.ask_clients(texts, clients=1, seconds=1).communicate()
        seconds, before, during = asyncio.run(measure_slow(server, texts, options))
    goal = options.closed_goal
    last = max(seconds)
    checks.add(f"slow: the last of {len(seconds)} closed", f"{last:.1f} s", f"<= {goal:g} s", last <= goal)
    good = {status for found in (before, during) for status in found["statuses"]}
    checks.add("slow: statuses of the good client", sorted(good), "200", good == {"200"})
    ratio = during["latency_ms"]["p99"] / before["latency_ms"]["p99"]
    p99 = f"{before['latency_ms']['p99']:.1f} and {during['latency_ms']['p99']:.1f} ms"
    checks.add("slow: its p99 before and during", p99, f"<= {options.p99_goal:g} times", ratio <= options.p99_goal)


def end_under_load(model: str, folder: Path, options: argparse.Namespace, checks: Checks) -> None:
    """SIGTERM, repeatedly, while 32 clients send requests."""
    generator = random.Random(options.seed)
    lost, codes, seconds, answered, statuses = 0, Counter[int](), [], 0, set()
    for _ in range(options.ends):
        with start_server(model, folder) as server:
            clients = server.ask_clients(write_texts(folder), clients=32, seconds=60)
            time.sleep(generator.uniform(0.5, 2.0))
            started = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            codes[server.process.wait(60)] += 1
            seconds.append(time.perf_counter() - started)
            found = json.loads(clients.communicate()[0])
        lost += found["lost"]
        answered += found["statuses"].get("200", 0)
        statuses |= set(found["statuses"])
    checks.add(f"end: lost of {answered:,} and more", lost, "0", lost == 0)
    checks.add("end: statuses", sorted(statuses), "200", statuses == {"200"})
    checks.add("end: exit codes", dict(codes), "0", set(codes) == {0})
    taken = f"{statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s"
    checks.add("end: it took", taken, f"<= {options.end_goal:g} s", max(seconds) <= options.end_goal)


def write_texts(folder: Path) -> Path:
    """The texts of good clients."""
    path = folder / "texts.json"
    path.write_text(json.dumps(TEXTS), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder of a run, or its model folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=200, help="clients that send slowly")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the good client, before and during")
    parser.add_argument("--ends", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--closed_goal", type=float, default=15.0, help="seconds")
    parser.add_argument("--p99_goal", type=float, default=2.0, help="times the p99 before")
    parser.add_argument("--end_goal", type=float, default=30.0, help="seconds")
    options = parser.parse_args()
    checks = Checks()
    works = {"bodies": send_bodies, "slow": send_slow, "end": end_under_load}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            works[part](options.model, Path(folder), options, checks)
    print(render_table(checks.rows))
    sys.exit(f"failed: {'; '.join(checks.failed)}" if checks.failed else 0)


if __name__ == "__main__":
    main()
