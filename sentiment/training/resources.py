"""What a run used: the machine, its libraries, and memory at its peak."""

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
from sentiment.cores import count_cores

LIBRARIES = ("torch", "transformers", "datasets", "evaluate", "accelerate", "scikit-learn")


def is_main_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several that a launcher started."""
    return int(os.environ.get("RANK", "0")) == 0


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


def describe_code() -> dict[str, Any] | None:
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
