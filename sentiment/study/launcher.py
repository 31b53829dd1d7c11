"""Tasks of a study one after the other or side by side, each with what it prints in a log of its own."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from sentiment.environment import count_cores

Task = TypeVar("Task")
Result = TypeVar("Result")
# Their handlers hold on to the stderr that they found when they were made.
CHATTY_LIBRARIES = ("transformers", "datasets")


def run_tasks(function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int, log: Path) -> Iterator[Result]:
    """What the function gives for each task, as soon as it is there: in this process, or in `jobs` others.

    The others share the cores evenly, unless OMP_NUM_THREADS says how many threads each has; `log` takes what they
    say outside of tasks. They end with this process, however that ends.

    Raises:
        BrokenProcessPool: one of the others was killed.
    """
    if jobs == 1:
        yield from map(function, tasks)
        return
    with share_cores(jobs):
        executor = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=begin_process, initargs=(log,)
        )
        try:
            for future in as_completed([executor.submit(function, task) for task in tasks]):
                yield future.result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def share_cores(jobs: int) -> Iterator[None]:
    """Within it, processes that start have their share of the cores: torch reads this when it is imported."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // jobs)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def begin_process(log: Path) -> None:
    """Prepares a process of the pool: silent but for its log, gone at once when interrupted or left alone."""
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    tqdm.set_lock(threading.RLock())  # its own, between processes, would be left behind, and complained of, by an exit
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone: it would write where the next study resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Within it, what Python code prints, warns of and logs is added to this file."""
    handlers = [
        handler
        for name in CHATTY_LIBRARIES
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    streams = [handler.stream for handler in handlers]
    with path.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            for handler in handlers:
                handler.setStream(log)
            yield
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                handler.setStream(stream)
