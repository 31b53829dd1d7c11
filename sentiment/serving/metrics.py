"""What Prometheus is told of the service."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics:
    """Counters of requests, batches and answers, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter("sentiment_requests", "Requests.", ["path", "status"], registry=self.registry)
        self._seconds = Histogram(
            "sentiment_request_seconds",
            "From a request to its answer.",
            ["path"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self._answers = Counter("sentiment_answers", "Texts labelled.", ["label"], registry=self.registry)
        self._batch_texts = Histogram(
            "sentiment_batch_texts", "Texts of a batch.", ["model"], registry=self.registry, buckets=TEXTS
        )
        self._batch_tokens = Counter(
            "sentiment_batch_tokens", "Tokens that models ran on, padding included.", ["model"], registry=self.registry
        )
        self._waiting_tokens = Gauge(
            "sentiment_waiting_tokens", "Tokens that wait for a model.", ["model"], registry=self.registry
        )

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request; `path` is one of the service's own, so that their number is bounded."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def observe_answer(self, label: str) -> None:
        """Counts an answered text."""
        self._answers.labels(label).inc()

    def register_model(self, model: str, count_waiting_tokens: Callable[[], int]) -> Callable[[int, int], None]:
        """A function that counts a batch of this model by its texts and its tokens."""
        self._waiting_tokens.labels(model).set_function(count_waiting_tokens)
        texts_of_batch, tokens_of_batch = self._batch_texts.labels(model), self._batch_tokens.labels(model)

        def observe_batch(texts: int, tokens: int) -> None:
            texts_of_batch.observe(texts)
            tokens_of_batch.inc(tokens)

        return observe_batch

    def render(self) -> bytes:
        """The page at /metrics."""
        return generate_latest(self.registry)
