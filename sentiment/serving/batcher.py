"""Texts of many requests, run together: as soon as the model is free, it takes the next batch."""

import asyncio
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# Computes logits, shape (texts, labels), for the token ids of some texts.
Compute = Callable[[Sequence[Sequence[int]]], np.ndarray]
# Tokens of padding that a text may bring into a batch: more take longer than a batch of its own.
MAX_PADDING = 16
# Of the tokens that may wait. A request that is refused at a glance costs little of the time that the model needs then.
FULL_SHARE = 0.95
logger = logging.getLogger(__name__)


class OverloadError(Exception):
    """As many texts are waiting as may wait."""


class BackendError(Exception):
    """The type of an error in another process: its message holds nothing of a text, and may be logged."""


class ModelError(Exception):
    """The model raised an error on a text, or answered it with something else than finite numbers."""


@dataclass(eq=False)
class Request:
    """Texts that came together, and the future that their logits are the result of."""

    logits: list[np.ndarray | None]
    answer: asyncio.Future[np.ndarray]
    failure: str | None = None
    is_abandoned: bool = False

    def settle(self) -> None:
        """Answers, if all texts are done or one has failed; runs in the event loop."""
        if self.answer.done():
            return
        if self.failure is not None:
            self.answer.set_exception(ModelError(self.failure))
        elif all(row is not None for row in self.logits):
            self.answer.set_result(np.stack(self.logits))  # type: ignore[arg-type]


@dataclass(eq=False)
class Text:
    """The token ids of one text, its place in its request, and its turn among all texts; the lowest is next."""

    input_ids: Sequence[int]
    request: Request
    position: int
    turn: int

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for its logits."""
        return not self.request.is_abandoned and self.request.failure is None

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass
class Batcher:
    """The threads that run a model, and the texts that wait for it.

    A batch is the text whose turn it is and those nearest to it in length, as many as `max_batch_tokens`, padding
    included, have room for. Nothing waits for a batch to fill. A text's turn comes when as many tokens are served as
    were when its request came, and as stand before it in its request: a long request shares the model with short
    ones (start-time fair queueing, Goyal et al. 1996). Call `start` in the event loop that will call `compute`, and
    `stop` in the end.

    Args:
        compute_logits: runs the model on a batch; called in the threads, several at once where there are several.
        max_batch_tokens: tokens of a batch, padding included; a single text may have more.
        max_waiting_tokens: tokens that may wait. One request counts for a quarter of them at most, so that a large one
            leaves room for others.
        observe_batch: told the texts and the padded tokens of each batch; called in the threads.
        workers: threads, each with a batch of its own.
    """

    compute_logits: Compute
    max_batch_tokens: int = 256
    max_waiting_tokens: int = 8192
    observe_batch: Callable[[int, int], None] | None = None
    workers: int = 1
    waiting_tokens: int = field(default=0, init=False)
    _served_tokens: int = field(default=0, init=False)
    _waiting: list[Text] = field(default_factory=list, init=False)  # by turn
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _is_stopping: bool = field(default=False, init=False)

    @property
    def is_full(self) -> bool:
        """Whether a request would most likely be refused."""
        return self.waiting_tokens > FULL_SHARE * self.max_waiting_tokens

    def start(self) -> None:
        """Starts the threads."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, name=f"model-{number}", daemon=True) for number in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Ends the threads, once every text that waits is answered."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def compute(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of the texts, in order; shape (texts, labels).

        Texts of a call that is cancelled are not run, if they still wait.

        Raises:
            OverloadError: too much waits already; none of the texts will be run.
            ModelError: the model failed on one of these texts.
        """
        request = Request([None] * len(input_ids), self._loop.create_future())
        self._admit(request, input_ids)
        try:
            return await request.answer
        finally:
            request.is_abandoned = True

    def _admit(self, request: Request, input_ids: Sequence[Sequence[int]]) -> None:
        *before, tokens = itertools.accumulate(map(len, input_ids), initial=0)
        with self._changed:
            weight = self._weigh(tokens)
            if self.waiting_tokens + weight > self.max_waiting_tokens:
                self._keep(text for text in self._waiting if text.is_wanted)
                if self.waiting_tokens + weight > self.max_waiting_tokens:
                    raise OverloadError
            for position, ids in enumerate(input_ids):
                self._waiting.append(Text(ids, request, position, self._served_tokens + before[position]))
            self._waiting.sort(key=lambda text: text.turn)
            self.waiting_tokens += weight
            self._changed.notify(len(input_ids))

    def _keep(self, texts: Iterable[Text]) -> None:
        self._waiting = list(texts)
        tokens: Counter[int] = Counter()
        for text in self._waiting:
            tokens[id(text.request)] += len(text)
        self.waiting_tokens = sum(map(self._weigh, tokens.values()))

    def _weigh(self, tokens: int) -> int:
        """What so many tokens of one request count for among those that wait."""
        return min(tokens, max(1, self.max_waiting_tokens // 4))

    def _work(self) -> None:
        while batch := self._take_batch():
            self._run(batch)
            requests = {id(text.request): text.request for text in batch}
            self._loop.call_soon_threadsafe(_settle, list(requests.values()))

    def _take_batch(self) -> list[Text]:
        """The next batch, as soon as there is one; empty where the thread is to end."""
        with self._changed:
            while True:
                wanted = [text for text in self._waiting if text.is_wanted]
                batch = choose_batch(wanted, self.max_batch_tokens)
                taken = set(batch)
                self._keep(text for text in wanted if text not in taken)
                self._served_tokens += sum(map(len, batch))
                if batch or self._is_stopping:
                    return batch
                self._changed.wait()

    def _run(self, batch: Sequence[Text]) -> None:
        """Leaves logits or a failure with the request of each text; one that fails is set apart from the others."""
        try:
            logits = self.compute_logits([text.input_ids for text in batch])
            answers = list(zip(batch, logits, strict=True))
        except Exception as error:
            if len(batch) > 1:
                for text in batch:
                    if text.is_wanted:
                        self._run([text])
            else:
                logger.error("the model failed on a text of %d tokens: %s", len(batch[0]), describe_error_type(error))
                batch[0].request.failure = "the model failed on one of the texts"
            return
        if self.observe_batch is not None:
            self.observe_batch(len(batch), len(batch) * max(map(len, batch)))
        for text, row in answers:
            if np.isfinite(row).all():
                text.request.logits[text.position] = row
            else:
                text.request.failure = "the model's answer is not a finite number: its weights are damaged"


def choose_batch(waiting: Sequence[Text], max_tokens: int, max_padding: int = MAX_PADDING) -> list[Text]:
    """The first text, and those nearest to it in length, as many as have room in `max_tokens`, padding included.

    A text that would bring more padding than `max_padding` is left for another batch.
    """
    if not waiting:
        return []
    first = len(waiting[0])
    batch, longest = [waiting[0]], first
    for text in sorted(waiting[1:], key=lambda text: abs(len(text) - first)):  # stable: the older of equals first
        longest_then = max(longest, len(text))
        if longest_then * (len(batch) + 1) > max_tokens:
            break
        if (longest_then - longest) * len(batch) + longest_then - len(text) <= max_padding:
            longest = longest_then
            batch.append(text)
    return batch


def describe_error_type(error: Exception) -> str:
    """What may be logged of an error: its message may hold a user's text."""
    return str(error) if isinstance(error, BackendError) else type(error).__name__


def _settle(requests: Iterable[Request]) -> None:
    for request in requests:
        request.settle()
