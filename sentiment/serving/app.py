"""The routes of the service."""

import asyncio
import json
import platform
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from scipy.special import expit, softmax

import sentiment
from sentiment.data.labels import LABEL_NAMES
from sentiment.inference.predictor import compute_probabilities
from sentiment.serving.batcher import ModelError, OverloadError
from sentiment.serving.errors import (
    CLIENT_GONE,
    JSON,
    BusyError,
    DocumentedApp,
    RefusedError,
    add_error_handlers,
    describe_errors,
)
from sentiment.serving.explanation import build_occlusions, compute_word_weights
from sentiment.serving.schemas import (
    BodyRoute,
    ExplainRequest,
    ExplainResponse,
    LabelScore,
    PredictRequest,
    QueryRequest,
    QueryResponse,
)
from sentiment.serving.service import Service, run_in_thread_if_long

Result = TypeVar("Result")
# A request that takes longer is watched: if its client goes, it is not run. Most are answered before.
WATCH_SECONDS = 0.1
SURROGATE = re.compile("[\\ud800-\\udfff]")
PAGE = resources.files("sentiment.serving") / "page"
SWAGGER_UI = resources.files("fastapi_offline") / "static"  # its scripts and style; not its code
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
VERSIONED = ("torch", "transformers", "tokenizers", "onnxruntime", "fastapi", "uvicorn")
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda logits: softmax(logits, axis=-1),
    "sigmoid": expit,
    "none": lambda logits: logits,
}


def build_app(service: Service) -> FastAPI:
    """The routes, which answer from this service."""
    app = DocumentedApp(
        title="sentiment",
        version=sentiment.__version__,
        description="Labels texts as negative or positive.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": "."}],  # wherever this document was found, also behind a proxy's prefix
        responses=describe_errors(401, 405, 408, 413),
    )
    add_models(app, service)
    add_health(app, service)
    add_pages(app)
    add_error_handlers(app)
    return app


def add_models(app: FastAPI, service: Service) -> None:
    """`/query`, `/predict` and `/explain`."""
    router = APIRouter(route_class=BodyRoute)
    of_texts: dict[str, Any] = {"responses": describe_errors(400, 415, 429, 500, 503)}

    @router.post("/query", response_model=QueryResponse, response_model_exclude_none=True, **of_texts)
    async def query(body: QueryRequest, request: Request) -> Response:
        """Labels sentences."""
        work = check_and_run(service, body.sentences, "sentences", service.compute_logits)
        logits = await answer_in_time(service, request, work)
        answers = [summarize_answers(rows) for rows in logits]
        for label in answers[0]["labels"]:
            service.metrics.observe_answer(label)
        found = answers[0]
        if len(answers) == 2:
            pairs = enumerate(zip(*(answer["results"] for answer in answers), strict=True))
            found |= {"compared": answers[1], "disagreements": [place for place, (a, b) in pairs if a != b]}
        return respond(found)

    @router.post("/predict", response_model=list[list[LabelScore]], **of_texts)
    async def predict(body: PredictRequest, request: Request) -> Response:
        """Classifies texts, in the form of Hugging Face's hosted text classification."""
        work = check_and_run(service, body.inputs, "inputs", service.models[0].compute_logits)
        logits = await answer_in_time(service, request, work)
        function = (body.parameters and body.parameters.function_to_apply) or "softmax"
        top_k = (body.parameters and body.parameters.top_k) or len(LABEL_NAMES)
        scores = FUNCTIONS[function](logits.astype(np.float64)).tolist()
        for row in scores:
            service.metrics.observe_answer(LABEL_NAMES[int(row[1] > row[0])])
        return respond([rank_labels(row)[:top_k] for row in scores])

    @router.post("/explain", response_model=ExplainResponse, **of_texts)
    async def explain(body: ExplainRequest, request: Request) -> Response:
        """Labels a sentence, and weighs its words: what the label's probability loses without each."""
        marking = build_occlusions(body.sentence)

        async def weigh(_: Sequence[str]) -> np.ndarray:
            return await service.models[0].compute_logits(marking.variants)

        work = check_and_run(service, [body.sentence], "sentence", weigh)
        logits = await answer_in_time(service, request, work)
        weights = compute_word_weights(marking, compute_probabilities(logits))
        answers = summarize_answers(logits[:1])
        words = [{"text": text, "weight": weight} for text, weight in zip(marking.words, weights, strict=True)]
        return respond({"label": answers["labels"][0], "score": answers["scores"][0], "words": words})

    app.include_router(router)


