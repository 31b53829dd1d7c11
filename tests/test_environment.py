import os

import pytest

from sentiment.environment import choose_num_proc


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
