"""Batches, their order, and the logits or error of each caller."""

import asyncio
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.inference.backends import TorchBackend
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.serving.batcher import Batcher, ModelError, OverloadError, choose_batch

SECONDS = 20  # timeout of every wait
LENGTHS = st.integers(1, 12)
# Requests as the lengths of their texts.
REQUESTS = st.lists(st.lists(LENGTHS, min_size=1, max_size=6), min_size=1, max_size=8)


@dataclass
class Model:
    """A stub whose logits are the first token and the length of a text; records batches, and waits until it is open."""

    runs: list[list[Sequence[int]]] = field(default_factory=list)
    failing: set[int] = field(default_factory=set)  # first tokens for which it raises an error
    not_finite: dict[int, float] = field(default_factory=dict)  # answers by first token
    is_open: threading.Event = field(default_factory=threading.Event)
    is_entered: threading.Event = field(default_factory=threading.Event)
    on_batch: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.is_open.set()

    def __call__(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        self.runs.append(list(batch))
        self.is_entered.set()
        assert self.is_open.wait(SECONDS)
        self.on_batch()
        if any(ids[0] in self.failing for ids in batch):
            raise ValueError("a secret of the user")
        return np.array([[self.not_finite.get(ids[0], ids[0]), len(ids)] for ids in batch])

    @property
    def run_texts(self) -> list[int]:
        """First tokens in the order in which they ran."""
        return [ids[0] for batch in self.runs for ids in batch]


def number_texts(requests: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """Token ids of these lengths; the first token of each text is its number."""
    numbers = iter(range(10_000))
    return [[[next(numbers)] * length for length in lengths] for lengths in requests]


def run_with(batcher: Batcher, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The result of the work, in an event loop with the batcher started."""

    async def run() -> Any:
        batcher.start()
        try:
            return await asyncio.wait_for(work(), SECONDS)
        finally:
            await batcher.stop()

    return asyncio.run(run())


def compute_all(batcher: Batcher, requests: Sequence[Sequence[Sequence[int]]]) -> list[Any]:
    """Logits or error of each of these concurrent requests."""

    async def work() -> list[Any]:
        return await asyncio.gather(*map(batcher.compute, requests), return_exceptions=True)

    return run_with(batcher, work)


async def enter(batcher: Batcher, model: Model) -> asyncio.Task[np.ndarray]:
    """A request of one text with number 9999, which the model runs until it is opened again."""
    model.is_open.clear()
    first = asyncio.create_task(batcher.compute([[9999]]))
    assert await asyncio.to_thread(model.is_entered.wait, SECONDS)
    return first


async def start_waiting(batcher: Batcher, input_ids: Sequence[Sequence[int]]) -> asyncio.Task[np.ndarray]:
    """A request that is queued or refused when this returns."""
    task = asyncio.create_task(batcher.compute(input_ids))
    await asyncio.sleep(0)  # runs it until it waits
    return task


@settings(deadline=None)
@given(REQUESTS, st.integers(1, 40), st.integers(1, 3))
def test_logits_are_returned_to_their_request_in_order(
    lengths: list[list[int]], max_batch_tokens: int, workers: int
) -> None:
    requests = number_texts(lengths)
    answers = compute_all(Batcher(Model(), max_batch_tokens, workers=workers), requests)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.tolist() == [[ids[0], len(ids)] for ids in request]


@settings(deadline=None)
@given(REQUESTS, st.integers(1, 40))
def test_batches_are_within_the_limit_and_run_every_text_once(lengths: list[list[int]], max_batch_tokens: int) -> None:
    model, requests = Model(), number_texts(lengths)
    observed: list[tuple[int, int]] = []
    compute_all(Batcher(model, max_batch_tokens, observe_batch=lambda *batch: observed.append(batch)), requests)
    for batch in model.runs:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= max_batch_tokens
    assert sorted(model.run_texts) == [ids[0] for request in requests for ids in request]
    assert observed == [(len(batch), len(batch) * max(map(len, batch))) for batch in model.runs]


@settings(deadline=None)
@given(st.lists(LENGTHS, min_size=1, max_size=30), st.integers(1, 60))
def test_a_batch_holds_the_first_text_and_those_nearest_in_length(lengths: list[int], max_tokens: int) -> None:
    texts = [[number] * length for number, length in enumerate(lengths)]
    batch = choose_batch(texts, max_tokens, max_padding=10_000)  # type: ignore[arg-type]  # only lengths are used
    assert batch[0] is texts[0]
    left = [text for text in texts if not any(text is chosen for chosen in batch)]
    distances = [abs(len(text) - lengths[0]) for text in batch]
    assert all(abs(len(text) - lengths[0]) >= max(distances) for text in left)
    if left:  # it is full: the nearest of the rest does not fit
        nearest = min(left, key=lambda text: abs(len(text) - lengths[0]))
        assert max(len(nearest), *map(len, batch)) * (len(batch) + 1) > max_tokens


@settings(deadline=None)
@given(st.lists(LENGTHS, min_size=2, max_size=30), st.integers(0, 12))
def test_no_text_adds_more_padding_than_the_maximum(lengths: list[int], max_padding: int) -> None:
    texts = [[number] * length for number, length in enumerate(lengths)]
    batch = choose_batch(texts, 10_000, max_padding)  # type: ignore[arg-type]
    paddings = [
        max(map(len, batch[:count])) * count - sum(map(len, batch[:count])) for count in range(1, len(batch) + 1)
    ]
    assert all(after - before <= max_padding for before, after in itertools.pairwise(paddings))
    alike = [text for text in texts if len(text) == lengths[0]]
    assert all(any(text is chosen for chosen in batch) for text in alike)  # texts without padding are all there


def test_each_worker_runs_a_batch_of_its_own() -> None:
    entered = threading.Barrier(2)  # breaks after a while unless both wait at the same time

    def compute(batch: Sequence[Sequence[int]]) -> np.ndarray:
        entered.wait(SECONDS)
        return np.zeros((len(batch), 2))

    answers = compute_all(Batcher(compute, max_batch_tokens=1, workers=2), [[[1], [2]], [[3], [4]]])
    assert [answer.shape for answer in answers] == [(2, 2), (2, 2)]


@pytest.fixture(scope="module")
def backend(tiny_classifier: Any) -> TorchBackend:
    return TorchBackend(load_checkpoint(str(tiny_classifier)), "fp32")


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(st.lists(st.integers(5, 25), min_size=1, max_size=14), min_size=1, max_size=5), min_size=1, max_size=8
    ),
    st.sampled_from([16, 64, 1024]),
)
def test_logits_do_not_depend_on_the_batch(
    backend: TorchBackend, requests: list[list[list[int]]], max_batch_tokens: int
) -> None:
    with_ends = [[[2, *ids, 3] for ids in request] for request in requests]
    answers = compute_all(Batcher(backend.compute_logits, max_batch_tokens), with_ends)
    for request, answer in zip(with_ends, answers, strict=True):
        alone = np.concatenate([backend.compute_logits([ids]) for ids in request])
        np.testing.assert_allclose(answer, alone, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(5, 12), min_size=30, max_size=60),
    st.lists(LENGTHS, min_size=1, max_size=3),
    st.integers(8, 24),
)
def test_a_small_request_ends_before_a_huge_one_that_came_first(
    huge_lengths: list[int], small_lengths: list[int], max_batch_tokens: int
) -> None:
    model = Model()
    batcher = Batcher(model, max_batch_tokens)
    huge, small = number_texts([huge_lengths, small_lengths])

    async def work() -> None:
        tasks = [await enter(batcher, model)]
        tasks += [await start_waiting(batcher, request) for request in (huge, small)]
        model.is_open.set()
        await asyncio.gather(*tasks)

    run_with(batcher, work)
    last_of_huge, last_of_small = [
        max(number for number, batch in enumerate(model.runs) if any(ids in request for ids in batch))
        for request in (huge, small)
    ]
    assert last_of_small < last_of_huge


def test_a_small_request_waits_for_one_batch_at_most() -> None:
    model = Model()
    batcher = Batcher(model, max_batch_tokens=10)
    huge, small = number_texts([[5] * 100, [5]])

    async def work() -> None:
        loop, is_admitted = asyncio.get_running_loop(), threading.Event()
        tasks = [asyncio.create_task(batcher.compute(huge))]

        async def send_small() -> None:
            tasks.append(await start_waiting(batcher, small))
            is_admitted.set()

        def send_in_20th_batch() -> None:
            if len(model.runs) == 20:
                asyncio.run_coroutine_threadsafe(send_small(), loop)
                assert is_admitted.wait(SECONDS)

        model.on_batch = send_in_20th_batch
        await tasks[0]
        await tasks[1]

    run_with(batcher, work)
    batches_before = [number for number, batch in enumerate(model.runs, start=1) if batch[0][0] < 100]
    place = next(number for number, batch in enumerate(model.runs, start=1) if small[0] in batch)
    assert 21 <= place <= 22
    assert len(batches_before) >= 50


def test_a_huge_request_is_not_starved_by_small_ones() -> None:
    model = Model()
    batcher = Batcher(model, max_batch_tokens=10)
    huge = [[1] * 10] * 50  # 500 tokens
    small_ones: list[asyncio.Task[np.ndarray]] = []

    async def work() -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(batcher.compute(huge))

        async def send_small() -> None:
            small_ones.append(await start_waiting(batcher, [[2] * 10]))

        def send_in_each_batch() -> None:
            if len(model.runs) < 300:
                asyncio.run_coroutine_threadsafe(send_small(), loop).result(SECONDS)

        model.on_batch = send_in_each_batch  # a small one is queued at the end of each batch
        await task
        batches = len(model.runs)
        await asyncio.gather(*small_ones)
        return batches

    # 50 of its own, as many of small ones, and some until the event loop resolves the future.
    assert run_with(batcher, work) <= 110


def test_an_idle_model_runs_a_request_at_once() -> None:
    batcher = Batcher(Model())

    async def work() -> float:
        taken = []
        for _ in range(100):
            started = time.perf_counter()
            await batcher.compute([[1, 2, 3]])
            taken.append(time.perf_counter() - started)
        return min(taken)  # other load makes it longer; a fixed wait would bound it from below

    assert run_with(batcher, work) < 0.004


def test_texts_queued_while_the_model_is_busy_are_one_batch() -> None:
    model = Model()
    batcher = Batcher(model)

    async def work() -> None:
        tasks = [await enter(batcher, model)]
        tasks += [await start_waiting(batcher, [[number] * 4]) for number in range(10)]
        model.is_open.set()
        await asyncio.gather(*tasks)

    run_with(batcher, work)
    assert [len(batch) for batch in model.runs] == [1, 10]


@settings(deadline=None, max_examples=50)
@given(REQUESTS, st.data())
def test_a_failing_text_fails_its_own_request_only(lengths: list[list[int]], data: st.DataObject) -> None:
    requests = number_texts(lengths)
    texts = [ids[0] for request in requests for ids in request]
    model = Model(failing=set(data.draw(st.sets(st.sampled_from(texts), max_size=3))))
    for request, answer in zip(requests, compute_all(Batcher(model, 24), requests), strict=True):
        if any(ids[0] in model.failing for ids in request):
            assert isinstance(answer, ModelError)
        else:
            assert answer.tolist() == [[ids[0], len(ids)] for ids in request]


@settings(deadline=None, max_examples=50)
@given(REQUESTS, st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.data())
def test_logits_that_are_not_finite_fail_their_own_request_only(
    lengths: list[list[int]], value: float, data: st.DataObject
) -> None:
    requests = number_texts(lengths)
    texts = [ids[0] for request in requests for ids in request]
    model = Model(not_finite=dict.fromkeys(data.draw(st.sets(st.sampled_from(texts), max_size=3)), value))
    for request, answer in zip(requests, compute_all(Batcher(model, 24), requests), strict=True):
        if any(ids[0] in model.not_finite for ids in request):
            assert isinstance(answer, ModelError)
            assert "not a finite number" in str(answer)
        else:
            assert np.isfinite(answer).all()
    assert len(set(model.run_texts)) == len(model.run_texts)  # no second run, which would give the same


def test_the_log_of_a_failure_holds_no_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        (answer,) = compute_all(Batcher(Model(failing={0})), [[[0] * 7]])
    assert isinstance(answer, ModelError)
    assert "secret" not in caplog.text + str(answer)
    assert "the model failed on a text of 7 tokens: ValueError" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_model_continues_after_a_failure() -> None:
    batcher = Batcher(Model(failing={0}))

    async def work() -> np.ndarray:
        with pytest.raises(ModelError):
            await batcher.compute([[0]])
        return await batcher.compute([[1]])

    assert run_with(batcher, work).tolist() == [[1, 1]]


def test_a_wrong_number_of_logits_is_a_failure() -> None:
    (answer,) = compute_all(Batcher(lambda _: np.zeros((3, 2))), [[[1], [2]]])
    assert isinstance(answer, ModelError)


def test_texts_of_a_cancelled_call_are_not_run() -> None:
    model = Model()
    batcher = Batcher(model)

    async def work() -> None:
        first = await enter(batcher, model)
        leaving, staying = [await start_waiting(batcher, [[number] * 3] * 2) for number in (1, 2)]
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        model.is_open.set()
        await asyncio.gather(first, staying)

    run_with(batcher, work)
    assert model.run_texts == [9999, 2, 2]


def test_the_rest_of_a_request_cancelled_while_running_is_not_run() -> None:
    model = Model()
    batcher = Batcher(model, max_batch_tokens=6)

    async def work() -> None:
        model.is_open.clear()
        huge = await start_waiting(batcher, [[1] * 3] * 20)
        assert await asyncio.to_thread(model.is_entered.wait, SECONDS)
        huge.cancel()
        await asyncio.sleep(0)
        model.is_open.set()
        assert (await batcher.compute([[2]])).tolist() == [[2, 1]]

    run_with(batcher, work)
    assert model.run_texts == [1, 1, 2]


def test_the_rest_of_a_request_that_has_failed_is_not_run() -> None:
    model, is_in_next = Model(failing={0}), threading.Event()
    batcher = Batcher(model, max_batch_tokens=3)

    async def work() -> None:
        loop = asyncio.get_running_loop()

        def hold_up_loop() -> None:  # so that it learns of the failure too late to cancel the rest
            if len(model.runs) == 1:
                loop.call_soon_threadsafe(is_in_next.wait, 0.2)
            else:
                is_in_next.set()

        model.on_batch = hold_up_loop
        with pytest.raises(ModelError):
            await batcher.compute([[number] * 3 for number in range(20)])

    run_with(batcher, work)
    assert model.run_texts == [0]


def test_texts_past_their_timeout_are_not_run() -> None:
    model = Model()
    batcher = Batcher(model)

    async def work() -> None:
        first = await enter(batcher, model)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.compute([[1]]), 0.01)
        model.is_open.set()
        await first

    run_with(batcher, work)
    assert model.run_texts == [9999]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(LENGTHS, min_size=1, max_size=6), min_size=1, max_size=20), st.integers(1, 60))
def test_the_queue_is_bounded(lengths: list[list[int]], max_waiting_tokens: int) -> None:
    model, requests = Model(), number_texts(lengths)
    batcher = Batcher(model, max_waiting_tokens=max_waiting_tokens)
    waiting = 0  # expected tokens in the queue

    async def work() -> list[Any]:
        nonlocal waiting
        tasks = [await enter(batcher, model)]
        for request in requests:
            tokens = sum(map(len, request))
            tasks.append(await start_waiting(batcher, request))
            is_refused = tasks[-1].done()
            weight = min(tokens, max(1, max_waiting_tokens // 4))  # large requests count for less
            assert is_refused == (waiting + weight > max_waiting_tokens)
            waiting += 0 if is_refused else weight
            assert batcher.waiting_tokens == waiting
        model.is_open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    _, *answers = run_with(batcher, work)
    assert batcher.waiting_tokens == 0
    answered = [
        ids[0]
        for request, answer in zip(requests, answers, strict=True)
        for ids in request
        if not isinstance(answer, OverloadError)
    ]
    assert sorted(model.run_texts) == [*answered, 9999]


def test_cancelled_texts_make_room_in_the_queue() -> None:
    model = Model()
    batcher = Batcher(model, max_waiting_tokens=1)

    async def work() -> None:
        first = await enter(batcher, model)
        leaving = await start_waiting(batcher, [[1] * 8])
        with pytest.raises(OverloadError):
            await batcher.compute([[2] * 8])
        leaving.cancel()
        await asyncio.sleep(0)
        staying = await start_waiting(batcher, [[3] * 8])
        model.is_open.set()
        assert (await staying).tolist() == [[3, 8]]
        await first

    run_with(batcher, work)


def test_a_large_request_leaves_room_in_the_queue() -> None:
    model = Model()
    batcher = Batcher(model, max_waiting_tokens=40)

    async def work() -> None:
        tasks = [await enter(batcher, model)]
        tasks += [await start_waiting(batcher, [[1] * 10] * 100) for _ in range(2)]
        assert not batcher.is_full
        tasks += [await start_waiting(batcher, [[2] * 5]) for _ in range(4)]
        assert batcher.is_full
        with pytest.raises(OverloadError):
            await batcher.compute([[3]])
        model.is_open.set()
        await asyncio.gather(*tasks)

    run_with(batcher, work)
    assert batcher.waiting_tokens == 0


@pytest.mark.parametrize("seed", range(6))
def test_several_workers_with_failing_texts_and_cancelled_callers(seed: int) -> None:
    chance = random.Random(seed)
    failing = set(chance.sample(range(1200), 12))

    def compute(batch: Sequence[Sequence[int]]) -> np.ndarray:
        time.sleep(chance.random() * 0.001)
        return Model(failing=failing)(batch)

    batcher = Batcher(compute, chance.choice([8, 30, 100]), max_waiting_tokens=10**9, workers=chance.choice([2, 3, 4]))
    requests = number_texts([[chance.randint(1, 12) for _ in range(chance.randint(1, 12))] for _ in range(100)])

    async def work() -> list[asyncio.Task[np.ndarray]]:
        batcher.start()
        tasks = []
        for request in requests:
            tasks.append(asyncio.create_task(batcher.compute(request)))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.002)
            if chance.random() < 0.1:
                chance.choice(tasks).cancel()
        await asyncio.sleep(0)
        await asyncio.wait_for(batcher.stop(), SECONDS)
        await asyncio.wait(tasks, timeout=SECONDS)
        return tasks

    for request, task in zip(requests, asyncio.run(work()), strict=True):
        assert task.done()
        if task.cancelled():
            continue
        if any(ids[0] in failing for ids in request):
            assert isinstance(task.exception(), ModelError)
        else:
            assert task.result().tolist() == [[ids[0], len(ids)] for ids in request]
    assert batcher.waiting_tokens == 0


def test_stop_answers_queued_texts_and_joins_the_threads() -> None:
    model = Model()
    batcher = Batcher(model, max_batch_tokens=4, workers=2)

    async def work() -> None:
        batcher.start()
        tasks = [await enter(batcher, model)]
        tasks += [await start_waiting(batcher, [[number] * 3] * 3) for number in range(5)]
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        model.is_open.set()
        await stopping
        assert all(task.done() for task in tasks)
        assert [task.result().shape for task in tasks] == [(1, 2)] + [(3, 2)] * 5

    asyncio.run(work())
    assert len(batcher._threads) == 2
    assert not any(thread.is_alive() for thread in batcher._threads)