def add_health(app: FastAPI, service: Service) -> None:
    """`/health/live`, `/health/ready`, `/metrics` and `/info`."""

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "live"}

    @app.get("/health/ready", responses=describe_errors(503))
    async def ready() -> dict[str, str]:
        """Whether requests should be sent here."""
        if not service.is_ready:
            raise RefusedError(503, "the service is ending")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters, for Prometheus."""
        return Response(service.metrics.render(), media_type=service.metrics.content_type)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """What is served, within which limits."""
        return {
            "models": [
                {
                    "name": Path(model.name).name,
                    "backend": model.predictor.backend.name,
                    "precision": model.predictor.backend.precision,
                    "cleaning": model.predictor.checkpoint.cleaning,
                    "max_seq_length": model.predictor.checkpoint.max_seq_length,
                }
                for model in service.models
            ],
            "labels": list(LABEL_NAMES),
            "limits": {
                name: getattr(service.args, name)
                for name in ("max_sentences", "max_characters", "max_body_bytes", "timeout")
            },
            "versions": {"sentiment": sentiment.__version__, "python": platform.python_version()} | list_versions(),
        }


def add_pages(app: FastAPI) -> None:
    """The page at `/`, and the documentation at `/docs`."""
    for path, name, kind in (
        ("/", "page.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    ):
        app.add_api_route(path, build_page(name, kind), include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="sentiment",
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="docs/favicon.png",
        )

    app.mount("/docs", StaticFiles(directory=str(SWAGGER_UI)), name="docs")


def build_page(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    """A route for one of the page's files."""
    content = (PAGE / name).read_bytes()

    async def page() -> Response:
        return Response(content, media_type=kind, headers=PAGE_HEADERS)

    return page


async def check_and_run(
    service: Service, texts: Sequence[str], field: str, run: Callable[[Sequence[str]], Awaitable[Result]]
) -> Result:
    """What `run` gives for texts that can be answered.

    Raises:
        RefusedError: 400; names the field and the position.
    """
    await check_texts(service, texts, field)
    return await run(texts)


async def check_texts(service: Service, texts: Sequence[str], field: str) -> None:
    """Refuses texts that are too many, too long, or nothing once cleaned.

    Raises:
        RefusedError: 400; names the field and the position.
    """
    limits = service.args
    if len(texts) > limits.max_sentences:
        raise RefusedError(400, f"{field}: {len(texts):,} are too many: at most {limits.max_sentences:,} at a time")
    if found := await run_in_thread_if_long(texts, partial(find_fault, service)):
        position, fault = found
        place = field if field == "sentence" else f"{field}[{position}]"
        raise RefusedError(400, f"{place}: {fault}")


def find_fault(service: Service, texts: Sequence[str]) -> tuple[int, str] | None:
    """The position of the first text that cannot be answered, and why; None where all can."""
    most = service.args.max_characters
    for position, text in enumerate(texts):
        if len(text) > most:
            return position, f"{len(text):,} characters are too many: at most {most:,}"
        if SURROGATE.search(text):
            return position, "holds half of a surrogate pair, which is not Unicode"
        if not all(model.predictor.clean(text) for model in service.models):
            return position, "is blank, or nothing is left of it once tags are taken out"
    return None


async def answer_in_time(service: Service, request: Request, work: Awaitable[Result]) -> Result:
    """What the work gives, unless the client goes or time runs out; it is cancelled then.

    Raises:
        RefusedError: 429 too much waits, 500 the model failed, 503 too late.
    """
    timeout = service.args.timeout
    working = asyncio.ensure_future(work)
    waiting: set[asyncio.Future[Any]] = {working}
    try:
        await asyncio.wait(waiting, timeout=min(WATCH_SECONDS, timeout))
        if not working.done():
            waiting.add(asyncio.ensure_future(request.receive()))
            await asyncio.wait(waiting, timeout=timeout - WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if any(task.done() for task in waiting):
            raise RefusedError(CLIENT_GONE, "the client has gone")
    except OverloadError:
        raise BusyError from None
    except ModelError as failure:
        raise RefusedError(500, str(failure)) from None
    finally:
        for task in waiting:
            task.cancel()
    raise RefusedError(503, f"no answer within {service.args.timeout:g} s", {"retry-after": "1"})


def summarize_answers(logits: np.ndarray) -> dict[str, Any]:
    """`results`, `labels` and `scores` of texts, from their logits of shape (texts, 2)."""
    positive = compute_probabilities(logits)
    results = (positive > 0.5).astype(int)
    return {
        "results": results.tolist(),
        "labels": [LABEL_NAMES[result] for result in results],
        "scores": np.maximum(positive, 1 - positive).tolist(),
    }


def rank_labels(scores: Sequence[float]) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    pairs = zip(LABEL_NAMES, scores, strict=True)
    return [{"label": label, "score": score} for label, score in sorted(pairs, key=lambda pair: -pair[1])]


def respond(content: Any) -> Response:
    """JSON, as strict parsers want it."""
    return Response(json.dumps(content, allow_nan=False), media_type=JSON)


def list_versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
