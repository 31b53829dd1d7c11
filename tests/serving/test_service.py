"""Threads and workers of a service."""

import concurrent.futures
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentiment.environment import count_cores, count_threads
from sentiment.inference.predictor import Predictor
from sentiment.serving.service import split_threads


@pytest.mark.parametrize(
    ("threads", "backend", "workers", "expected"),
    [
        (1, "torch", None, (1, 1)),
        (2, "torch", None, (2, 1)),
        (16, "torch", None, (4, 4)),
        (16, "torch", 1, (1, 16)),
        (2, "torch", 8, (8, 1)),
        (2, "onnx", None, (2, 1)),
        (16, "onnx", None, (16, 1)),
        (64, "onnx", None, (16, 49)),  # 16 of their own, and 48 shared ones
        (8, "onnx", 1, (1, 8)),
        (0, "onnx", None, (1, 1)),  # two models on one core
    ],
)
def test_split_threads(threads: int, backend: str, workers: int | None, expected: tuple[int, int]) -> None:
    assert split_threads(threads, backend, workers) == expected


@pytest.mark.parametrize(("variable", "threads"), [("3", 3), ("0", None), ("", None), ("many", None), ("\u00b2", None)])
def test_threads_follow_omp_num_threads_as_in_torch(
    variable: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert count_threads() == (threads or count_cores())


def test_concurrent_clients_get_their_own_answers(open_service: Callable[..., Any], tiny_classifier: Path) -> None:
    texts = [[f"word {number} of {count}" for count in range(number % 7 + 1)] for number in range(60)]
    predictor = Predictor.from_pretrained(str(tiny_classifier))
    with open_service(workers=3, max_batch_tokens=40) as opened, concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda sentences: opened.client.post("/query", json={"sentences": sentences}), texts))
    for sentences, response in zip(texts, found, strict=True):
        expected = predictor.predict(sentences)
        assert response.json()["labels"] == [prediction.label for prediction in expected]
        assert response.json()["scores"] == pytest.approx([prediction.score for prediction in expected], abs=1e-5)
