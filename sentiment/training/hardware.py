"""The machine: threads, memory, libraries, and what a run used of them."""

import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainingArguments

import sentiment
from sentiment.environment import count_cores

LIBRARIES = ("torch", "transformers", "datasets", "evaluate", "accelerate", "scikit-learn")
# Constants of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# Capacities of the kernel caches of oneDNN and of torch's layer over it; 1,024 each by default.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
CACHED_KERNELS = 128


def describe_hardware(device: str, processes: int) -> dict[str, Any]:
    """The device (cpu, cuda or mps), cores, threads of this process, memory in MB, and processes of the run."""
    return {
        "device": device,
        "name": torch.cuda.get_device_name() if device == "cuda" else read_cpu_name(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "memory_mb": round(psutil.virtual_memory().total / 2**20),
        "processes": processes,
    }


def read_cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def list_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"sentiment": sentiment.__version__, "python": platform.python_version()} | libraries


def describe_git_revision() -> dict[str, Any] | None:
    """The commit that this package is of, and whether files differ from it; None where it is not a checkout's own."""
    root = Path(sentiment.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"revision": revision, "dirty": bool(changes)}


def measure_peak_memory() -> float:
    """Peak memory of this process so far, in MB: allocated on the GPU, or the resident set where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage also counts what the process was forked from
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10  # of kB
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB elsewhere


def use_all_cores(args: TrainingArguments) -> None:
    """Gives a single CPU process one thread per core where `accelerate launch` left it one.

    accelerate 1.15 sets OMP_NUM_THREADS=1 for a CPU process unless the variable is set. If it was set by the user, the
    launcher's own environment has it too.
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "ACCELERATE_DYNAMO_BACKEND" in os.environ
    if args.world_size > 1 or not args.use_cpu or os.environ.get("OMP_NUM_THREADS") != "1" or not is_launched:
        return
    try:
        launcher = psutil.Process().parent()
        set_by_user = launcher is None or "OMP_NUM_THREADS" in launcher.environ()
    except psutil.Error:
        set_by_user = True
    if not set_by_user:
        os.environ["OMP_NUM_THREADS"] = str(count_cores())
        torch.set_num_threads(count_cores())


def limit_onednn_caches() -> None:
    """Limits oneDNN's kernel caches, unless the environment does; call it before the first matrix product.

    Each batch shape has matrix products of its own, and each cached kernel holds 258 KB, twice. An adaptation with
    batches of every length grew from 2.1 to 4.0 GB in 90 steps, and kept growing; with this limit it stays at 2.8 GB,
    at the same speed.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(CACHED_KERNELS))


def raise_malloc_thresholds() -> None:
    """Makes glibc keep up to 2 GB of freed memory for reuse, for the rest of the process; see mallopt(3).

    By default it returns large blocks to the system, which zeroes each page again. A training step frees and allocates
    hundreds of MB: 9,000 page faults a step of 32 texts, 1,700 with this, at 1.06 to 1.19 times the speed. Does nothing
    without glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return
    # Older versions accept 32 MB at most, and the trim threshold alone would freeze the dynamic mmap threshold.
    if mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25):
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
