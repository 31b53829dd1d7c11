"""The routes that run a model, `/query`, `/predict` and `/explain`, called without a router."""

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from scipy.special import expit, softmax
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from sentiment.data.cleaning import is_blank
from sentiment.data.labels import UNCERTAIN
from sentiment.inference.batching import compute_probabilities
from sentiment.serving import schemas
from sentiment.serving.batcher import ModelError, OverloadError
from sentiment.serving.explanation import (
    build_occlusions,
    compute_word_weights,
    find_counterfactual,
    find_explained_words,
)
from sentiment.serving.service import Outputs, Service, run_in_thread_if_long

# Computes the outputs of one model for texts, or of several.
Compute = Callable[[Sequence[str]], Awaitable[Any]]
# After this time, a request is cancelled if its client disconnects. Most requests are answered before.
WATCH_SECONDS = 0.1
SURROGATE = re.compile("[\\ud800-\\udfff]")
BLANK = "is blank, or empty without its HTML tags"
FUNCTIONS: dict[str, Any] = {"softmax": partial(softmax, axis=-1), "sigmoid": expit, "none": np.asarray}


class Endpoint(NamedTuple):
    """What answers a path: from a body that is valid for the model, in content for JSON."""

    body: type[BaseModel]
    answer: Callable[[Any], Coroutine[Any, Any, Any]]


