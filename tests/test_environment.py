import os
import subprocess
import sys

import pytest

from sentiment.environment import choose_num_proc, disable_progress_bars_in_logs


@pytest.mark.parametrize(
    ("rows", "requested", "expected"),
    [
        (0, None, None),
        (19_999, None, None),
        (20_000, None, 2),
        (1_000_000, None, 4),
        (1_000_000, 1, None),
        (1_000_000, 8, 8),
        (3, 8, 3),
        (1, 8, None),
    ],
)
def test_processes_by_rows_cores_and_request(
    rows: int, requested: int | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert choose_num_proc(rows, requested) == expected


def test_without_affinity_the_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert choose_num_proc(1_000_000, None) == 3


@pytest.mark.parametrize("imported_before", [False, True])
def test_libraries_draw_no_bars_in_a_log(imported_before: bool) -> None:
    imports = "import datasets, huggingface_hub.utils as hub, transformers.utils.logging as logging"
    call = "from sentiment.environment import disable_progress_bars_in_logs as off; off()"
    check = "print(datasets.are_progress_bars_disabled(), hub.are_progress_bars_disabled(),"
    check += " not logging.is_progress_bar_enabled())"
    code = "\n".join([imports, call, check] if imported_before else [call, imports, check])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True True True\n", done.stderr


def test_a_terminal_keeps_its_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("HF_DATASETS_DISABLE_PROGRESS_BARS", raising=False)
    disable_progress_bars_in_logs()
    assert "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ


def test_modules_of_the_server_of_processes_ask_cuda_for_nothing() -> None:
    """Processes forked after a call of these cannot use the GPU."""
    code = """
import torch
def fail(*_):
    raise AssertionError
for name in ("is_available", "device_count", "init", "_lazy_init", "get_device_properties", "is_bf16_supported"):
    setattr(torch.cuda, name, fail)
import sentiment.models.classifier, sentiment.pipelines.adaptation, sentiment.pipelines.finetuning
"""
    subprocess.run([sys.executable, "-c", code], check=True)
