"""The FastAPI application: routes that classify texts, health and information, and the demo page."""

import asyncio
import importlib.util
import platform
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from importlib import metadata, resources
from itertools import compress
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
from sentiment.data.cleaning import is_blank
from sentiment.data.labels import UNCERTAIN, shorten
from sentiment.inference.batching import compute_probabilities
from sentiment.serving import schemas
from sentiment.serving.batcher import ModelError, OverloadError
from sentiment.serving.explanation import build_occlusions, compute_word_weights
from sentiment.serving.service import Outputs, Service, run_in_thread_if_long

# Computes the outputs of one model for texts, or of several.
Compute = Callable[[Sequence[str]], Awaitable[Any]]
# After this time, a request is cancelled if its client disconnects. Most requests are answered before.
WATCH_SECONDS = 0.1
SURROGATE = re.compile("[\\ud800-\\udfff]")
BLANK = "is blank, or empty without its HTML tags"
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
        description=f"Classifies texts as one of {len(service.labels)}: {shorten(', '.join(service.labels), 500)}.",
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
    model, names = service.models[0], service.labels

    @router.post("/query", response_model=schemas.QueryResponse, response_model_exclude_none=True, **errors)
    async def query(body: schemas.QueryRequest, request: Request) -> Response:
        """Classifies sentences."""
        texts = body.sentences
        has_text, outputs = await run_in_time(service, request, texts, "sentences", service.compute_outputs, True)
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
        return JSONResponse(answer)

    @router.post("/predict", response_model=list[list[schemas.LabelScore]], **errors)
    async def predict(body: schemas.PredictRequest, request: Request) -> Response:
        """Classifies texts, in the format of Hugging Face's hosted text classification."""
        _, (logits, _) = await run_in_time(service, request, body.inputs, "inputs", model.compute_outputs)
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
        _, outputs = await run_in_time(service, request, texts[:1], "sentence", lambda _: model.compute_outputs(texts))
        probabilities = compute_probabilities(outputs.logits)
        weights = compute_word_weights(probabilities, len(words))
        weighed = [{"text": word, "weight": weight} for word, weight in zip(words, weights, strict=True)]
        answer = rank_labels(probabilities[0].tolist(), names)[0] | {"words": weighed}
        return JSONResponse(answer | ({"truncated": True} if outputs.truncated[0] else {}))

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
                    "temperature": model.predictor.checkpoint.temperature,
                }
                for model in service.models
            ],
            "labels": list(service.labels),
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


async def run_in_time(
    service: Service, request: Request, texts: Sequence[str], field: str, compute: Compute, allows_blank: bool = False
) -> tuple[list[bool], Any]:
    """As `check_and_compute`; cancelled when the client disconnects or time runs out.

    Raises:
        HTTPException: 400 invalid texts, 429 the queue is full, 500 the model failed, 503 timeout.
    """
    timeout = service.args.timeout
    work = asyncio.ensure_future(check_and_compute(service, texts, field, compute, allows_blank))
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


async def check_and_compute(
    service: Service, texts: Sequence[str], field: str, compute: Compute, allows_blank: bool
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
