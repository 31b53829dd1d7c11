"""The machine: number formats, memory, libraries, and what a run used of them."""

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

import sentiment
from sentiment.environment import count_cores
from sentiment.exceptions import InputError

LIBRARIES = ("torch", "transformers", "datasets", "evaluate", "accelerate", "scikit-learn")
PRECISIONS = ("auto", "fp16", "bf16", "fp32")
# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# How many products of matrices oneDNN, and torch's own layer over it, remember: 1,024 each as they come.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
REMEMBERED_KERNELS = 128


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


def choose_precision(requested: str = "auto") -> str:
    """`fp16` on CUDA, `bf16` on a CPU with units for it, else `fp32`; a request other than `auto` is followed.

    fp16 has no fast path on a CPU, and Trainer refuses it there: fp16 without CUDA raises InputError.
    """
    if requested not in PRECISIONS:
        raise InputError(f"--precision {requested}: choose one of {', '.join(PRECISIONS)}")
    has_cuda = torch.cuda.is_available()
    if requested == "fp16" and not has_cuda:
        raise InputError("--precision fp16 needs a CUDA device: leave it out, or pass bf16 or fp32")
    if requested != "auto":
        return requested
    if has_cuda:
        return "fp16"
    return "bf16" if has_bf16_units() else "fp32"


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def limit_onednn_caches() -> None:
    """Has oneDNN remember fewer kernels, unless the environment says how many; before the first product of matrices.

    Each shape of a batch has products of its own, and each of them holds a quarter of a MB twice, between the large
    pieces of memory that the next batch asks for. An adaptation with batches of every length grew from 2.1 to 4.0 GB in
    90 steps, and still did; with this it stays at 2.8, at the same speed.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(REMEMBERED_KERNELS))


def raise_malloc_thresholds() -> None:
    """Has glibc keep memory that is freed for the next use, up to 2 GB, for the rest of the process.

    As it comes, it gives large pieces back to the system, which hands them out again one zeroed page at a time. A step
    of training frees and asks for hundreds of MB: 9,000 such pages a step of 32 texts, 1,700 with this, at 1.06 to 1.19
    times the speed. Does nothing where there is no glibc. See mallopt(3).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return
    # Older versions take 32 MB at most, and the trim alone would fix the threshold at what it happens to be.
    if mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25):
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
