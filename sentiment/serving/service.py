"""The models of a service, each with its batcher, and their Prometheus metrics."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from sentiment.data.labels import align_labels, shorten
from sentiment.environment import count_threads
from sentiment.exceptions import InputError, require
from sentiment.inference.backends import Backend, load_backend
from sentiment.inference.batching import check_finite
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.inference.predictor import Predictor
from sentiment.models.model_folder import find_model_folder
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.batcher import Batcher
from sentiment.serving.worker_processes import TorchWorkerPool

# Texts up to this length are cleaned and tokenized in the event loop; longer ones in a thread, so as not to block it.
INLINE_CHARACTERS = 2_000
# Upper bounds of batches in parallel. Two batches with one thread each gave 20 to 30% more texts/s than one with two
# threads (2 cores, batches of 8 to 32 sentences, torch in bf16 and ONNX Runtime in int8). With torch, each is a process
# with its own copy of the model.
MAX_WORKERS = {"torch": 4, "onnx": 16}
# A GPU computes a large batch in the time of a small one.
GPU_BATCH_TOKENS, CPU_BATCH_TOKENS = 8192, 256
WARM_UP_TEXT = "warm-up"
EXAMPLES, EXAMPLE_CHARACTERS = 4, (20, 200)
# Histogram buckets of /metrics.
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)
Result = TypeVar("Result")


async def run_in_thread_if_long(texts: Sequence[str], function: Callable[[Sequence[str]], Result]) -> Result:
    """The result of the function for the texts, computed in a thread if they are long."""
    if sum(map(len, texts)) <= INLINE_CHARACTERS:
        return function(texts)
    return await asyncio.to_thread(function, texts)


class ServiceMetrics:
    """Metrics of requests, batches and answers, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("sentiment_requests", "Requests.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "sentiment_request_seconds", "Time to answer.", ["path"], registry=registry, buckets=SECONDS
        )
        self.answers = Counter("sentiment_answers", "Classified texts.", ["label"], registry=registry)
        self.texts = Histogram("sentiment_batch_texts", "Texts per batch.", ["model"], registry=registry, buckets=TEXTS)
        self.tokens = Counter("sentiment_batch_tokens", "Tokens with padding.", ["model"], registry=registry)
        self.waiting_tokens = Gauge("sentiment_waiting_tokens", "Queued tokens.", ["model"], registry=registry)

    def observe_batch(self, model: str, texts: int, tokens: int) -> None:
        """Count a batch of a model by its texts and its tokens."""
        self.texts.labels(model).observe(texts)
        self.tokens.labels(model).inc(tokens)


class Outputs(NamedTuple):
    """What a model answers to some texts: logits, shape (texts, classes), and which texts were truncated."""

    logits: np.ndarray
    truncated: list[bool]


@dataclass
class ServedModel:
    """A predictor whose model runs in a batcher.

    `name` is the folder as given by the user. `label_order` holds the numbers of its classes in the order of the
    service's labels, which for a second model may be another than its own.
    """

    name: str
    predictor: Predictor
    batcher: Batcher
    label_order: list[int]

    async def compute_outputs(self, texts: Sequence[str]) -> Outputs:
        """Logits of raw texts, in the order of texts and labels, and which were truncated.

        Raises as `Batcher.compute`.
        """
        encode = self.predictor.checkpoint.encode_with_truncation
        input_ids, truncated = await run_in_thread_if_long(texts, encode)
        if not input_ids:
            return Outputs(np.empty((0, len(self.label_order))), [])
        logits = await self.batcher.compute(input_ids)
        return Outputs(logits[:, self.label_order] / self.predictor.checkpoint.temperature, truncated)


