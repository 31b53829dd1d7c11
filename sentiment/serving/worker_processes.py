"""Torch in processes of its own: each has a Python of its own, which the event loop does not hold up."""

import atexit
import contextlib
import multiprocessing
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from sentiment.exceptions import InputError, first_line
from sentiment.inference.checkpoint import Checkpoint, read_checkpoint
from sentiment.inference.predictor import load_backend
from sentiment.serving.batcher import BackendError


class TorchWorkerPool:
    """The torch backend in several processes, each of which computes one batch at a time.

    A batch that finds all of them free is computed with the threads of all. Another process takes the place of one that
    ends: killed while it had nothing to do, that costs a batch some seconds; killed over a batch, it fails the batch.

    Args:
        checkpoint: where the weights are.
        precision: as `TorchBackend` takes it.
        threads: of each process.
        processes: how many; on a GPU one, as it computes one batch at a time.

    Raises:
        InputError: the model cannot be loaded.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, precision: str, threads: int, processes: int):
        self._order = (str(checkpoint.folder), precision)
        self._threads = threads
        self._processes: set[BaseProcess] = set()
        self._starting = threading.Lock()
        self._free: queue.LifoQueue[Connection] = queue.LifoQueue()
        atexit.register(self.close)
        connections = [self._start() for _ in range(processes)]
        try:
            self.precision, self.device = load(connections[0])
            if self.device == "cuda":
                del connections[1:]  # they end, as nobody can send to them any more
            for connection in connections[1:]:
                connection.send(None)
            for connection in connections[1:]:
                receive(connection)
        except (EOFError, OSError):
            raise InputError(
                f"a process of {checkpoint.folder} ended while it loaded: {processes} of them may need more memory "
                "than there is (--workers 1, or --backend onnx)"
            ) from None
        self.count = len(connections)
        for connection in connections:
            self._free.put(connection)

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, 2)."""
        connection = self._free.get()
        is_alone = self._free.qsize() == self.count - 1
        batch = (input_ids, self._threads * (self.count if is_alone else 1))
        try:
            try:
                connection.send(batch)
            except OSError:  # it ended while it had nothing to do
                connection = self._start()
                load(connection)
                connection.send(batch)
            logits: np.ndarray = receive(connection)
        except (EOFError, OSError):
            connection = self._start()
            load(connection)
            raise
        finally:
            self._free.put(connection)
        return logits

    def close(self) -> None:
        """Ends the processes."""
        with self._starting:
            for process in self._processes:
                process.kill()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        connection, theirs = context.Pipe()
        process = context.Process(target=compute_batches, args=(theirs, *self._order), daemon=True)
        with self._starting:
            self._processes = {process for process in self._processes if process.is_alive()}
            with block_signals():
                process.start()
                self._processes.add(process)
        theirs.close()
        return connection


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Keeps SIGINT and SIGTERM from this thread, and for good from the processes that it starts.

    They are meant for the service, which ends its processes when it is done.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    # One that another thread gets is handled in the main one, by Python, whatever that one's mask.
    came: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            handlers[name] = signal.signal(name, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def load(connection: Connection) -> Any:
    """Has a process load its model: the precision and the device."""
    connection.send(None)
    return receive(connection)


def receive(connection: Connection) -> Any:
    """What the process sends, raised if it is an error."""
    found = connection.recv()
    if isinstance(found, Exception):
        raise found
    return found


def compute_batches(connection: Connection, folder: str, precision: str) -> None:
    """Loads the model when it is told to, and computes the batches that come until the other end is closed."""
    with contextlib.suppress(EOFError, OSError):
        answer_batches(connection, folder, precision)


def answer_batches(connection: Connection, folder: str, precision: str) -> None:
    """As `compute_batches`; the end of the other side raises EOFError or OSError."""
    with contextlib.suppress(ImportError):  # of which `load_backend` says more
        import torch  # the longest part of loading: it goes on before it is known whether this process is needed

    connection.recv()
    try:
        backend = load_backend(read_checkpoint(folder), "torch", precision, None)
    except InputError as error:
        connection.send(error)
        return
    except Exception as error:
        connection.send(InputError(f"cannot load {folder} with torch: {first_line(error)}"))
        return
    connection.send((backend.precision, backend.device))
    while True:
        input_ids, threads = connection.recv()
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        try:
            found: Any = backend.compute_logits(input_ids)
        except Exception as error:
            found = BackendError(type(error).__name__)  # its own message may hold a user's text
        connection.send(found)
