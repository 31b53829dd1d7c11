"""How many processes share a `datasets.map`."""

from sentiment.cores import count_cores

# Below this, starting processes costs more than they save.
ROWS_WORTH_A_PROCESS = 10_000


def count_workers(rows: int, requested: int | None) -> int | None:
    """`num_proc` for `datasets.map`: as requested, or a process for each 10,000 rows up to the cores; None for one."""
    if requested is None:
        requested = min(count_cores(), rows // ROWS_WORTH_A_PROCESS)
    workers = min(requested, rows)
    return workers if workers > 1 else None
