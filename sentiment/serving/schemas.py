"""What the service takes and gives, as pydantic models; OpenAPI is written from them."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from sentiment.serving.errors import JSON, RefusedError

MAX_KEYS = 16


def as_list(value: Any) -> Any:
    """A single string as a list of one."""
    return [value] if isinstance(value, str) else value


Texts = Annotated[
    list[str],
    FailFast(),  # a body can hold half a million faults, and takes seconds where each is described
    BeforeValidator(as_list, json_schema_input_type=list[str] | str),
    Field(
        description="One text or several.",
        min_length=1,
        examples=[["a gripping, funny film", "two hours I want back"]],
    ),
]


class Strict(BaseModel):
    """No unknown keys, and nothing converted."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def refuse_many_keys(cls, value: Any) -> Any:
        """Each unknown key is a fault of its own: there may not be thousands."""
        if isinstance(value, dict) and len(value) > MAX_KEYS:
            raise PydanticCustomError("too_many_keys", "has {keys} keys", {"keys": len(value)})
        return value


class QueryRequest(Strict):
    """Sentences to label."""

    sentences: Texts


class Answers(BaseModel):
    """One answer a sentence, in their order."""

    results: list[Literal[0, 1]] = Field(description="0 negative, 1 positive.")
    labels: list[Literal["negative", "positive"]]
    scores: list[float] = Field(description="Probability of the label, from 0.5 to 1.")


class QueryResponse(Answers):
    """The model's answers and, of a service with two, those of the other one."""

    compared: Answers | None = Field(None, description="The other model's answers.")
    disagreements: list[int] | None = Field(None, description="Positions where the two give different labels, from 0.")


class PredictParameters(Strict):
    """As those of Hugging Face's text classification."""

    top_k: int | None = Field(None, ge=1, description="So many labels, best first; all where left out.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="From logits to scores; softmax where left out."
    )


class PredictRequest(Strict):
    """Texts to classify, as Hugging Face's hosted text classification takes them."""

    inputs: Texts
    parameters: PredictParameters | None = None


class LabelScore(BaseModel):
    """A label and its score."""

    label: Literal["negative", "positive"]
    score: float


class ExplainRequest(Strict):
    """A sentence whose words are to be weighed."""

    sentence: str = Field(examples=["a gripping, funny film"])


class Word(BaseModel):
    """A word, and what the probability of the label loses without it; below 0 where it speaks against the label."""

    text: str
    weight: float | None = Field(description="None for words past the limit, which are not weighed.")


class ExplainResponse(BaseModel):
    """The label of a sentence, and what each of its words does for it."""

    label: Literal["negative", "positive"]
    score: float
    words: list[Word]


def describe_validation_error(fault: Mapping[str, Any]) -> str:
    """A fault that pydantic found in a body, in one line: the field, and what is wrong with it.

    >>> describe_validation_error({"type": "string_type", "loc": ("body", "sentences", 1), "msg": ""})
    'sentences[1]: must be a string'
    """
    place = ""
    for part in fault["loc"][1:]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    message = {
        "string_type": "must be a string",
        "string_unicode": "holds half of a surrogate pair, which is not Unicode",
        "list_type": "must be a string or a list of strings",
        "too_short": "is empty: pass at least one text",
        "missing": "is missing",
        "extra_forbidden": "is not known here",
        "model_type": "must be an object",
        "model_attributes_type": "must be an object",
    }.get(fault["type"], fault["msg"][:1].lower() + fault["msg"][1:])
    return f"{place[:100] or 'the body'}: {message}"


class BodyRoute(APIRoute):
    """A route whose endpoint takes a body, as a pydantic model, and the request; FastAPI documents it as any other.

    It does without FastAPI's resolving of dependencies, which took some 0.9 ms of an idle request on 2 cores.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Reads and checks the body, and calls the endpoint."""
        field, endpoint = self.body_field, self.endpoint
        assert field is not None

        async def handle(request: Request) -> Response:
            check_content_type(request)
            body, errors = field.validate(parse_json(await request.body()), {}, loc=("body",))
            if errors:
                raise RefusedError(400, describe_validation_error(errors[0]))
            response: Response = await endpoint(body, request)
            return response

        return handle


def check_content_type(request: Request) -> None:
    """Refuses a body that is said to be anything but JSON.

    Raises:
        RefusedError: 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise RefusedError(415, f"content-type: must be {JSON}")


def parse_json(body: bytes) -> Any:
    """What the body says.

    Raises:
        RefusedError: 400; it is empty, or nothing that can be read as JSON.
    """
    if not body:
        raise RefusedError(400, "the body: is missing")
    try:
        return json.loads(body.decode())
    except json.JSONDecodeError as error:
        raise RefusedError(400, f"the body: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, or nested too deep
        raise RefusedError(400, "the body: not valid JSON in UTF-8") from None
