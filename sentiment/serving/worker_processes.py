"""Torch in worker processes, each with its own interpreter: torch needs the GIL, which the event loop holds often."""

import atexit
import contextlib
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from sentiment.environment import get_process_context
from sentiment.exceptions import InputError, first_line
from sentiment.inference.backends import load_backend
from sentiment.inference.checkpoint import Checkpoint, load_checkpoint
from sentiment.serving.batcher import BackendError


class TorchWorkerPool:
    """The torch backend in several processes, each with one batch at a time; on a GPU in one process.

    A batch that arrives when all processes are idle gets the threads of all. A process that ends is replaced: one that
    was idle delays the next batch by some seconds, one that was busy fails its batch.

    Raises:
        InputError: the model cannot be loaded.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, precision: str, threads_per_process: int, processes: int):
        self._args = (str(checkpoint.folder), precision)
        self._threads = threads_per_process
        self._processes: set[BaseProcess] = set()
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        atexit.register(self.close)
        try:
            first, *others = [self._start() for _ in range(processes)]
            first.send(None)
            self.precision, self.device = receive(first)
            others = [] if self.device == "cuda" else others  # processes end when their connection is closed
            for connection in others:
                connection.send(None)
            for connection in others:
                receive(connection)
        except (EOFError, OSError):
            hint = f"{processes} of them may need more memory than there is (--workers 1, or --backend onnx)"
            raise InputError(f"a worker process ended while loading {checkpoint.folder}: {hint}") from None
        self._count = 1 + len(others)
        for connection in (first, *others):
            self._idle.put(connection)

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, classes)."""
        connection = self._idle.get()
        is_alone = self._idle.qsize() == self._count - 1
        batch = (input_ids, self._threads * (self._count if is_alone else 1))
        try:
            try:
                connection.send(batch)
            except OSError:  # the process ended while it was idle
                connection = self._start(load=True)
                connection.send(batch)
            logits: np.ndarray = receive(connection)
        except (EOFError, OSError):
            connection = self._start(load=True)
            raise
        finally:
            self._idle.put(connection)
        return logits

    def close(self) -> None:
        """Kill the processes."""
        with self._lock:
            for process in self._processes:
                process.kill()

    def _start(self, load: bool = False) -> Connection:
        context = get_process_context("sentiment.models.classifier")
        connection, other_end = context.Pipe()
        process = context.Process(target=compute_batches, args=(other_end, *self._args), daemon=True)
        resource_tracker.ensure_running()  # here, since it unblocks the signals that are blocked below
        with self._lock:
            self._processes = {process for process in self._processes if process.is_alive()}
            with block_signals():
                process.start()
                self._processes.add(process)
        other_end.close()
        if load:
            connection.send(None)
            receive(connection)
        return connection


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Defer SIGINT and SIGTERM here, and block them in processes started meanwhile, which the service ends itself."""
    signals = (signal.SIGINT, signal.SIGTERM)
    received: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    # Another thread may receive a signal, and Python runs its handler in the main thread all the same.
    is_main = threading.current_thread() is threading.main_thread()
    handlers = [signal.signal(name, lambda number, _: received.append(number)) for name in signals if is_main]
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, handler in zip(signals, handlers, strict=False):
            signal.signal(name, handler)
        if received:
            signal.raise_signal(received[0])


def receive(connection: Connection) -> Any:
    """What a process sends; raises it if it is an error."""
    received = connection.recv()
    if isinstance(received, Exception):
        raise received
    return received


def compute_batches(connection: Connection, folder: str, precision: str) -> None:
    """Target of a process: load the model when asked to, then answer batches until the other end is closed."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
        try:
            backend = load_backend(load_checkpoint(folder), "torch", precision, None)
        except Exception as error:
            is_one_line = isinstance(error, InputError)
            connection.send(error if is_one_line else InputError(f"cannot load {folder}: {first_line(error)}"))
            return
        import torch  # which `load_backend` has found

        connection.send((backend.precision, backend.device))
        while True:
            input_ids, threads = connection.recv()
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)
            try:
                answer: Any = backend.compute_logits(input_ids)
            except Exception as error:
                answer = BackendError(type(error).__name__)
            connection.send(answer)
