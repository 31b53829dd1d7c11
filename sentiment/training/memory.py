"""How the libraries below torch treat memory: what they keep, and what they give back."""

import ctypes
import os
import sys

# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# How many products of matrices oneDNN, and torch's own layer over it, remember: 1,024 each as they come.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
REMEMBERED_KERNELS = 128


def bound_kernel_caches() -> None:
    """Has oneDNN remember fewer kernels, unless the environment says how many; before the first product of matrices.

    Each shape of a batch has products of its own, and each of them holds a quarter of a MB twice, between the large
    pieces of memory that the next batch asks for. An adaptation with batches of every length grew from 2.1 to 4.0 GB in
    90 steps, and still did; with this it stays at 2.8, at the same speed.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(REMEMBERED_KERNELS))


def keep_freed_memory() -> None:
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
