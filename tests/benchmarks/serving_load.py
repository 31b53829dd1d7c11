"""The service under load, compared with the bare model and the lab report's server, in one run on one machine.

    python tests/benchmarks/serving_load.py outputs/e2e
    python tests/benchmarks/serving_load.py outputs/e2e --parts bare service --backends onnx --seconds 5

Clients send one sentence of SST-2's validation split per request. All take turns, so that other load slows all alike,
and medians of the rounds are compared. Parts: `lab`, `bare` and `service` measure throughput, `idle` the latency of an
idle service above that of the model alone, `overload` an open loop at four times the measured capacity. The client for
throughput is `wrk`, if installed. Exits with 1 if a goal is missed.
"""

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from sentiment.data.sources import load_reviews
from sentiment.environment import count_threads
from sentiment.models.model_folder import find_model_folder
from sentiment.reporting.terminal import render_table
from sentiment.serving.service import split_threads

HERE = Path(__file__).parent
PARTS = ("lab", "bare", "service", "idle", "overload")
WARM_UP_SECONDS = 5.0
WRK_SCRIPT = """
local bodies = { %s }
local place = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  place = place %% #bodies + 1
  return wrk.format(nil, "/query", nil, bodies[place])
end
"""


class Bench:
    """The processes to measure, and the samples."""

    def __init__(self, options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
        self.options, self.stack = options, stack
        self.texts, self.script = folder / "texts.json", folder / "wrk.lua"
        texts = load_reviews("sst2", options.data_dir)["validation"]["text"][:]
        self.texts.write_text(json.dumps(texts), encoding="utf-8")
        bodies = (json.dumps(json.dumps({"sentences": [text]})) for text in texts)
        self.script.write_text(WRK_SCRIPT % ", ".join(bodies), encoding="utf-8")
        self.bare: dict[str, subprocess.Popen[str]] = {}
        self.side_by_side: dict[str, subprocess.Popen[str]] = {}
        self.services: dict[str, subprocess.Popen[str]] = {}
        self.ports: dict[str, int] = {}
        self.precisions: dict[str, str] = {}
        self.samples: dict[tuple[str, str], list[float]] = defaultdict(list)

    def start(self) -> None:
        """Start the processes that the parts need."""
        model, parts = self.options.model, set(self.options.parts)
        if "lab" in parts:
            lab = self.launch([str(HERE / "serving_lab.py"), model])
            self.ports["lab"] = int(read_line(lab))
        for backend in self.options.backends:
            if parts & {"bare", "idle"}:
                workers, _ = split_threads(count_threads(), backend)
                for found, loops in ((self.bare, 1), (self.side_by_side, workers)):
                    words = [str(HERE / "serving_bare.py"), model, str(self.texts), backend, "auto", str(loops)]
                    found[backend] = self.launch(words)
                    self.precisions[backend] = json.loads(read_line(found[backend]))["precision"]
            if parts & {"service", "idle", "overload"}:
                flags = ["-m", "sentiment", "serve", model, "--backend", backend, "--port", "0"]
                self.services[backend] = self.launch(flags)
                self.ports[backend] = int(read_line(self.services[backend]).rsplit(":", 1)[1])
        for port in self.ports.values():
            self.ask_clients("idle", port, requests=5)

    def launch(self, words: list[str]) -> subprocess.Popen[str]:
        """A Python process, killed at the end of the benchmark."""
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        return process

    def measure_round(self) -> None:
        """One round of all measurements."""
        parts, seconds = self.options.parts, self.options.seconds
        if "lab" in parts:
            self.samples["lab", "rate"].append(self.measure_rate(self.ports["lab"], "python"))
        for backend in self.options.backends:
            if "bare" in parts:
                for found in (self.bare, self.side_by_side):  # the better of the two is the reference
                    rate = ask_bare(found[backend], f"batched {seconds}")["rate"]
                    self.samples["bare" if found is self.bare else "side by side", backend].append(rate)
            if "service" in parts or "overload" in parts:
                self.samples["service", backend].append(self.measure_rate(self.ports[backend], self.options.client))
            if "idle" in parts:
                single = ask_bare(self.bare[backend], f"single {self.options.requests}")["ms"]
                self.samples["single", backend].append(single)
                found = self.ask_clients("idle", self.ports[backend], requests=self.options.requests)
                self.samples["idle", backend].append(found["latency_ms"]["p50"])

    def ask_clients(self, kind: str, port: int, **flags: Any) -> dict[str, Any]:
        """Results of clients of this kind."""
        command = [sys.executable, str(HERE / "serving_client.py"), kind, str(port), str(self.texts)]
        command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def measure_rate(self, port: int, client: str) -> float:
        """Answered requests per second; wrk does not count those in progress at the end."""
        clients, seconds = self.options.clients, self.options.seconds
        if client == "python":
            return self.ask_clients("closed", port, clients=clients, seconds=seconds)["rate"]
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["-s", str(self.script), f"http://127.0.0.1:{port}/query"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if faults := re.findall(r"Non-2xx.*|Socket errors: .*", printed):
            print(f"not all requests were answered: {'; '.join(faults)}", file=sys.stderr)
        rate, total = re.search(r"Requests/sec: *([\d.]+)", printed), re.search(r"(\d+) requests in", printed)
        assert rate, printed
        assert total, printed
        refused = re.search(r"Non-2xx.*: (\d+)", printed)
        return float(rate[1]) * (1 - int(refused[1]) / int(total[1])) if refused else float(rate[1])

    def median(self, *key: str) -> float | None:
        """Median of the samples; None without any."""
        found = self.samples.get(key)  # type: ignore[call-overload]
        return statistics.median(found) if found else None

    def measure_overload(self, backend: str) -> dict[str, Any]:
        """Results of an open loop beyond the capacity, and its after-effects."""
        capacity = self.median("service", backend)
        if not capacity:
            sys.exit("no request was answered: measure for longer (--seconds)")
        service = psutil.Process(self.services[backend].pid)
        rate = self.options.overload * capacity
        self.ask_clients("open", self.ports[backend], rate=rate, seconds=WARM_UP_SECONDS)  # opens its connections
        before = measure_memory(service)
        found = self.ask_clients("open", self.ports[backend], rate=rate, seconds=self.options.overload_seconds)
        idle = self.ask_clients("idle", self.ports[backend], requests=self.options.requests)["latency_ms"]["p50"]
        return found | {
            "capacity": capacity,
            "growth": measure_memory(service) / before - 1,
            "recovery": found["after"]["latency_ms"]["p50"] / idle,
        }


def measure_memory(service: psutil.Process) -> int:
    """Resident memory of the service and its workers, in bytes."""
    return sum(process.memory_info().rss for process in (service, *service.children(recursive=True)))


def ask_bare(process: subprocess.Popen[str], order: str) -> dict[str, float]:
    """Result of a command of `serving_bare.py`."""
    assert process.stdin is not None
    process.stdin.write(order + "\n")
    process.stdin.flush()
    return json.loads(read_line(process))


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line on the stdout of a process."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{' '.join(map(str, process.args))} ended early")  # type: ignore[arg-type]
    return line.strip()


class Goals:
    """The table of results, and the goals that are missed."""

    def __init__(self) -> None:
        self.rows = [["what", "measured", "goal", ""]]
        self.missed: list[str] = []

    def add(self, what: str, measured: str) -> None:
        """A row without a goal."""
        self.rows.append([what, measured, "", ""])

    def check(self, what: str, value: float, goal: float, unit: str = "", at_most: bool = False) -> None:
        """A row with one."""
        is_met = value <= goal if at_most else value >= goal
        self.rows.append(
            [what, f"{value:.2f}{unit}", f"{'<=' if at_most else '>='} {goal:g}{unit}", "" if is_met else "missed"]
        )
        if not is_met:
            self.missed.append(what)


def check_throughput(bench: Bench, goals: Goals, backend: str) -> None:
    """Rows of throughput and of the latency when idle."""
    options, lab = bench.options, bench.median("lab", "rate")
    loops = [bench.median(form, backend) for form in ("bare", "side by side")]
    bare, service = max((rate for rate in loops if rate is not None), default=None), bench.median("service", backend)
    name = f"{backend} {bench.precisions.get(backend, '')}".strip()
    if bare is not None:
        goals.add(f"bare {name}, batches of 32 by length", f"{bare:.1f}/s")
        goals.add("  of one loop, and of several side by side", " and ".join(f"{rate:.1f}" for rate in loops if rate))
    if service is not None:
        goals.add(f"service {name}, {options.clients} clients", f"{service:.1f}/s")
    if bare and service:
        goals.check(f"service / bare, {name}", service / bare, options.share_goal)
    if lab and service:
        goal = options.lab_onnx_goal if backend == "onnx" else options.lab_torch_goal
        goals.check(f"service / lab's server, {name}", service / lab, goal)
    single, idle = bench.median("single", backend), bench.median("idle", backend)
    if single and idle:
        goals.add(f"bare {name}, one sentence", f"{single:.2f} ms")
        goals.check(f"an idle request over that, {name}", idle - single, options.idle_goal, " ms", at_most=True)


def check_overload(found: dict[str, Any], goals: Goals, backend: str, options: argparse.Namespace) -> None:
    """Rows of the overload."""
    statuses = found["statuses"]
    goals.add(f"overload {backend}: sent, by status", f"{found['sent']}: {statuses}")
    others = sum(number for status, number in statuses.items() if status not in ("200", "429"))
    goals.check(f"overload {backend}: other statuses", others, 0, at_most=True)
    lost = found["lost"] + found["refused"] + found["unanswered"]
    goals.check(f"overload {backend}: lost, reset or refused", lost, 0, at_most=True)
    if found["unsent"]:
        goals.add(f"overload {backend}: not sent, all connections busy", str(found["unsent"]))
    goals.check(f"overload {backend}: answered / capacity", found["rate"] / found["capacity"], options.overload_goal)
    goals.check(f"overload {backend}: memory grows by", found["growth"], options.memory_goal, at_most=True)
    goals.check(
        f"overload {backend}: latency a second after / idle", found["recovery"], options.recovery_goal, "", True
    )


def parse_options() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder of a run, or its model folder")
    parser.add_argument("--data_dir", help="folder with local copies of SST-2; default: SENTIMENT_DATA_DIR, or the Hub")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--backends", nargs="+", choices=["torch", "onnx"], help="default: torch, and onnx if exported")
    parser.add_argument("--client", choices=["wrk", "python"], default="wrk" if shutil.which("wrk") else "python")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each throughput in each round")
    parser.add_argument(
        "--requests", type=int, default=200, help="one after another, for the latency of an idle service"
    )
    parser.add_argument("--overload", type=float, default=4.0, help="times the capacity")
    parser.add_argument("--overload_seconds", type=float, default=30.0)
    parser.add_argument("--lab_torch_goal", type=float, default=9.0)
    parser.add_argument("--lab_onnx_goal", type=float, default=16.0)
    parser.add_argument("--share_goal", type=float, default=0.85)
    parser.add_argument("--idle_goal", type=float, default=3.0, help="milliseconds")
    parser.add_argument("--overload_goal", type=float, default=0.9)
    parser.add_argument("--memory_goal", type=float, default=0.1)
    parser.add_argument("--recovery_goal", type=float, default=2.0, help="times the latency when idle")
    options = parser.parse_args()
    if options.backends is None:
        is_exported = (find_model_folder(options.model) / "onnx").is_dir()
        options.backends = ["torch", "onnx"] if is_exported else ["torch"]
        if not is_exported:
            print(f"onnx is left out: not exported (`sentiment export {options.model} --int8`)", file=sys.stderr)
    return options


def main() -> None:
    options = parse_options()
    goals = Goals()
    with contextlib.ExitStack() as stack:
        bench = Bench(options, Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        bench.start()
        for number in range(1, options.rounds + 1):
            started = time.perf_counter()
            bench.measure_round()
            print(f"round {number}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        lab = bench.median("lab", "rate")
        if lab is not None:
            goals.add("lab's server, fp32, 128 tokens, one at a time", f"{lab:.1f}/s")
        for backend in options.backends:
            check_throughput(bench, goals, backend)
        if "overload" in options.parts:
            for backend in options.backends:
                check_overload(bench.measure_overload(backend), goals, backend, options)
    print(render_table(goals.rows))
    sys.exit(f"goals missed: {'; '.join(goals.missed)}" if goals.missed else 0)


if __name__ == "__main__":
    main()
