"""Torch in processes of its own: each has a Python of its own, which the event loop does not hold up."""

import atexit
import multiprocessing
import queue
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from sentiment.exceptions import InputError
from sentiment.serving.checkpoint import Checkpoint, read_checkpoint
from sentiment.serving.predictor import load_backend


class TorchProcesses:
    """The torch backend in several processes, each of which computes one batch at a time.

    A batch that finds all of them free is computed with the threads of all. A process that ends, killed by the system
    or by a batch, fails that batch, and another takes its place.

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
        self._free: queue.LifoQueue[Connection] = queue.LifoQueue()
        atexit.register(self.close)
        connections = [self._start() for _ in range(processes)]
        try:
            for connection in connections:
                self.precision, self.device = receive(connection)
        except EOFError:
            raise InputError(
                f"a process of {checkpoint.folder} ended while it loaded: {processes} of them may need more memory "
                "than there is (--workers 1, or --backend onnx)"
            ) from None
        if self.device == "cuda":
            connections = connections[:1]  # the others end, as nobody can send to them any more
        self.count = len(connections)
        for connection in connections:
            self._free.put(connection)

    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, 2)."""
        connection = self._free.get()
        is_alone = self._free.qsize() == self.count - 1
        try:
            connection.send((input_ids, self._threads * (self.count if is_alone else 1)))
            logits: np.ndarray = receive(connection)
        except (EOFError, OSError):
            connection = self._start()
            receive(connection)
            raise
        finally:
            self._free.put(connection)
        return logits

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()

    def _start(self) -> Connection:
        self._processes = {process for process in self._processes if process.is_alive()}
        context = multiprocessing.get_context("spawn")
        connection, theirs = context.Pipe()
        process = context.Process(target=compute_batches, args=(theirs, *self._order), daemon=True)
        process.start()
        theirs.close()
        self._processes.add(process)
        return connection


def receive(connection: Connection) -> Any:
    """What the process sends, raised if it is an error."""
    found = connection.recv()
    if isinstance(found, Exception):
        raise found
    return found


def compute_batches(connection: Connection, folder: str, precision: str) -> None:
    """Loads the model, and computes the batches that come until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which ends this process when it is done
        signal.signal(number, signal.SIG_IGN)
    try:
        backend = load_backend(read_checkpoint(folder), "torch", precision, None)
    except InputError as error:
        connection.send(error)
        return
    import torch

    connection.send((backend.precision, backend.device))
    while True:
        try:
            input_ids, threads = connection.recv()
        except EOFError:
            return
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        try:
            found: Any = backend.compute_logits(input_ids)
        except Exception as error:
            found = RuntimeError(type(error).__name__)  # its message may hold a user's text
        connection.send(found)
