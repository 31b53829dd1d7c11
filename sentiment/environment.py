"""What the environment gives a process: cores, threads, number formats, its rank, and whether it may draw bars.

Imports torch only where it is needed: serving with ONNX Runtime does without.
"""

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext

from sentiment.exceptions import InputError

PRECISIONS = ("auto", "fp16", "bf16", "fp32")

ROWS_PER_PROCESS = 10_000  # of a `datasets.map`; below it, starting processes costs more than they save


def count_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_process_context(*modules: str) -> ForkServerContext:
    """The context of processes that start at once and share memory: forked from a server that has imported `modules`.

    The server is started with the first process, and keeps the environment and the modules of that time. It never asks
    CUDA for devices, which no process that is forked later could use.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


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


def disable_progress_bars_in_logs() -> None:
    """Turns the bars of datasets, huggingface_hub and transformers off if stderr is no terminal.

    By variables where they are not imported yet, also in processes started from here, and by functions where they are.
    """
    if sys.stderr.isatty():
        return
    for name in ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    for name, function in (
        ("datasets", "disable_progress_bars"),
        ("huggingface_hub.utils", "disable_progress_bars"),
        ("transformers.utils.logging", "disable_progress_bar"),
    ):
        if name in sys.modules:
            getattr(sys.modules[name], function)()


def choose_precision(requested: str = "auto", use_cpu: bool = False) -> str:
    """`fp16` on CUDA, `bf16` on a CPU with units for it, else `fp32`; any request but `auto` is followed.

    Raises:
        InputError: fp16 without CUDA, where it has no fast path.
    """
    import torch

    if requested not in PRECISIONS:
        raise InputError(f"--precision {requested}: choose one of {', '.join(PRECISIONS)}")
    has_cuda = torch.cuda.is_available() and not use_cpu
    if requested == "fp16" and not has_cuda:
        raise InputError("--precision fp16 needs a CUDA device: omit it, or pass bf16 or fp32")
    if requested != "auto":
        return requested
    return "fp16" if has_cuda else "bf16" if has_bf16_units() else "fp32"


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX), and oneDNN may use it."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    is_limited = limit not in ("", "ALL", "DEFAULT") and not any(unit in limit for unit in ("BF16", "FP16", "AMX"))
    return not is_limited and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def print_error(message: str, is_common: bool = False) -> None:
    """Prints an error; those of other ranks with their number, unless every rank has the same one."""
    rank = get_rank()
    if rank == 0:
        print(f"error: {message}", file=sys.stderr)
    elif not is_common:
        print(f"error (rank {rank}): {message}", file=sys.stderr)
