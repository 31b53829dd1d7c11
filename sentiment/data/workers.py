"""How many processes share a `datasets.map`."""

import os

# Below this, starting processes costs more than they save.
ROWS_WORTH_A_PROCESS = 10_000


def count_workers(rows: int, requested: int | None) -> int | None:
    """`num_proc` for `datasets.map`: as requested, or a process for each 10,000 rows up to the cores; None for one."""
    if requested is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        requested = min(cores, rows // ROWS_WORTH_A_PROCESS)
    workers = min(requested, rows)
    return workers if workers > 1 else None
