"""The FastAPI application: routes that classify texts, health and information, and the demo page."""

import asyncio
import importlib.util
import platform
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from scipy.special import expit, softmax
from starlette.exceptions import HTTPException

import sentiment
from sentiment.inference.batching import compute_probabilities
from sentiment.serving import schemas
from sentiment.serving.batcher import ModelError, OverloadError
from sentiment.serving.service import Service, run_in_thread_if_long

# Computes logits of texts, from one model or several.
Compute = Callable[[Sequence[str]], Awaitable[Any]]
# After this time, a request is cancelled if its client disconnects. Most requests are answered before.
WATCH_SECONDS = 0.1
MAX_EXPLAINED_WORDS = 64  # each is one more text for the model
SURROGATE = re.compile("[\\ud800-\\udfff]")
PAGE = resources.files("sentiment.serving") / "page"
SWAGGER_UI = resources.files("fastapi_offline") / "static"  # its scripts and styles, not its code
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
LIMITS = ("max_sentences", "max_characters", "max_body_bytes", "timeout")
LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime", "fastapi", "uvicorn")
FUNCTIONS: dict[str, Any] = {"softmax": partial(softmax, axis=-1), "sigmoid": expit, "none": np.asarray}


def build_app(service: Service) -> FastAPI:
    """The application of a service."""
    app = schemas.DocumentedApp(
        title="sentiment",
        version=sentiment.__version__,
        description="Classifies texts as negative or positive.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": "."}],  # relative, to work behind a proxy's path prefix
        responses=schemas.describe_errors(401, 405, 408, 413),
        exception_handlers={HTTPException: schemas.handle_http_exception, Exception: schemas.handle_exception},
    )
    add_model_routes(app, service)
    add_health_routes(app, service)
    add_pages(app)
    return app


def add_model_routes(app: FastAPI, service: Service) -> None:
    """Add `/query`, `/predict` and `/explain`."""
    router = APIRouter(route_class=schemas.BodyRoute)
    errors: dict[str, Any] = {"responses": schemas.describe_errors(400, 415, 429, 500, 503)}
    model = service.models[0]
    names = model.predictor.checkpoint.labels

    @router.post("/query", response_model=schemas.QueryResponse, response_model_exclude_none=True, **errors)
    async def query(body: schemas.QueryRequest, request: Request) -> Response:
        """Classifies sentences."""
        logits = await run_in_time(service, request, body.sentences, "sentences", service.compute_logits)
        answer, *others = [
            build_answers(rows, model.predictor.checkpoint.labels)
            for model, rows in zip(service.models, logits, strict=True)
        ]
        for label in answer["labels"]:
            service.metrics.answers.labels(label).inc()
        for other in others:
            pairs = enumerate(zip(answer["results"], other["results"], strict=True))
            answer |= {"compared": other, "disagreements": [position for position, (a, b) in pairs if a != b]}
        return JSONResponse(answer)

    @router.post("/predict", response_model=list[list[schemas.LabelScore]], **errors)
    async def predict(body: schemas.PredictRequest, request: Request) -> Response:
        """Classifies texts, in the format of Hugging Face's hosted text classification."""
        logits = await run_in_time(service, request, body.inputs, "inputs", model.compute_logits)
        function = (body.parameters and body.parameters.function_to_apply) or "softmax"
        top_k = (body.parameters and body.parameters.top_k) or len(names)
        ranked = [rank_labels(scores, names) for scores in FUNCTIONS[function](logits.astype(np.float64)).tolist()]
        for labels in ranked:
            service.metrics.answers.labels(labels[0]["label"]).inc()
        return JSONResponse([labels[:top_k] for labels in ranked])

    @router.post("/explain", response_model=schemas.ExplainResponse, **errors)
    async def explain(body: schemas.ExplainRequest, request: Request) -> Response:
        """Classifies a sentence, and weighs its words: how much the label's probability drops without each."""
        words, variants = build_occlusions(body.sentence)
        texts = [body.sentence, *variants]
        logits = await run_in_time(service, request, texts[:1], "sentence", lambda _: model.compute_logits(texts))
        weights = compute_word_weights(compute_probabilities(logits), len(words))
        answers = build_answers(logits[:1], names)
        weighed = [{"text": word, "weight": weight} for word, weight in zip(words, weights, strict=True)]
        return JSONResponse({"label": answers["labels"][0], "score": answers["scores"][0], "words": weighed})

    app.include_router(router)


