"""Conformance to the OpenAPI document, and fuzzed request bodies."""

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from sentiment.data.cleaning import is_blank

# Factor for the number of examples; 100 takes minutes.
TIMES = int(os.environ.get("SENTIMENT_TEST_TIMES", "1"))
TOO_FEW = (HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large)
POSTED = ["/query", "/predict", "/explain"]
WORDS = st.sampled_from(["good", "bad film", "<br />", " ", "", "\u200b", "I <3 it", "\x00", "😀", "\ud800", "a\udfff"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | WORDS | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)
TEXTS = WORDS | st.text(max_size=20) | st.lists(WORDS | st.text(max_size=20), max_size=5)
PARAMETERS = st.dictionaries(
    st.sampled_from(["top_k", "function_to_apply", "topk"]),
    VALUES | st.sampled_from([1, 2, 0, -1, True, 2.0, "softmax", "none", "sigmoid", "relu"]),
    max_size=3,
)
BODIES = st.dictionaries(
    st.sampled_from(["sentences", "inputs", "sentence", "parameters", "Sentences", "\ud800"]),
    TEXTS | VALUES | PARAMETERS,
    max_size=3,
)


@pytest.fixture(scope="module")
def documented(listen: Callable[..., Any]) -> BaseSchema:
    """The OpenAPI document of a service on a port."""
    return schemathesis.openapi.from_url(listen().url + "/openapi.json", config=SchemathesisConfig())


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", POSTED)
@settings(max_examples=20 * TIMES, deadline=None, suppress_health_check=TOO_FEW)
@given(data=st.data())
def test_responses_conform_to_the_document(
    documented: BaseSchema, mode: GenerationMode, path: str, data: st.DataObject
) -> None:
    case = data.draw(documented[path]["POST"].as_strategy(generation_mode=mode))
    response = case.call()
    case.validate_response(
        response,
        checks=[
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
            checks.negative_data_rejection,
        ],
    )
    assert response.status_code < 500
    if response.status_code >= 400:
        assert list(response.json()) == ["error"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/info"])
def test_paths_without_a_body_conform_to_the_document(documented: BaseSchema, path: str) -> None:
    case = documented[path]["GET"].Case()
    response = case.call()
    case.validate_response(response, checks=[checks.status_code_conformance, checks.content_type_conformance])
    assert response.status_code == 200


def test_every_error_is_documented(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    expected = {path: {"200", "400", "401", "405", "408", "413", "415", "429", "500", "503"} for path in POSTED}
    expected |= {path: {"200", "401", "405", "408", "413"} for path in ("/health/live", "/metrics", "/info")}
    expected["/health/ready"] = {"200", "401", "405", "408", "413", "503"}
    assert {
        path: set(operation["responses"])
        for path, operations in document["paths"].items()
        for operation in operations.values()
    } == expected
    answers = [
        answer
        for operations in document["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status >= "400"
    ]
    for answer in answers:
        assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}
    assert not re.search("HTTPValidationError|ValidationError", json.dumps(document))


def is_unicode(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)


def is_query(body: Any) -> bool:
    """Whether the body is valid for /query."""
    if not isinstance(body, dict) or list(body) != ["sentences"]:
        return False
    texts = [body["sentences"]] if isinstance(body["sentences"], str) else body["sentences"]
    if not isinstance(texts, list) or not texts:
        return False
    return all(isinstance(text, str) and is_unicode(text) for text in texts)


def ask(client: TestClient, path: str, content: bytes) -> Any:
    """The response: JSON, and an error unless the status is 200."""
    response = client.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400), response.text
    found = json.loads(response.content.decode())
    if response.status_code == 400:
        assert list(found) == ["error"]
        assert found["error"]
    return response


@settings(deadline=None, max_examples=200 * TIMES, suppress_health_check=TOO_FEW)
@given(st.fixed_dictionaries({"sentences": TEXTS | VALUES}) | BODIES | VALUES)
def test_query_answers_valid_bodies_only(opened: Any, body: Any) -> None:
    response = ask(opened.client, "/query", json.dumps(body).encode())
    assert (response.status_code == 200) == is_query(body)
    if response.status_code == 200:
        texts = [body["sentences"]] if isinstance(body["sentences"], str) else body["sentences"]
        answer, clean = response.json(), opened.service.models[0].predictor.checkpoint.clean
        blank = [is_blank(clean(text)) for text in texts]
        keys = {"results", "labels", "scores"} | ({"reasons"} if any(blank) else set())
        assert answer.keys() - {"truncated"} == keys
        assert {len(values) for values in answer.values()} == {len(texts)}
        for key in ("results", "labels", "scores"):
            assert [value is None for value in answer[key]] == blank
        assert [bool(reason) for reason in answer.get("reasons", [])] == (blank if any(blank) else [])


@settings(deadline=None, max_examples=100 * TIMES, suppress_health_check=TOO_FEW)
@given(st.fixed_dictionaries({"inputs": TEXTS}, optional={"parameters": PARAMETERS | VALUES}) | BODIES)
def test_predict_answers_or_refuses(client: TestClient, body: Any) -> None:
    response = ask(client, "/predict", json.dumps(body).encode())
    if response.status_code == 200:
        texts = [body["inputs"]] if isinstance(body["inputs"], str) else body["inputs"]
        top_k = (body.get("parameters") or {}).get("top_k") or 2
        assert [len(labels) for labels in response.json()] == [min(top_k, 2)] * len(texts)


@settings(deadline=None, max_examples=50 * TIMES, suppress_health_check=TOO_FEW)
@given(st.fixed_dictionaries({"sentence": WORDS | st.text() | VALUES}) | BODIES)
def test_explain_answers_or_refuses(client: TestClient, body: Any) -> None:
    response = ask(client, "/explain", json.dumps(body).encode())
    if response.status_code == 200:
        words = [word["text"] for word in response.json()["words"]]
        assert "".join(words) == "".join(body["sentence"].split())


@settings(deadline=None, max_examples=100 * TIMES, suppress_health_check=TOO_FEW)
@given(st.sampled_from(POSTED), st.binary(max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_bytes_that_are_not_json_are_refused(
    client: TestClient, path: str, noise: bytes, start: int, length: int
) -> None:
    whole = json.dumps(
        {"sentences": ["a good film", "bad"], "é": {"a": [1.5, None, True]}}, ensure_ascii=False
    ).encode()
    ask(client, path, whole[:start] + noise + whole[start + length :])


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    "content",
    [
        b'{"sentences":' + b"[" * 100_000,
        b'{"sentences":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"sentences": ' + b"9" * 10_000 + b"}",
        b'{"sentences": 1e99999}',
        b'{"sentences": [Infinity, -Infinity, NaN]}',
        '{"sentences": "good"}'.encode("utf-16") + b"\xff",
        b"\xef\xbb\xbf{}",
        b"\x00" * 1000,
        b'"' + b"\\u0000" * 1000,
    ],
)
def test_bodies_that_break_parsers(client: TestClient, path: str, content: bytes) -> None:
    assert ask(client, path, content).status_code == 400


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"sentences": [' + b",".join([b"1"] * 500_000) + b"]}", "sentences[0]: must be a string"),
        (b'{"sentences": [' + b",".join([b"{}"] * 300_000) + b"]}", "sentences[0]: must be a string"),
        (b"{" + b",".join(b'"%x": 1' % key for key in range(80_000)) + b"}", "the body: has 80000 keys"),
        (
            b'{"inputs": "good", "parameters": {' + b",".join(b'"%x": 1' % key for key in range(80_000)) + b"}}",
            "parameters: has 80000 keys",
        ),
    ],
)
def test_a_body_full_of_errors_is_refused_at_once(client: TestClient, content: bytes, error: str) -> None:
    path = "/predict" if b"inputs" in content[:20] else "/query"
    started = time.perf_counter()
    assert ask(client, path, content).json()["error"] == error
    assert (
        time.perf_counter() - started < 1
    )  # describing each error took 5 s, during which no other request was answered
