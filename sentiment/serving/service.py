"""The models that are served, each with its batcher: texts in, probabilities out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from sentiment.environment import count_threads
from sentiment.exceptions import require
from sentiment.inference.checkpoint import read_checkpoint
from sentiment.inference.predictor import Backend, SentimentPredictor, load_backend
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.batcher import Batcher
from sentiment.serving.metrics import ServiceMetrics
from sentiment.serving.worker_processes import TorchWorkerPool

# What is cleaned and tokenized at once in the event loop; more goes to a thread, so that others do not wait for it.
INLINE_CHARACTERS = 2_000
# Batches that run at a time, each on its share of the cores. Two of one thread each did 20 to 30% more than one of two
# threads (2 cores; batches of 8 to 32 sentences; bf16 with torch, int8 with ONNX Runtime). Each of torch's is a process
# that holds the model.
MAX_WORKERS = {"torch": 4, "onnx": 16}
# A GPU computes a large batch in the time of a small one.
GPU_BATCH_TOKENS, CPU_BATCH_TOKENS = 8192, 256
Result = TypeVar("Result")


async def run_in_thread_if_long(texts: Sequence[str], function: Callable[[Sequence[str]], Result]) -> Result:
    """What the function gives for the texts; where they are long it runs in a thread."""
    if sum(map(len, texts)) <= INLINE_CHARACTERS:
        return function(texts)
    return await asyncio.to_thread(function, texts)


@dataclass
class ServedModel:
    """A predictor whose model runs in a batcher's thread; `name` is the folder that the user gave."""

    name: str
    predictor: SentimentPredictor
    batcher: Batcher

    async def compute_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of raw texts, in order; shape (texts, 2).

        Raises:
            OverloadError: too much waits already.
            ModelError: the model failed on one of the texts.
        """
        input_ids = await run_in_thread_if_long(texts, self.predictor.checkpoint.prepare)
        return await self.batcher.compute(input_ids)


@dataclass
class Service:
    """One model, or two to compare, and whether new requests should come here."""

    args: ServingArguments
    models: list[ServedModel]
    metrics: ServiceMetrics
    is_ready: bool = field(default=False)

    def is_full(self, path: str) -> bool:
        """Whether a model that answers there has nearly as much waiting as may wait."""
        models = self.models if path == "/query" else self.models[:1]
        return any(model.batcher.is_full for model in models)

    async def start(self) -> None:
        """Starts the models' threads, and runs each model once: the first call is slower than others."""
        for model in self.models:
            model.batcher.start()
            await model.compute_logits(["ready"])
        self.is_ready = True

    async def stop(self) -> None:
        """Ends the threads, once all that waits is answered."""
        self.is_ready = False
        for model in self.models:
            await model.batcher.stop()

    async def compute_logits(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Logits from each model; of shape (texts, 2) each.

        Raises:
            OverloadError: too much waits already for one of the models.
            ModelError: one of them failed on one of the texts.
        """
        if len(self.models) == 1:
            return [await self.models[0].compute_logits(texts)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(model.compute_logits(texts)) for model in self.models]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]


def load_service(args: ServingArguments, in_processes: bool = True) -> Service:
    """The service that the options describe, not started yet.

    Args:
        args: the options.
        in_processes: whether torch computes in processes of its own; else in threads of this one.

    Raises:
        InputError: a model cannot be loaded, or answers with NaN.
    """
    metrics = ServiceMetrics()
    paths = [args.model] if args.compare_with is None else [args.model, args.compare_with]
    return Service(args, [load_model(path, args, metrics, in_processes) for path in paths], metrics)


def load_model(path: str, args: ServingArguments, metrics: ServiceMetrics, in_processes: bool) -> ServedModel:
    """One model of the service."""
    models = 1 if args.compare_with is None else 2
    workers, threads = split_threads(count_threads() // models, args.backend, args.workers)
    checkpoint = read_checkpoint(path)
    backend: Backend
    if in_processes and args.backend == "torch":
        backend = TorchWorkerPool(checkpoint, args.precision, threads, workers)
    else:
        backend = load_backend(checkpoint, args.backend, args.precision, threads)
    logits = backend.compute_logits(checkpoint.prepare(["ready"]))
    require(bool(np.isfinite(logits).all()), f"the model in {path} answers with NaN: its weights are damaged")
    on_gpu = backend.device == "cuda"
    batcher = Batcher(
        backend.compute_logits,
        args.max_batch_tokens or (GPU_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS),
        args.max_waiting_tokens,
        workers=1 if on_gpu else workers,
    )
    batcher.observe_batch = metrics.register_model(path, lambda: batcher.waiting_tokens)
    return ServedModel(path, SentimentPredictor(checkpoint, backend), batcher)


def split_threads(threads: int, backend: str, workers: int | None = None) -> tuple[int, int]:
    """How many batches run at a time, and how many of a model's threads each of them is given.

    >>> split_threads(16, "torch")
    (4, 4)
    """
    threads = max(1, threads)
    workers = workers or min(MAX_WORKERS[backend], threads)
    # ONNX Runtime's batches bring one thread each, and share the others.
    return workers, max(1, threads // workers if backend == "torch" else threads - workers + 1)