@dataclass
class Service:
    """One model, or two to compare, and texts to try; `is_ready` from start to shutdown."""

    args: ServingArguments
    models: list[ServedModel]
    metrics: ServiceMetrics
    examples: list[str] = field(default_factory=list)
    is_ready: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the numbers in answers."""
        return self.models[0].predictor.checkpoint.labels

    def is_full(self, path: str) -> bool:
        """Whether the queue of a model behind this path is almost full."""
        models = self.models if path == "/query" else self.models[:1]
        return any(model.batcher.is_full for model in models)

    async def start(self) -> None:
        """Start the batchers, and run each model once, since the first batch is slow."""
        for model in self.models:
            model.batcher.start()
            await model.compute_outputs([WARM_UP_TEXT])
        self.is_ready = True

    async def stop(self) -> None:
        """Stop the batchers, once all queued texts are answered."""
        self.is_ready = False
        for model in self.models:
            await model.batcher.stop()

    async def compute_outputs(self, texts: Sequence[str]) -> list[Outputs]:
        """The outputs of each model; raises as `ServedModel.compute_outputs`."""
        if len(self.models) == 1:
            return [await self.models[0].compute_outputs(texts)]
        return await asyncio.gather(*(model.compute_outputs(texts) for model in self.models))


def load_service(args: ServingArguments, in_processes: bool = True) -> Service:
    """The service, not started yet; torch runs in worker processes, or else in threads of this process.

    Raises InputError if a model cannot be loaded, or answers with NaN, if two models have other classes, or if the
    examples asked for cannot be read.
    """
    metrics = ServiceMetrics()
    paths = [args.model] if args.compare_with is None else [args.model, args.compare_with]
    threads = count_threads() // len(paths)
    examples = choose_examples(args.model) if args.examples else []
    models = [load_model(path, args, threads, metrics, in_processes) for path in paths]
    service = Service(args, models, metrics, examples)
    for other in service.models[1:]:
        other.label_order = order_labels(service.models[0], other)
    for label in service.labels:
        metrics.answers.labels(label)  # 0 until the first answer, as Prometheus needs for a rate
    return service


def choose_examples(model: str) -> list[str]:
    """Up to `EXAMPLES` short test texts of a model's run that it labels correctly, of each label in turn.

    Raises InputError if there are none.
    """
    try:
        from sentiment.runs.results import read_predictions
    except ModuleNotFoundError as error:
        raise InputError(f"--examples needs {error.name}: install it, or omit --examples") from error
    path = find_model_folder(model).parent / "predictions.parquet"
    require(path.is_file(), f"--examples: {model} has no {path.name}: pass the folder of a run, or omit --examples")
    predictions = read_predictions(path)
    by_label: dict[Any, list[str]] = {}
    for text, label, predicted in zip(*(predictions[name] for name in ("text", "label", "predicted")), strict=True):
        if label == predicted and EXAMPLE_CHARACTERS[0] <= len(text) <= EXAMPLE_CHARACTERS[1]:
            by_label.setdefault(label, []).append(text)
    in_turn = chain.from_iterable(zip_longest(*(by_label[label] for label in sorted(by_label))))
    examples = [*islice(filter(None, in_turn), EXAMPLES)]
    shortest, longest = EXAMPLE_CHARACTERS
    problem = f"--examples: {path} has no text of {shortest} to {longest} characters that is labelled correctly"
    require(bool(examples), f"{problem}: omit --examples")
    return examples


def order_labels(model: ServedModel, other: ServedModel) -> list[int]:
    """The numbers of the other model's classes in the order of the model's; raises InputError if they differ."""
    labels, others = model.predictor.checkpoint.labels, other.predictor.checkpoint.labels
    own, its = (shorten(", ".join(names), 200) for names in (labels, others))
    is_same = {label.strip().casefold() for label in labels} == {label.strip().casefold() for label in others}
    problem = f"--compare-with {other.name}: its classes are {its}, and those of {model.name} are {own}"
    require(is_same and len(labels) == len(others), f"{problem}: only models of the same classes can be compared")
    return align_labels(labels, others, model.name, other.name)


def load_model(
    path: str, args: ServingArguments, threads: int, metrics: ServiceMetrics, in_processes: bool
) -> ServedModel:
    """A model of the service, with its batcher."""
    workers, threads_per_worker = split_threads(threads, args.backend, args.workers)
    checkpoint = load_checkpoint(path)
    backend: Backend
    if in_processes and args.backend == "torch":
        backend = TorchWorkerPool(checkpoint, args.precision, threads_per_worker, workers)
    else:
        backend = load_backend(checkpoint, args.backend, args.precision, threads_per_worker)
    check_finite(backend.compute_logits(checkpoint.encode([WARM_UP_TEXT])), f"the model in {path}")
    on_gpu = backend.device == "cuda"
    batcher = Batcher(
        backend.compute_logits,
        args.max_batch_tokens or (GPU_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS),
        args.max_waiting_tokens,
        workers=1 if on_gpu else workers,
    )
    batcher.observe_batch = partial(metrics.observe_batch, path)
    metrics.waiting_tokens.labels(path).set_function(lambda: batcher.waiting_tokens)
    return ServedModel(path, Predictor(checkpoint, backend), batcher, [*range(len(checkpoint.labels))])


def split_threads(threads: int, backend: str, workers: int | None = None) -> tuple[int, int]:
    """Number of workers, and threads for each, that share the threads of a model.

    >>> split_threads(16, "torch")
    (4, 4)
    """
    threads = max(1, threads)
    workers = workers or min(MAX_WORKERS[backend], threads)
    # With ONNX Runtime each worker is a thread of its own, and the workers share the others.
    return workers, max(1, threads // workers if backend == "torch" else threads - workers + 1)
