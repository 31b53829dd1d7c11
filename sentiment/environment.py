"""What the environment gives a process: cores, threads, and its rank among the processes of a run."""

import os

ROWS_PER_PROCESS = 10_000  # of a `datasets.map`; below it, starting processes costs more than they save


def count_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_threads() -> int:
    """Threads to compute with: `OMP_NUM_THREADS`, as torch reads it, else one per core."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() and int(threads) else count_cores()


def choose_num_proc(rows: int, requested: int | None) -> int | None:
    """`num_proc` for `datasets.map`: as requested, or one process per 10,000 rows up to the cores; None for one."""
    if requested is None:
        requested = min(count_cores(), rows // ROWS_PER_PROCESS)
    num_proc = min(requested, rows)
    return num_proc if num_proc > 1 else None


def get_rank() -> int:
    """Rank of this process among those that a launcher started; 0 for a single one."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Whether this process writes and prints: rank 0."""
    return get_rank() == 0
