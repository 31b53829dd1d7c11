"""Valid request bodies, and the messages for invalid ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sentiment.serving.schemas import ExplainRequest, PredictRequest, QueryRequest, describe_validation_error

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def describe(model: Any, body: Any) -> str:
    """The message for an invalid body."""
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(body)
    return describe_validation_error(refusal.value.errors()[0])


def test_a_single_text_is_a_list_of_one() -> None:
    assert QueryRequest(sentences="good").sentences == ["good"]  # type: ignore[arg-type]
    assert PredictRequest(inputs="good").inputs == ["good"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        (QueryRequest, {}, "sentences: is missing"),
        (QueryRequest, [], "the body: must be an object"),
        (QueryRequest, {"sentences": None}, "sentences: must be a string or a list of strings"),
        (QueryRequest, {"sentences": {"0": "a"}}, "sentences: must be a string or a list of strings"),
        (QueryRequest, {"sentences": []}, "sentences: is empty: pass at least one text"),
        (QueryRequest, {"sentences": ["a", 1]}, "sentences[1]: must be a string"),
        (QueryRequest, {"sentences": [["a"]]}, "sentences[0]: must be a string"),
        (QueryRequest, {"sentences": ["a"], "colour": 1}, "colour: is not a known field"),
        (PredictRequest, {"inputs": "a", "parameters": {"top_k": 0}}, "parameters.top_k: input should be greater"),
        (PredictRequest, {"inputs": "a", "parameters": {"top_k": True}}, "parameters.top_k: input should be a valid"),
        (PredictRequest, {"inputs": "a", "parameters": {"top_k": 1.0}}, "parameters.top_k: input should be a valid"),
        (
            PredictRequest,
            {"inputs": "a", "parameters": {"function_to_apply": "tanh"}},
            "parameters.function_to_apply: input should be 'softmax', 'sigmoid' or 'none'",
        ),
        (PredictRequest, {"inputs": "a", "parameters": []}, "parameters: "),
        (ExplainRequest, {"sentence": ["a"]}, "sentence: must be a string"),
    ],
)
def test_errors_name_their_field(model: Any, body: Any, message: str) -> None:
    assert describe(model, body).startswith(message)


@given(st.sampled_from([QueryRequest, PredictRequest, ExplainRequest]), JSON)
def test_every_body_is_valid_or_refused_in_one_line(model: Any, body: Any) -> None:
    try:
        model.model_validate(body)
    except ValidationError as refusal:
        message = describe_validation_error(refusal.errors()[0])
        assert ": " in message
        assert len(message) < 300


def test_long_keys_are_shortened() -> None:
    assert len(describe(QueryRequest, {"sentences": ["a"], "k" * 100_000: 1})) < 200
