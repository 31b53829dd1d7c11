"""Which number format a machine trains fastest in."""

import torch

from sentiment.exceptions import InputError

PRECISIONS = ("auto", "fp16", "bf16", "fp32")


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
