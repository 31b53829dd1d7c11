import platform
from pathlib import Path

import pytest
import torch

import sentiment
from sentiment.training.hardware import describe_hardware, list_versions, measure_peak_memory, read_cpu_name


def test_hardware_of_this_machine() -> None:
    hardware = describe_hardware("cpu", processes=2)
    assert set(hardware) == {"device", "name", "cores", "threads", "memory_mb", "processes"}
    assert hardware["device"] == "cpu"
    assert hardware["name"]
    assert hardware["cores"] >= 1
    assert 100 < hardware["memory_mb"] < 100_000_000
    assert hardware["processes"] == 2


def test_cpu_name_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert read_cpu_name() == (platform.processor() or platform.machine())


def test_versions() -> None:
    versions = list_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
    assert versions["sentiment"] == sentiment.__version__
    assert {"transformers", "datasets", "evaluate", "accelerate", "scikit-learn"} < set(versions)


def test_peak_memory_is_in_megabytes_and_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = measure_peak_memory()
    block = bytearray(300 * 2**20)
    after = measure_peak_memory()
    assert 50 < before <= after
    assert after > len(block) / 2**20
    del block
    assert measure_peak_memory() > after - 1  # the system counts to about a megabyte
