"""The number format for each machine, and requests that it cannot follow."""

import pytest
import torch

from sentiment.environment import choose_precision, has_bf16_units
from sentiment.exceptions import InputError


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: bool, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **capabilities})
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("cuda", "capabilities", "expected"),
    [
        (True, {}, "fp16"),
        (True, {"avx512_bf16": True}, "fp16"),
        (False, {"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        (False, {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        (False, {"avx512_bf16": False, "amx_bf16": False, "avx512": True}, "fp32"),
        (False, {}, "fp32"),
    ],
)
def test_the_fastest_format_of_each_machine(
    cuda: bool, capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, cuda, **capabilities)
    assert choose_precision() == choose_precision("auto") == expected
    assert has_bf16_units() == any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


@pytest.mark.parametrize(("limit", "expected"), [("AVX2", "fp32"), ("AVX512_CORE_BF16", "bf16"), ("DEFAULT", "bf16")])
def test_a_limit_on_instructions_is_respected(limit: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=False, avx512_bf16=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert choose_precision() == expected


@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("requested", ["bf16", "fp32"])
def test_a_request_is_followed(cuda: bool, requested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda)
    assert choose_precision(requested) == requested


def test_fp16_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True)
    assert choose_precision("fp16") == "fp16"
    pretend(monkeypatch, cuda=False, amx_bf16=True)
    with pytest.raises(InputError, match="--precision fp16 needs a CUDA device"):
        choose_precision("fp16")


def test_unknown_format() -> None:
    with pytest.raises(InputError, match="--precision int8: choose one of auto, fp16, bf16, fp32"):
        choose_precision("int8")


def test_this_machine_is_asked() -> None:
    assert choose_precision() in ("fp16", "bf16", "fp32")
