"""The application of a service: model routes, health and information, the demo page and the documentation."""

import importlib.util
import platform
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import sentiment
from sentiment.data.labels import shorten
from sentiment.serving import schemas
from sentiment.serving.middleware import PAGE_FILES
from sentiment.serving.model_routes import ModelRoutes, build_model_router
from sentiment.serving.service import Service

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


def build_app(service: Service) -> ASGIApp:
    """The application of a service, which takes complete bodies."""
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
    router = build_model_router(service)
    app.include_router(router)
    add_health_routes(app, service)
    add_pages(app)
    return ModelRoutes(app, router, service.args.timeout)


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
            "examples": service.examples,
            "limits": {name: getattr(service.args, name) for name in LIMITS},
            "versions": {"sentiment": sentiment.__version__, "python": platform.python_version()}
            | {name: metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)},
        }


def add_pages(app: FastAPI) -> None:
    """Add the demo page at `/`, and the API documentation at `/docs`."""

    def add_page(path: str, content: bytes, media_type: str) -> None:
        async def page() -> Response:
            return Response(content, media_type=media_type, headers=PAGE_HEADERS)

        app.add_api_route(path, page, include_in_schema=False)

    for path, (name, media_type) in PAGE_FILES.items():
        add_page(path, (PAGE / name).read_bytes(), media_type)

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
