"""Worker processes: same logits as in this process, errors are reported, and none is left running."""

import concurrent.futures
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import psutil
import pytest

from sentiment.exceptions import InputError
from sentiment.inference.backends import TorchBackend
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.serving.batcher import BackendError
from sentiment.serving.worker_processes import TorchWorkerPool, block_signals, compute_batches, receive

ROOT = Path(__file__).parents[2]
SECONDS = 60
BATCHES = [[[2, *range(5, 5 + length), 3]] * count for length in (1, 4, 9) for count in (1, 3)]


@pytest.fixture(scope="module")
def processes(tiny_classifier: Path) -> Iterator[TorchWorkerPool]:
    found = TorchWorkerPool(load_checkpoint(str(tiny_classifier)), "fp32", threads_per_process=1, processes=2)
    yield found
    found.close()


def list_alive(processes: TorchWorkerPool) -> set[int]:
    return {process.pid for process in processes._processes if process.pid and process.is_alive()}


def test_logits_equal_those_of_one_process(processes: TorchWorkerPool, tiny_classifier: Path) -> None:
    alone = TorchBackend(load_checkpoint(str(tiny_classifier)), "fp32")
    assert (processes.name, processes.device, processes.precision) == (alone.name, alone.device, alone.precision)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(processes.compute_logits, BATCHES * 5))
    for batch, logits in zip(BATCHES * 5, found, strict=True):
        np.testing.assert_allclose(logits, alone.compute_logits(batch), atol=1e-5)


def test_an_error_is_reported_without_its_text(processes: TorchWorkerPool) -> None:
    with pytest.raises(BackendError, match=r"^IndexError$"):
        processes.compute_logits([[2, 10**6, 3]])
    assert processes.compute_logits(BATCHES[0]).shape == (1, 2)


def test_an_idle_process_that_is_killed_is_replaced(processes: TorchWorkerPool) -> None:
    before = list_alive(processes)
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for process in processes._processes:
        process.join(SECONDS)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = [pool.submit(processes.compute_logits, BATCHES[1]) for _ in before]
        assert all(future.result(SECONDS).shape == (3, 2) for future in found)
    after = list_alive(processes)
    assert len(after) == 2
    assert not after & before


def test_a_busy_process_that_is_killed_fails_its_batch_and_is_replaced(processes: TorchWorkerPool) -> None:
    before = list_alive(processes)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        failed = [pool.submit(processes.compute_logits, BATCHES[0]) for _ in before]
        concurrent.futures.wait(failed, timeout=1)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert all(isinstance(future.exception(SECONDS), EOFError | OSError) for future in failed)
    assert not list_alive(processes) & before
    assert processes.compute_logits(BATCHES[1]).shape == (3, 2)


def test_damaged_weights_are_refused(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_classifier, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot load the weights of "):
        TorchWorkerPool(load_checkpoint(str(folder)), "fp32", threads_per_process=1, processes=2)


def test_a_process_that_ends_while_loading_is_reported(tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.serving.worker_processes.compute_batches", os._exit)
    with pytest.raises(InputError, match=r"ended while loading .*--workers 1"):
        TorchWorkerPool(load_checkpoint(str(tiny_classifier)), "fp32", threads_per_process=1, processes=1)


def test_any_error_while_loading_is_reported_in_one_line(
    tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sentiment.serving.worker_processes.load_backend", Mock(side_effect=OSError("no memory\nat all"))
    )
    ours, theirs = multiprocessing.Pipe()
    ours.send(None)
    compute_batches(theirs, str(tiny_classifier), "fp32")
    with pytest.raises(InputError, match=r"^cannot load .*: no memory$"):
        receive(ours)


SCRIPT = """
import sys
import threading
import time
from sentiment.serving.batcher import BackendError
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.serving.worker_processes import TorchWorkerPool

if __name__ == "__main__":
    TorchWorkerPool(load_checkpoint(sys.argv[1]), "fp32", threads_per_process=1, processes=1)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [None, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(
    number: signal.Signals | None, tiny_classifier: Path, tmp_path: Path
) -> None:
    script = tmp_path / "start.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script), str(tiny_classifier)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        for child in children:  # a terminal sends SIGINT to the whole group
            child.send_signal(signal.SIGINT)
        if number is not None:
            process.send_signal(number)
    assert psutil.wait_procs(children, timeout=SECONDS)[1] == []


def test_a_signal_that_another_thread_receives_is_deferred_too() -> None:
    """Python runs its handler in the main thread, which may be starting a process."""
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with block_signals():
            assert other.ident is not None
            signal.pthread_kill(other.ident, signal.SIGTERM)
            time.sleep(0.1)
            assert received == []
        assert received == [signal.SIGTERM]
    finally:
        done.set()
        other.join()
        signal.signal(signal.SIGTERM, previous)
