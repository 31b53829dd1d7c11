"""Freed memory is used again without page faults, and shapes that were met once are forgotten."""

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from sentiment.training.hardware import KERNEL_CACHES

COUNT_FAULTS = """
import ctypes, resource, torch
from sentiment.training.hardware import M_MMAP_THRESHOLD, raise_malloc_thresholds

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(4 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)  # where it starts, whatever was freed until now
as_it_comes = count_faults()
raise_malloc_thresholds()
print(as_it_comes, min(count_faults() for _ in range(5)))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="a setting of glibc"
)
def test_freed_memory_is_used_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    as_it_comes, kept = map(int, done.stdout.split())
    assert as_it_comes > 1000
    assert kept < as_it_comes / 10


MULTIPLY_SHAPES = """
import sys, psutil, torch
from sentiment.training.hardware import limit_onednn_caches

if sys.argv[1] == "bounded":
    limit_onednn_caches()
weight = torch.randn(64, 64, dtype=torch.bfloat16)
before = psutil.Process().memory_info().rss
for rows in range(100, 700):
    torch.randn(rows, 64, dtype=torch.bfloat16) @ weight
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="bf16 is not multiplied by oneDNN here")
def test_memory_of_kernels_is_bounded() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in KERNEL_CACHES}
    grown = []
    for how in ("as it comes", "bounded"):
        command = [sys.executable, "-c", MULTIPLY_SHAPES, how]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        grown.append(int(done.stdout))
    if grown[0] < 50 * 2**20:
        pytest.skip("kernels take little memory here")
    assert grown[1] < grown[0] / 2
