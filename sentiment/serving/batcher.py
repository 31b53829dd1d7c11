"""Dynamic batching: texts of concurrent requests run together, as soon as a worker is free."""

import asyncio
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sentiment.inference.batching import ComputeLogits

# Padding tokens that a text may add to a batch: with more, a batch of its own takes less time.
MAX_PADDING = 16
# Share of the queue above which requests are refused before they are parsed, since a full service has no time to spare.
ALMOST_FULL = 0.95
logger = logging.getLogger(__name__)


class OverloadError(Exception):
    """The queue is full."""


class BackendError(Exception):
    """An error in a worker process, by its type; its message holds nothing of a text."""


class ModelError(Exception):
    """The model raised an error for a text, or its logits are not finite."""


@dataclass(eq=False)
class Request:
    """The texts of one call of `Batcher.compute`: their logits, and the future of the caller."""

    logits: list[np.ndarray | None]
    future: asyncio.Future[np.ndarray]
    error: str | None = None

    @property
    def is_pending(self) -> bool:
        """Whether the caller still waits, and no text has failed."""
        return self.error is None and not self.future.done()

    def settle(self) -> None:
        """Resolve the future if all texts are done or one has failed; runs in the event loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(ModelError(self.error))
        elif all(row is not None for row in self.logits):
            self.future.set_result(np.stack(self.logits))  # type: ignore[arg-type]


@dataclass(eq=False)
class Text:
    """A queued text: token ids, position in its request, and start tag, which orders the queue."""

    input_ids: Sequence[int]
    request: Request
    position: int
    start_tag: int

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass
class Batcher:
    """Worker threads that run a model, and the queue of texts before them.

    A batch is the first text of the queue and those nearest to it in length, and never waits for more. The queue is
    ordered by start-time fair queueing (Goyal et al. 1996), so that long requests share the model with short ones: a
    text's start tag is the number of tokens processed when its request arrived, plus those before it in its request.
    Call `start` in the event loop that calls `compute`, and `stop` at the end.

    Args:
        compute_logits: runs the model on a batch; called in the worker threads, in parallel.
        max_batch_tokens: tokens of a batch, padding included; a single text may have more.
        max_waiting_tokens: tokens in the queue. One request counts for a quarter of them at most, which leaves room.
        observe_batch: receives the texts and padded tokens of each batch; called in the worker threads.
        workers: number of threads, each with a batch of its own.
    """

    compute_logits: ComputeLogits
    max_batch_tokens: int = 256
    max_waiting_tokens: int = 8192
    observe_batch: Callable[[int, int], None] | None = None
    workers: int = 1
    waiting_tokens: int = field(default=0, init=False)
    _processed_tokens: int = field(default=0, init=False)
    _queue: list[Text] = field(default_factory=list, init=False)  # by start tag
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _is_stopping: bool = field(default=False, init=False)

    @property
    def is_full(self) -> bool:
        """Whether the queue is almost full."""
        return self.waiting_tokens > ALMOST_FULL * self.max_waiting_tokens

    def start(self) -> None:
        """Start the worker threads."""
        self._loop = asyncio.get_running_loop()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.workers)]
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Join the worker threads, once all queued texts are answered."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def compute(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of the texts, in order; shape (texts, labels). Queued texts of a cancelled call are not run.

        Raises:
            OverloadError: the queue is full, and none of the texts is run.
            ModelError: the model failed on one of the texts.
        """
        request = Request([None] * len(input_ids), self._loop.create_future())
        *offsets, tokens = itertools.accumulate(map(len, input_ids), initial=0)
        with self._changed:
            weight = self._weigh(tokens)
            if self.waiting_tokens + weight > self.max_waiting_tokens:
                self._set_queue(text for text in self._queue if text.request.is_pending)
                if self.waiting_tokens + weight > self.max_waiting_tokens:
                    raise OverloadError
            for position, ids in enumerate(input_ids):
                self._queue.append(Text(ids, request, position, self._processed_tokens + offsets[position]))
            self._queue.sort(key=lambda text: text.start_tag)
            self.waiting_tokens += weight
            self._changed.notify(len(input_ids))
        return await request.future

    def _set_queue(self, texts: Iterable[Text]) -> None:
        self._queue = list(texts)
        tokens: Counter[Request] = Counter()
        for text in self._queue:
            tokens[text.request] += len(text)
        self.waiting_tokens = sum(map(self._weigh, tokens.values()))

    def _weigh(self, tokens: int) -> int:
        """What the tokens of one request count for in the queue."""
        return min(tokens, max(1, self.max_waiting_tokens // 4))

    def _work(self) -> None:
        while batch := self._take_batch():
            self._run(batch)
            for request in {text.request for text in batch}:
                self._loop.call_soon_threadsafe(request.settle)

    def _take_batch(self) -> list[Text]:
        """Wait for a batch; empty when the thread is to end."""
        with self._changed:
            while True:
                pending = [text for text in self._queue if text.request.is_pending]
                batch = choose_batch(pending, self.max_batch_tokens)
                taken = set(batch)
                self._set_queue(text for text in pending if text not in taken)
                self._processed_tokens += sum(map(len, batch))
                if batch or self._is_stopping:
                    return batch
                self._changed.wait()

    def _run(self, batch: Sequence[Text]) -> None:
        """Store logits or an error in the request of each text; if the batch fails, run its texts one by one."""
        try:
            logits = self.compute_logits([text.input_ids for text in batch])
            rows = list(zip(batch, logits, strict=True))
        except Exception as error:
            if len(batch) == 1:  # the messages of other errors may hold a user's text
                error_type = str(error) if isinstance(error, BackendError) else type(error).__name__
                logger.error("the model failed on a text of %d tokens: %s", len(batch[0]), error_type)
                batch[0].request.error = "the model failed on one of the texts"
                return
            for text in batch:
                if text.request.is_pending:
                    self._run([text])
            return
        if self.observe_batch is not None:
            self.observe_batch(len(batch), len(batch) * max(map(len, batch)))
        for text, row in rows:
            if np.isfinite(row).all():
                text.request.logits[text.position] = row
            else:
                text.request.error = "the model's answer is not a finite number: its weights are damaged"


def choose_batch(queue: Sequence[Text], max_tokens: int, max_padding: int = MAX_PADDING) -> list[Text]:
    """The first text and those nearest to it in length, up to `max_tokens` with padding.

    Texts that would add more padding than `max_padding` are left for other batches.
    """
    if not queue:
        return []
    first = len(queue[0])
    batch, longest = [queue[0]], first
    for text in sorted(queue[1:], key=lambda text: abs(len(text) - first)):  # stable: older ones first among equals
        new_longest = max(longest, len(text))
        if new_longest * (len(batch) + 1) > max_tokens:
            break
        if (new_longest - longest) * len(batch) + new_longest - len(text) <= max_padding:
            longest = new_longest
            batch.append(text)
    return batch
