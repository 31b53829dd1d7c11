"""Requests, responses and errors: pydantic models, validation of request bodies, and OpenAPI."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

JSON = "application/json"
# nginx's code for a client that closed the connection before the answer; it shows up in logs and metrics only.
CLIENT_CLOSED_REQUEST = 499
# Messages for pydantic's error types; others have pydantic's own.
MESSAGES = {
    "string_type": "must be a string",
    "string_unicode": "holds a lone surrogate, which is not Unicode",
    "list_type": "must be a string or a list of strings",
    "too_short": "is empty: pass at least one text",
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "model_type": "must be an object",
}
MAX_KEYS = 16

Texts = Annotated[
    list[str],
    FailFast(),  # a body can hold half a million errors, which take seconds to describe
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=list[str] | str),
    Field(
        description="One text or several.", min_length=1, examples=[["a gripping, funny film", "I want my money back"]]
    ),
]


class RequestModel(BaseModel):
    """Base of request bodies: unknown fields are errors, and nothing is converted."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def refuse_many_keys(cls, value: Any) -> Any:
        """Bound the number of errors: each unknown key is one."""
        if isinstance(value, dict) and len(value) > MAX_KEYS:
            raise PydanticCustomError("too_many_keys", "has {keys} keys", {"keys": len(value)})
        return value


class QueryRequest(RequestModel):
    """Sentences to classify."""

    sentences: Texts
    top_k: int | None = Field(None, ge=1, description="Also answer with the most probable labels, as many as this.")


class LabelScore(BaseModel):
    """A label and its score."""

    label: str
    score: float


class Answers(BaseModel):
    """One answer per sentence, in order; null for a sentence without text."""

    results: list[int | None] = Field(description="Number of each text's label; null for an uncertain one.")
    labels: list[str | None] = Field(description="With --abstain-below, `uncertain` for scores below it.")
    scores: list[float | None] = Field(description="Probability of the label.")
    top: list[list[LabelScore] | None] | None = Field(
        None, description="With top_k: the most probable labels of each text and their probabilities, best first."
    )
    truncated: list[bool] | None = Field(
        None, description="Whether the model read a part of each text only; absent if it read all texts whole."
    )


class QueryResponse(Answers):
    """The model's answers, and those of the second model, if there is one."""

    reasons: list[str | None] | None = Field(
        None, description="Why a sentence has no answer, null for one that has; absent if all have one."
    )
    compared: Answers | None = Field(None, description="Answers of the second model.")
    disagreements: list[int] | None = Field(None, description="Positions where the labels differ, from 0.")


class PredictParameters(RequestModel):
    """Parameters of Hugging Face's text classification."""

    top_k: int | None = Field(None, ge=1, description="Number of labels, best first; default: all.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Function from logits to scores; default: softmax."
    )


class PredictRequest(RequestModel):
    """Texts to classify, as in Hugging Face's hosted text classification."""

    inputs: Texts
    parameters: PredictParameters | None = None


class ExplainRequest(RequestModel):
    """A sentence to explain."""

    sentence: str = Field(examples=["a gripping, funny film"])


class Word(BaseModel):
    """A word, and how much the probability of the label drops without it; negative for words against the label.

    In languages written without spaces, such as Chinese, a character or a few of them.
    """

    text: str
    weight: float | None = Field(description="Null for words beyond the limit.")


class Counterfactual(LabelScore):
    """The label of a sentence without some of its words, and its probability."""

    omitted: list[int] = Field(description="Positions in `words`, from 0.")


class ExplainResponse(LabelScore):
    """The label of a sentence, the weight of each word, and a few words without which the label is another one."""

    words: list[Word]
    counterfactual: Counterfactual | None = Field(description="Null where no five words or fewer were found.")
    truncated: bool | None = Field(None, description="True if the model read a part of the sentence only, else absent.")


def describe_validation_error(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in one line: the field, and what is wrong with it.

    >>> describe_validation_error({"type": "string_type", "loc": ("sentences", 1), "msg": ""})
    'sentences[1]: must be a string'
    """
    field = ""
    for part in error["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else part
    message = MESSAGES.get(error["type"], error["msg"][:1].lower() + error["msg"][1:])
    return f"{field[:100] or 'the body'}: {message}"


class ErrorResponse(BaseModel):
    """What is wrong, and where."""

    error: str


class DocumentedApp(FastAPI):
    """A FastAPI application whose OpenAPI document has this service's errors in place of FastAPI's 422."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"token": []}]  # optional: not every service has a token
        return document


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for these statuses."""
    return {status: {"model": ErrorResponse} for status in statuses}


def build_error_response(error: HTTPException) -> Response:
    """The response to an error; itself an ASGI application."""
    return Response(json.dumps({"error": error.detail}), error.status_code, error.headers, JSON)


def build_busy_error() -> HTTPException:
    """429 with Retry-After."""
    return HTTPException(429, "too many texts are waiting: try again", {"retry-after": "1"})


async def handle_http_exception(request: Request, error: HTTPException) -> Response:
    """The response to an HTTPException, with this service's words for the router's 404 and 405."""
    root_path = request.scope.get("app_root_path", request.scope.get("root_path", ""))  # not of a mounted application
    details = {404: f"no such path; see {root_path}/docs", 405: "method: not allowed on this path"}
    detail = details.get(error.status_code, error.detail)
    return build_error_response(HTTPException(error.status_code, detail, error.headers))


def build_service_error() -> HTTPException:
    """500 for an error of the service itself, whose message may hold a user's text."""
    return HTTPException(500, "the service failed on this request")


async def handle_exception(_: Request, __: Exception) -> Response:
    """The response to an error of the service itself."""
    return build_error_response(build_service_error())
