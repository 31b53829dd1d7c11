"""The protocol of launchers, which run the tasks of a study, and the local one; `arguments.LAUNCHERS` lists them."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from tqdm import tqdm

from sentiment.environment import count_cores, count_threads, disable_progress_bars_in_logs, get_process_context

Task = TypeVar("Task")
Result = TypeVar("Result")
# Their log handlers keep the stderr of the time when they were created.
LOGGING_LIBRARIES = ("transformers", "datasets")


class LauncherError(RuntimeError):
    """Tasks are lost; one line says why and what to do. Results that were yielded before are valid."""


class Launcher(Protocol):
    """Runs tasks, at most `jobs` at a time, and yields the results in order of completion."""

    def __call__(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, log: Path
    ) -> Iterator[Result]:
        """Yield `function(task)` of each task, all of which can be pickled; raise LauncherError if tasks are lost.

        Workers append their output between tasks to `log`, and end when the caller ends.
        """


def run_locally(function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, log: Path) -> Iterator[Result]:
    """Run tasks in this process or, if `jobs` is above 1, in processes that share the cores; see `Launcher`."""
    if jobs == 1:
        yield from map(function, tasks)
        return
    before = os.environ.get("OMP_NUM_THREADS")
    # Of the server that workers are forked from, too: NumPy's BLAS reads it on import.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // jobs)))
    try:
        with start_workers(jobs, log, "a process was killed, perhaps out of memory: pass fewer --jobs") as executor:
            for future in as_completed([executor.submit(function, task) for task in tasks]):
                yield future.result()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def run_in_process(function: Callable[[Task], Result], task: Task, log: Path) -> Result:
    """`function(task)` in a new process, whose memory is freed and whose output is appended to `log`.

    Raises:
        LauncherError: the process was killed, perhaps for want of memory.
    """
    with start_workers(1, log, "its process was killed, perhaps out of memory") as executor:
        return executor.submit(function, task).result()


@contextmanager
def start_workers(jobs: int, log: Path, problem: str) -> Iterator[ProcessPoolExecutor]:
    """Processes that append their output to `log`; they end with the block, at once if it raises.

    Raises:
        LauncherError: `problem`, if one of them is killed.
    """
    context = get_process_context("sentiment.pipelines.finetuning", "sentiment.pipelines.adaptation")
    arguments = (log, dict(os.environ))
    executor = ProcessPoolExecutor(jobs, context, initializer=initialize_worker, initargs=arguments)
    try:
        yield executor
    except BrokenProcessPool as error:
        raise LauncherError(problem) from error
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def initialize_worker(log: Path, environment: Mapping[str, str]) -> None:
    """Redirect the output of a new worker process to its log; make it exit on SIGINT and with its parent.

    It takes its parent's environment: until then it has that of the time when the first worker was started.
    """
    os.environ.update(environment)
    torch.set_num_threads(count_threads())
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    # transformers' collators with a seed take a process of another name for a worker of a DataLoader.
    multiprocessing.current_process().name = "MainProcess"
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    tqdm.set_lock(threading.RLock())  # the default lock, shared by processes, would leak and warn at exit
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Exit when the parent process has ended: otherwise a resumed study would write to the same folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def redirect_output(path: Path) -> Iterator[None]:
    """Append what Python code prints, warns and logs to a file."""
    found = (handler for name in LOGGING_LIBRARIES for handler in logging.getLogger(name).handlers)
    handlers = [handler for handler in found if isinstance(handler, logging.StreamHandler)]
    with path.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        streams = [handler.setStream(log) for handler in handlers]
        disable_progress_bars_in_logs()
        try:
            yield
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                handler.setStream(stream)
