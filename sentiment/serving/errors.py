"""How the routes say what is wrong, and how OpenAPI is told of it."""

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

DESCRIPTIONS = {
    400: "Wrong input; the error names the field.",
    401: "No token, or another one than the service's.",
    404: "No such path.",
    405: "Another method.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too much waits already: come back after the seconds in Retry-After.",
    500: "The model failed on one of the texts.",
    503: "The answer was not ready in time, or the service is ending.",
}
JSON = "application/json"
# nginx's word for a request whose client did not wait for the answer: it is counted, and read by nobody but a client
# that has closed its own half of the connection, which cannot be told from one that has gone.
CLIENT_GONE = 499


class DocumentedApp(FastAPI):
    """Documents its errors as they are: FastAPI's own 422 becomes 400 here."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        components = document["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"token": []}]  # whether the service has a token is not said here
        return document


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's words for these statuses."""
    return {status: {"model": ErrorResponse, "description": DESCRIPTIONS[status]} for status in statuses}


def add_error_handlers(app: FastAPI) -> None:
    """Errors of every kind become `{"error": ...}`."""

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, refusal: RefusedError) -> Response:
        return Response(refusal.body, refusal.status, refusal.headers, JSON)

    @app.exception_handler(HTTPException)
    async def refuse_request(request: Request, error: HTTPException) -> Response:
        root_path = request.scope.get("app_root_path", request.scope.get("root_path", ""))  # not that of a mount
        messages = {
            404: f"no such path; see {root_path}/docs",
            405: "method: not the one that this path takes",
        }
        refusal = RefusedError(error.status_code, messages.get(error.status_code, str(error.detail)))
        return Response(refusal.body, error.status_code, error.headers, JSON)

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> Response:
        return Response(RefusedError(500, "the service failed on this request").body, 500, media_type=JSON)


class RefusedError(Exception):
    """An error to answer with: its status, what is wrong in one line, and headers."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}

    @property
    def body(self) -> bytes:
        """What is sent."""
        return json.dumps({"error": str(self)}).encode()


class BusyError(RefusedError):
    """429: too much waits already."""

    def __init__(self) -> None:
        super().__init__(429, "too many texts are waiting: try again", {"retry-after": "1"})


class ErrorResponse(BaseModel):
    """What is wrong, and where."""

    error: str
