from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sentiment.training.processes import all_reduce_max


def test_one_process_waits_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("a tensor on the device"))
    args: Any = SimpleNamespace(world_size=1, device=torch.device("cuda"))
    assert all_reduce_max(args, 15, 0) == [15, 0]
