"""What the environment gives a process: cores, threads, and its rank among several."""

import os

# Below this, starting processes costs more than they save.
ROWS_PER_PROCESS = 10_000


def count_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_threads() -> int:
    """Threads to compute with: `OMP_NUM_THREADS`, as torch takes it, else one for each core."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() and int(threads) else count_cores()


def choose_num_proc(rows: int, requested: int | None) -> int | None:
    """`num_proc` for `datasets.map`: as requested, or a process for each 10,000 rows up to the cores; None for one."""
    if requested is None:
        requested = min(count_cores(), rows // ROWS_PER_PROCESS)
    workers = min(requested, rows)
    return workers if workers > 1 else None


def is_main_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several that a launcher started."""
    return int(os.environ.get("RANK", "0")) == 0
