"""Freed memory is used again without page faults."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from sentiment.training.memory import keep_freed_memory

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

as_it_comes = count_faults()
keep_freed_memory()
count_faults()  # the first ones make the heap grow
print(as_it_comes, count_faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's own")
def test_the_second_use_of_freed_memory_costs_no_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    as_it_comes, kept = map(int, done.stdout.split())
    assert as_it_comes > 100
    assert kept < as_it_comes / 10
