"""The local launcher: results, threads, output, and killed processes; redirected output."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as transformers_logging

from sentiment.environment import count_cores
from sentiment.study.launchers import LauncherError, redirect_output, run_locally


def test_one_job_runs_in_this_process(tmp_path: Path) -> None:
    seen: list[int] = []
    assert list(run_locally(seen.append, [1, 2], 1, tmp_path / "log")) == [None, None]
    assert seen == [1, 2]


def count_torch_threads(_: None) -> int:
    return torch.get_num_threads()


def test_two_jobs_share_the_cores_and_log_their_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    log = tmp_path / "log"
    assert list(run_locally(os.getenv, ["OMP_NUM_THREADS"], 2, log)) == [str(max(1, count_cores() // 2))]
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert sorted(run_locally(os.getenv, ["OMP_NUM_THREADS", "HOME"], 2, log)) == sorted(["7", os.environ["HOME"]])
    assert list(run_locally(count_torch_threads, [None], 2, log)) == [7]  # though the first processes had fewer
    list(run_locally(print, ["from a process"], 2, log))
    assert log.read_text() == "from a process\n"
    assert capfd.readouterr() == ("", "")


def test_a_killed_process_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="killed, perhaps out of memory"):
        list(run_locally(os._exit, [1, 1, 1], 2, tmp_path / "log"))


def test_printed_and_logged_text_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = transformers_logging.get_logger("transformers.trainer")
    for number in (1, 2):
        with redirect_output(tmp_path / "log"):
            print("printed", number)
            print("to stderr", number, file=sys.stderr)
            logger.warning("logged %d", number)
    text = (tmp_path / "log").read_text()
    assert [
        word
        for word in ("printed", "to stderr", "logged")
        if not {f"{word} 1", f"{word} 2"} <= set(re.findall(rf"{word} \d", text))
    ] == []
    assert capfd.readouterr() == ("", "")
    logger.warning("no longer")
    assert "no longer" not in (tmp_path / "log").read_text()