def add_health_routes(app: FastAPI, service: Service) -> None:
    """Add `/health/live`, `/health/ready`, `/metrics` and `/info`."""

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Liveness probe."""
        return {"status": "live"}

    @app.get("/health/ready", responses=schemas.describe_errors(503))
    async def ready() -> dict[str, str]:
        """Readiness probe: 503 once the service is shutting down."""
        if not service.is_ready:
            raise HTTPException(503, "the service is shutting down")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """Models, limits and versions of this service."""
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
            "labels": list(service.models[0].predictor.checkpoint.labels),
            "limits": {name: getattr(service.args, name) for name in LIMITS},
            "versions": {"sentiment": sentiment.__version__, "python": platform.python_version()}
            | {name: metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)},
        }


def add_pages(app: FastAPI) -> None:
    """Add the demo page at `/`, and the API documentation at `/docs`."""

    def add_page(path: str, name: str, media_type: str) -> None:
        content = (PAGE / name).read_bytes()

        async def page() -> Response:
            return Response(content, media_type=media_type, headers=PAGE_HEADERS)

        app.add_api_route(path, page, include_in_schema=False)

    add_page("/", "page.html", "text/html")
    add_page("/page.css", "page.css", "text/css")
    add_page("/page.js", "page.js", "text/javascript")

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


async def run_in_time(service: Service, request: Request, texts: Sequence[str], field: str, compute: Compute) -> Any:
    """The result of `compute` for valid texts; cancelled when the client disconnects or time runs out.

    Raises:
        HTTPException: 400 invalid texts, 429 the queue is full, 500 the model failed, 503 timeout.
    """
    timeout = service.args.timeout
    work = asyncio.ensure_future(check_and_compute(service, texts, field, compute))
    tasks: set[asyncio.Future[Any]] = {work}
    try:
        await asyncio.wait(tasks, timeout=min(WATCH_SECONDS, timeout))
        if not work.done():
            tasks.add(asyncio.ensure_future(request.receive()))
            await asyncio.wait(tasks, timeout=timeout - WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if any(task.done() for task in tasks):
            raise HTTPException(schemas.CLIENT_CLOSED_REQUEST, "the client closed the connection")
        raise HTTPException(503, f"no answer within {timeout:g} s", {"retry-after": "1"})
    except OverloadError:
        raise schemas.build_busy_error() from None
    except ModelError as error:
        raise HTTPException(500, str(error)) from None
    finally:
        for task in tasks:
            task.cancel()


async def check_and_compute(service: Service, texts: Sequence[str], field: str, compute: Compute) -> Any:
    """The result of `compute`; raises HTTPException 400, with field and position, for too many or invalid texts."""
    if len(texts) > (maximum := service.args.max_sentences):
        raise HTTPException(400, f"{field}: {len(texts):,} are too many: at most {maximum:,} per request")
    if found := await run_in_thread_if_long(texts, partial(find_invalid_text, service)):
        position = "" if field == "sentence" else f"[{found[0]}]"
        raise HTTPException(400, f"{field}{position}: {found[1]}")
    return await compute(texts)


def find_invalid_text(service: Service, texts: Sequence[str]) -> tuple[int, str] | None:
    """Position of the first invalid text and what is wrong with it; None if all are valid."""
    maximum = service.args.max_characters
    for position, text in enumerate(texts):
        if len(text) > maximum:
            return position, f"{len(text):,} characters are too many: at most {maximum:,}"
        if SURROGATE.search(text):
            return position, "holds a lone surrogate, which is not Unicode"
        if not all(model.predictor.checkpoint.clean(text) for model in service.models):
            return position, "is blank, or empty without its HTML tags"
    return None


def build_answers(logits: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """`results`, `labels` and `scores` from logits of shape (texts, labels) and the names of the labels."""
    probabilities = compute_probabilities(logits)
    results = probabilities.argmax(axis=1).tolist()
    return {
        "results": results,
        "labels": [names[result] for result in results],
        "scores": probabilities.max(axis=1).tolist(),
    }


def rank_labels(scores: Sequence[float], names: Sequence[str]) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    pairs = sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in pairs]


def build_occlusions(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and the text without each of the first `MAX_EXPLAINED_WORDS` words.

    >>> build_occlusions("a good film")
    (['a', 'good', 'film'], ['good film', 'a film', 'a good'])
    """
    words = text.split()
    count = min(len(words), MAX_EXPLAINED_WORDS)
    return words, [" ".join(words[:omitted] + words[omitted + 1 :]) for omitted in range(count)]


def compute_word_weights(probabilities: np.ndarray, words: int) -> list[float | None]:
    """How much the probability of the label drops without each word; None for words that were not omitted.

    `probabilities`, shape (texts, labels), are for the whole text, then without each word.
    """
    of_label = probabilities[:, probabilities[0].argmax()]
    weights: list[float | None] = (of_label[0] - of_label[1:]).tolist()
    return weights + [None] * (words - len(weights))