class ModelRoutes:
    """ASGI application that answers POST requests to the paths of a router, and leaves all others to `app`.

    `app` has the same routes, which document them. FastAPI and Starlette took more time for a request than the texts.
    """

    def __init__(self, app: ASGIApp, router: APIRouter, timeout: float):
        self._app, self._timeout = app, timeout
        self._endpoints: dict[str, Endpoint] = {}
        for route in router.routes:
            if isinstance(route, APIRoute):
                body = inspect.signature(route.endpoint).parameters["body"].annotation
                self._endpoints[route.path] = Endpoint(body, route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whose body is complete."""
        is_posted = scope["type"] == "http" and scope["method"] == "POST"
        # Starlette's routes take a path with a line break at its end too.
        endpoint = self._endpoints.get(scope["path"].removesuffix("\n")) if is_posted else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            body = read_body(endpoint.body, dict(scope["headers"]), (await receive())["body"])
            content = to_json(await run_in_time(endpoint.answer(body), receive, self._timeout))
        except HTTPException as error:
            await schemas.build_error_response(error)(scope, receive, send)
            return
        except Exception:
            await schemas.build_error_response(schemas.build_service_error())(scope, receive, send)
            raise
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def read_body(model: type[BaseModel], headers: dict[bytes, bytes], content: bytes) -> BaseModel:
    """The body of a request; raises HTTPException 400 or 415, with field and position, if it is not valid."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != schemas.JSON.encode():
        raise HTTPException(415, f"content-type: must be {schemas.JSON}")
    if not content:
        raise HTTPException(400, "the body: is missing")
    try:
        return model.model_validate(json.loads(content.decode()))
    except ValidationError as error:
        raise HTTPException(400, schemas.describe_validation_error(error.errors()[0])) from None
    except json.JSONDecodeError as error:
        raise HTTPException(400, f"the body: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, or nested too deeply
        raise HTTPException(400, "the body: not valid JSON in UTF-8") from None


async def run_in_time(work: Awaitable[Any], receive: Receive, timeout: float) -> Any:
    """What `work` returns; cancelled when the client disconnects or time runs out.

    Raises:
        HTTPException: as `work`, or 429 the queue is full, 500 the model failed, 503 timeout.
    """
    loop, watchers, is_closed = asyncio.get_running_loop(), [], False

    async def watch() -> None:
        nonlocal is_closed
        await receive()  # returns when the client disconnects
        if not limit.expired():
            is_closed = True
            limit.reschedule(loop.time())

    try:
        async with asyncio.timeout(timeout) as limit:
            timer = loop.call_later(WATCH_SECONDS, lambda: watchers.append(loop.create_task(watch())))
            try:
                return await work
            finally:
                timer.cancel()
                for watcher in watchers:
                    watcher.cancel()
    except TimeoutError:
        if not limit.expired():  # an error of the work
            raise
        if is_closed:
            raise HTTPException(schemas.CLIENT_CLOSED_REQUEST, "the client closed the connection") from None
        raise HTTPException(503, f"no answer within {timeout:g} s", {"retry-after": "1"}) from None
    except OverloadError:
        raise schemas.build_busy_error() from None
    except ModelError as error:
        raise HTTPException(500, str(error)) from None


def build_model_router(service: Service) -> APIRouter:
    """The routes that run the models of a service."""
    router = APIRouter()
    errors: dict[str, Any] = {"responses": schemas.describe_errors(400, 415, 429, 500, 503)}
    model, names = service.models[0], service.labels

    @router.post("/query", response_model=schemas.QueryResponse, response_model_exclude_none=True, **errors)
    async def query(body: schemas.QueryRequest) -> Any:
        """Classifies sentences."""
        texts = body.sentences
        has_text, outputs = await check_and_compute(service, texts, "sentences", service.compute_outputs, True)
        answer, *others = [
            build_answers(found, names, has_text, body.top_k, service.args.abstain_below) for found in outputs
        ]
        for label in compress(answer["labels"], has_text):
            service.metrics.answers.labels(label).inc()
        for other in others:
            pairs = enumerate(zip(answer["results"], other["results"], strict=True))
            answer |= {"compared": other, "disagreements": [position for position, (a, b) in pairs if a != b]}
        if not all(has_text):
            answer["reasons"] = [None if is_filled else BLANK for is_filled in has_text]
        return answer

    @router.post("/predict", response_model=list[list[schemas.LabelScore]], **errors)
    async def predict(body: schemas.PredictRequest) -> Any:
        """Classifies texts, in the format of Hugging Face's hosted text classification."""
        _, (logits, _) = await check_and_compute(service, body.inputs, "inputs", model.compute_outputs)
        function = (body.parameters and body.parameters.function_to_apply) or "softmax"
        top_k = (body.parameters and body.parameters.top_k) or len(names)
        ranked = [rank_labels(scores, names) for scores in FUNCTIONS[function](logits.astype(np.float64)).tolist()]
        for labels in ranked:
            service.metrics.answers.labels(labels[0]["label"]).inc()
        return [labels[:top_k] for labels in ranked]

    @router.post("/explain", response_model=schemas.ExplainResponse, **errors)
    async def explain(body: schemas.ExplainRequest) -> Any:
        """Classifies a sentence, weighs its words, and looks for a few without which the label is another one."""
        text = body.sentence
        places = find_explained_words(text)
        texts = [text, *build_occlusions(text, places)]
        _, outputs = await check_and_compute(service, [text], "sentence", lambda _: model.compute_outputs(texts))
        probabilities = compute_probabilities(outputs.logits)

        async def compute(variants: Sequence[str]) -> np.ndarray:
            return compute_probabilities((await model.compute_outputs(variants)).logits)

        weights = compute_word_weights(probabilities, len(places))
        weighed = [
            {"text": text[start:end], "weight": weight} for (start, end), weight in zip(places, weights, strict=True)
        ]
        found = await find_counterfactual(text, places, probabilities, compute)
        answer = rank_labels(probabilities[0].tolist(), names)[0] | {"words": weighed, "counterfactual": None}
        if found is not None:
            omitted, others = found
            answer["counterfactual"] = {"omitted": omitted} | rank_labels(others.tolist(), names)[0]
        return answer | ({"truncated": True} if outputs.truncated[0] else {})

    return router


async def check_and_compute(
    service: Service, texts: Sequence[str], field: str, compute: Compute, allows_blank: bool = False
) -> tuple[list[bool], Any]:
    """Which texts are not blank, and the result of `compute` for these.

    Raises HTTPException 400, with field and position, for too many or invalid texts, or blank ones if not allowed.
    """
    if len(texts) > (maximum := service.args.max_sentences):
        raise HTTPException(400, f"{field}: {len(texts):,} are too many: at most {maximum:,} per request")
    problems = await run_in_thread_if_long(texts, partial(find_problems, service))
    for position, problem in enumerate(problems):
        if problem and not (allows_blank and problem == BLANK):
            place = "" if field == "sentence" else f"[{position}]"
            raise HTTPException(400, f"{field}{place}: {problem}")
    has_text = [problem is None for problem in problems]
    return has_text, await compute([*compress(texts, has_text)])


def find_problems(service: Service, texts: Sequence[str]) -> list[str | None]:
    """What is wrong with each text; None for a valid one. A text that is blank for one model is so for all."""
    return [find_problem(service, text) for text in texts]


def find_problem(service: Service, text: str) -> str | None:
    """What is wrong with a text, in words that follow its name; None if it is valid."""
    if len(text) > (maximum := service.args.max_characters):
        return f"{len(text):,} characters are too many: at most {maximum:,}"
    if SURROGATE.search(text):
        return "holds a lone surrogate, which is not Unicode"
    blank = any(is_blank(model.predictor.checkpoint.clean(text)) for model in service.models)
    return BLANK if blank else None


def build_answers(
    outputs: Outputs,
    names: Sequence[str],
    has_text: Sequence[bool],
    top_k: int | None = None,
    abstain_below: float = 0.0,
) -> dict[str, Any]:
    """The answers for all texts from outputs for those that have text; None in the places of the others.

    The label of an answer with a lower score than `abstain_below` is `UNCERTAIN`, and its number None.
    """
    probabilities = compute_probabilities(outputs.logits)
    results = probabilities.argmax(axis=1).tolist()
    scores = probabilities.max(axis=1).tolist()
    is_sure = [score >= abstain_below for score in scores]
    answers = {
        "results": [result if sure else None for result, sure in zip(results, is_sure, strict=True)],
        "labels": [names[result] if sure else UNCERTAIN for result, sure in zip(results, is_sure, strict=True)],
        "scores": scores,
    }
    if top_k:
        answers["top"] = [rank_labels(row, names)[:top_k] for row in probabilities.tolist()]
    if not all(has_text):
        answers = {name: spread(values, has_text, None) for name, values in answers.items()}
    if any(outputs.truncated):
        answers["truncated"] = spread(outputs.truncated, has_text, False)
    return answers


def spread(values: Iterable[Any], has_text: Sequence[bool], missing: Any) -> list[Any]:
    """The values in the places of the texts that have text, and `missing` in the others.

    >>> spread([1, 0], [True, False, True], None)
    [1, None, 0]
    """
    remaining = iter(values)
    return [next(remaining) if is_filled else missing for is_filled in has_text]


def rank_labels(scores: Sequence[float], names: Sequence[str]) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    pairs = sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in pairs]
