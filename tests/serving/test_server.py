"""`sentiment serve`: what it refuses at the start, its address and its token."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file, save_file

from sentiment.cli import main
from sentiment.exceptions import InputError
from sentiment.serving import server
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.server import TOKEN_VARIABLE, open_port, read_token
from sentiment.serving.service import load_service

ROOT = Path(__file__).parents[2]
SECONDS = 60  # timeout of every wait


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- start ---


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def get_error(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The error of `sentiment serve`: one line on stderr, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *flags])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    line, end = shown.err.split("\n")
    assert (line.startswith("error: "), end) == (True, "")
    return line


def test_a_port_in_use(tiny_classifier: Path, taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    line = get_error(capsys, str(tiny_classifier), "--port", str(taken_port))
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{taken_port}: Address already in use")
    assert line.endswith(": pass another --host or --port")


def truncate_weights(folder: Path, _: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def set_nan(folder: Path, _: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def remove_head(folder: Path, tiny_bert: Path) -> None:
    shutil.copy(tiny_bert / "model.safetensors", folder / "model.safetensors")


def remove_tokenizer(folder: Path, _: Path) -> None:
    (folder / "tokenizer.json").unlink()


def add_label(folder: Path, _: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "negative", "1": "neutral", "2": "positive"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate_weights, "cannot load the weights of "),
        (set_nan, "answers with NaN: its weights are damaged"),
        (remove_head, "holds no trained classifier"),
        (remove_tokenizer, "cannot read the tokenizer of "),
        (add_label, "cannot load the weights of "),
    ],
)
@pytest.mark.parametrize("place", ["model", "--compare-with"])
def test_a_damaged_model_is_refused_before_the_port_opens(
    damage: Callable[[Path, Path], None],
    message: str,
    place: str,
    tiny_classifier: Path,
    tiny_bert: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "open_port", lambda *_: pytest.fail("the port is open"))
    monkeypatch.setattr(server, "load_service", partial(load_service, in_processes=False))
    damaged = shutil.copytree(tiny_classifier, tmp_path / "damaged")
    damage(damaged, tiny_bert)
    flags = [str(damaged)] if place == "model" else [str(tiny_classifier), place, str(damaged)]
    line = get_error(capsys, *flags, "--precision", "fp32")
    assert message in line
    assert str(damaged) in line


def test_a_wrong_model_folder_ends_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sentiment", "serve", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: no model in {tmp_path}: pass the folder of a run, or one with a config.json\n"


@pytest.mark.parametrize(
    ("name", "code", "whole_group"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM, False),
        (signal.SIGTERM, 128 + signal.SIGTERM, True),
        (signal.SIGINT, 130, True),
    ],
)
def test_a_signal_while_loading_ends_the_service_and_its_workers(
    tiny_classifier: Path, name: signal.Signals, code: int, whole_group: bool
) -> None:
    """Service managers and terminals signal all processes; others the service alone."""
    command = [sys.executable, "-m", "sentiment", "serve", str(tiny_classifier), "--backend", "torch", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as started:
        service = psutil.Process(started.pid)
        try:
            wait_until(lambda: len(service.children()) > 1)
            children = service.children()
            os.killpg(started.pid, name) if whole_group else service.send_signal(name)
            printed, logged = started.communicate(timeout=SECONDS)
        finally:
            started.kill()
    assert (started.returncode, printed, logged) == (code, "", "")
    assert psutil.wait_procs(children, timeout=SECONDS)[1] == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "-1"],
        ["--port", "70000"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--max-sentences", "0"],
        ["--max-batch-tokens", "-5"],
        ["--precision", "fp8"],
        ["--token-file", "missing"],
    ],
)
def test_wrong_options(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert get_error(capsys, "model", *flags).startswith(f"error: {flags[0]} {flags[1]}")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(InputError, match=f"cannot listen on {host}:0: .*pass another --host"):
        open_port(host, 0)


def test_the_default_host_is_this_machine() -> None:
    assert ServingArguments("model").host == "127.0.0.1"
    with open_port("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_accepted_sockets_have_tcp_nodelay() -> None:
    async def accept() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def record(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = open_port("127.0.0.1", 0)
        async with await asyncio.start_server(record, sock=listener):
            with socket.create_connection(listener.getsockname()):
                return await accepted

    assert asyncio.run(accept()) == 1


# --- the token ---


def test_the_file_of_the_token_precedes_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(" from the file\n", encoding="utf-8")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from the variable")
    assert read_token(None) == "from the variable"
    assert read_token(str(path)) == "from the file"


@pytest.mark.parametrize("content", [None, b"", b" \n\t", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"--token-file .*token (cannot be read|is empty)"):
        read_token(str(path))


def test_requests_are_logged_on_request_only_and_signals_for_all_leave_workers(run_server: Callable[..., Any]) -> None:
    running = run_server("--workers", "2", OMP_NUM_THREADS="2")
    workers = [
        one for one in psutil.Process(running.process.pid).children(recursive=True) if one.memory_info().rss > 1e8
    ]
    for worker in workers:  # and the process that they were forked from
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
    body, headers = b'{"sentences": "good"}', {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{running.url}/query", body, headers)) as response:
        assert response.status == 200
    assert running.log.read_text(encoding="utf-8") == ""
    assert len(workers) == 3
    assert all(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
