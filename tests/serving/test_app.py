"""Every route, and every documented error with its status and message."""

import concurrent.futures
import http.client
import json
import logging
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow.parquet
import pytest
from huggingface_hub import InferenceClient
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.evaluation.calibration import scale_probabilities
from sentiment.exceptions import InputError
from sentiment.inference.export import export_model
from sentiment.inference.predictor import Predictor
from sentiment.pipelines.calibrated_predictions import write_calibration
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.serving import middleware
from sentiment.serving.batcher import ModelError, OverloadError

SECONDS = 60  # timeout of every wait
TEXTS = ["a good film", "bad", "not a very good story", "dull dull plot", "great moving ending", "<b>empty</b>"]
TWELVE = [f"{first} {second} film" for first in ("good", "bad", "not", "dull") for second in ("very", "a", "great")]
MANY = [f"{first}{second}" for first in ("moving", "awful", "the plot", "fine") for second in ("", " scene", " is not")]
# Each path that classifies texts, and its field.
FIELDS = {"/query": "sentences", "/predict": "inputs", "/explain": "sentence"}
JSON = {"content-type": "application/json"}


def get_error(response: Any, status: int) -> str:
    """The message of an error response."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (key, message) = next(iter(response.json().items()))
    assert (key, len(response.json())) == ("error", 1)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def predictor(tiny_classifier: Path) -> Predictor:
    return Predictor.from_pretrained(str(tiny_classifier))


# --- predictions ---


def test_query_answers_in_order(client: TestClient, predictor: Predictor) -> None:
    answer = client.post("/query", json={"sentences": TEXTS}).json()
    expected = predictor.predict(TEXTS)
    assert set(answer) == {"results", "labels", "scores"}
    assert answer["labels"] == [prediction.label for prediction in expected]
    assert set(answer["labels"]) == {"negative", "positive"}
    assert answer["results"] == [int(label == "positive") for label in answer["labels"]]
    assert answer["scores"] == pytest.approx([prediction.score for prediction in expected], abs=1e-5)


def test_query_takes_a_single_string(client: TestClient) -> None:
    single = client.post("/query", json={"sentences": "a good film"}).json()
    assert single == client.post("/query", json={"sentences": ["a good film"]}).json()
    assert len(single["results"]) == 1


@pytest.mark.parametrize("text", ["\ufffe", "😀" * 100, "<" * 1000, "x" * 10_000, "\u202egood", '"', "\\u0000"])
def test_unusual_texts_are_answered(client: TestClient, text: str) -> None:
    for path, field in FIELDS.items():
        assert client.post(path, json={field: text}).status_code == 200


def test_the_largest_request_is_answered(client: TestClient) -> None:
    answer = client.post("/query", json={"sentences": ["good film " * 100] * 128})
    assert len(answer.json()["results"]) == 128


def test_query_reproduces_the_predictions_of_the_run(
    tiny_bert: Path, reviews_csv: Path, tmp_path: Path, open_service: Callable[..., Any]
) -> None:
    args = FinetuningArguments(
        output_dir=str(tmp_path / "run"), learning_rate=5e-3, num_train_epochs=1, precision="fp32"
    )
    data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=8)  # truncates some of the texts
    FinetuningRun("e2e", ModelArguments(model_name_or_path=str(tiny_bert)), data_args, args).execute()
    table = pyarrow.parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    with open_service(model=str(tmp_path / "run")) as opened:
        answer = opened.client.post("/query", json={"sentences": table["text"]}).json()
    assert answer["results"] == table["predicted"]
    assert len(answer["scores"]) == 25
    assert answer["scores"] == pytest.approx(table["score"], abs=1e-5)
    assert sum(answer["truncated"]) > 0


def test_predict_ranks_labels(client: TestClient, predictor: Predictor) -> None:
    answers = client.post("/predict", json={"inputs": TEXTS}).json()
    for answer, expected in zip(answers, predictor.predict(TEXTS), strict=True):
        assert [sorted(entry) for entry in answer] == [["label", "score"]] * 2
        assert answer[0]["label"] == expected.label
        assert answer[0]["score"] == pytest.approx(expected.score, abs=1e-5)
        assert answer[0]["score"] + answer[1]["score"] == pytest.approx(1)
    single = client.post("/predict", json={"inputs": TEXTS[0]}).json()
    assert len(single) == 1
    assert [entry["label"] for entry in single[0]] == [entry["label"] for entry in answers[0]]


def predict_one(client: TestClient, **parameters: Any) -> list[dict[str, Any]]:
    (answer,) = client.post("/predict", json={"inputs": "good", "parameters": parameters}).json()
    return answer


def test_predict_with_parameters(client: TestClient) -> None:
    both = predict_one(client)
    assert predict_one(client, top_k=1) == both[:1]
    assert predict_one(client, top_k=2) == predict_one(client, top_k=10**30) == both
    assert predict_one(client, top_k=None, function_to_apply=None) == both
    logits = {entry["label"]: entry["score"] for entry in predict_one(client, function_to_apply="none")}
    odds = {label: np.exp(logit) for label, logit in logits.items()}
    for entry in predict_one(client, function_to_apply="softmax"):
        assert entry["score"] == pytest.approx(odds[entry["label"]] / sum(odds.values()))
    for entry in predict_one(client, function_to_apply="sigmoid"):
        assert entry["score"] == pytest.approx(odds[entry["label"]] / (1 + odds[entry["label"]]))


def test_explain_weighs_words(client: TestClient, predictor: Predictor) -> None:
    answer = client.post("/explain", json={"sentence": "a very  good film"}).json()
    whole, without = predictor.predict(["a very good film", "a very film"])
    assert (answer["label"], answer["score"]) == (whole.label, pytest.approx(whole.score, abs=1e-5))
    assert [word["text"] for word in answer["words"]] == ["a", "very", "good", "film"]
    weight = whole.score - without.probabilities[whole.label]
    assert answer["words"][2]["weight"] == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize("text", ["a very good film", "the good and bad film", "bad", "good dull awful great film"])
def test_explain_names_words_without_which_the_answer_is_another(
    client: TestClient, predictor: Predictor, text: str
) -> None:
    answer = client.post("/explain", json={"sentence": text}).json()
    found = answer["counterfactual"]
    assert (found is None) == (text == "bad")  # one word stays
    if found is None:
        return
    left = " ".join(word for place, word in enumerate(text.split()) if place not in found["omitted"])
    expected = predictor.predict([left])[0]
    assert (found["label"], found["score"]) == (expected.label, pytest.approx(expected.score, abs=1e-5))
    assert found["label"] != answer["label"]


def test_the_client_of_hugging_face_works(
    listen: Callable[..., Any], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # else it refuses to connect
    client = InferenceClient(model=f"{listen().url}/predict")
    expected = predictor.predict(["a good film"])[0]
    best, other = client.text_classification("a good film")
    assert (best.label, best.score) == (expected.label, pytest.approx(expected.score, abs=1e-5))
    assert other.score == pytest.approx(1 - expected.score, abs=1e-5)
    (best,) = client.text_classification("a good film", top_k=1, function_to_apply="sigmoid")
    assert best.label == expected.label


# --- two models ---


@pytest.fixture(scope="module")
def other_classifier(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier with another bias: half of `TWELVE` are positive."""
    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(tiny_classifier, folder)
    weights = load_file(folder / "model.safetensors")
    probabilities = Predictor.from_pretrained(str(folder)).predict_probabilities(TWELVE)
    weights["classifier.bias"][0] += float(np.median(np.log(probabilities[:, 1] / probabilities[:, 0])))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def compared(open_service: Callable[..., Any], other_classifier: Path) -> Iterator[Any]:
    with open_service(compare_with=str(other_classifier)) as opened:
        yield opened


def test_two_models_answer_and_disagree(compared: Any, predictor: Predictor, other_classifier: Path) -> None:
    answer = compared.client.post("/query", json={"sentences": TWELVE}).json()
    other = Predictor.from_pretrained(str(other_classifier))
    labels, others = [[prediction.label for prediction in model.predict(TWELVE)] for model in (predictor, other)]
    differing = [place for place, pair in enumerate(zip(labels, others, strict=True)) if pair[0] != pair[1]]
    assert 0 < len(differing) < len(TWELVE)
    assert set(answer) == {"results", "labels", "scores", "compared", "disagreements"}
    assert (answer["labels"], answer["compared"]["labels"]) == (labels, others)
    assert answer["disagreements"] == differing
    assert set(answer["compared"]) == {"results", "labels", "scores"}


def test_two_models_that_agree(compared: Any) -> None:
    same = compared.client.post("/query", json={"sentences": ["good", "good"]}).json()
    assert same["disagreements"] in ([], [0, 1])
    assert len(compared.client.get("/info").json()["models"]) == 2


@pytest.mark.parametrize(("error", "status"), [(OverloadError(), 429), (ModelError("it failed"), 500)])
@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_either_model_is_returned(
    compared: Any, error: Exception, status: int, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Any) -> None:
        raise error

    monkeypatch.setattr(compared.service.models[place].batcher, "compute", refuse)
    get_error(compared.client.post("/query", json={"sentences": "good"}), status)


@pytest.fixture(scope="module")
def five_stars(build_classifier: Callable[..., Path]) -> Path:
    """A classifier of five classes, whose names are numbers."""
    return build_classifier(["1", "2", "3", "4", "5"])


@pytest.fixture(scope="module")
def rated(open_service: Callable[..., Any], five_stars: Path, tmp_path_factory: Any) -> Iterator[Any]:
    """The classifier of five classes, beside itself with the classes in reverse order."""
    folder = shutil.copytree(five_stars, tmp_path_factory.mktemp("reversed") / "model")
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rename_classes(folder, ["5", "4", "3", "2", "1"])
    with open_service(model=str(five_stars), compare_with=str(folder)) as opened:
        yield opened


def rename_classes(folder: Path, names: list[str]) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = dict(enumerate(names))
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_many_classes(rated: Any, five_stars: Path) -> None:
    client, expected = rated.client, Predictor.from_pretrained(str(five_stars)).predict(MANY)
    answer = client.post("/query", json={"sentences": MANY, "top_k": 3}).json()
    assert answer["labels"] == [prediction.label for prediction in expected]
    assert len({*answer["labels"]}) > 2
    assert answer["results"] == [int(label) - 1 for label in answer["labels"]]
    assert answer["scores"] == pytest.approx([prediction.score for prediction in expected], abs=1e-5)
    for top, prediction in zip(answer["top"], expected, strict=True):
        ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])[:3]
        assert [entry["label"] for entry in top] == [label for label, _ in ranked]
        assert [entry["score"] for entry in top] == pytest.approx([score for _, score in ranked], abs=1e-5)
    # The second model gives the same answers, in the first one's numbers, though its classes have others.
    assert answer["disagreements"] == []
    assert answer["compared"]["results"] == answer["results"]
    assert answer["compared"]["scores"] == pytest.approx(answer["scores"], abs=1e-5)
    ranked = client.post("/predict", json={"inputs": MANY, "parameters": {"top_k": 2}}).json()
    assert [[entry["label"] for entry in labels] for labels in ranked] == [
        [entry["label"] for entry in top[:2]] for top in answer["top"]
    ]
    assert client.get("/info").json()["labels"] == ["1", "2", "3", "4", "5"]
    assert "one of 5: 1, 2, 3, 4, 5" in client.get("/openapi.json").json()["info"]["description"]


def test_explain_with_many_classes(rated: Any, five_stars: Path) -> None:
    answer = rated.client.post("/explain", json={"sentence": "bad very film"}).json()
    whole, without = Predictor.from_pretrained(str(five_stars)).predict(["bad very film", "very film"])
    assert answer["label"] == whole.label
    assert answer["words"][0]["weight"] == pytest.approx(whole.score - without.probabilities[whole.label], abs=1e-5)


def test_every_class_is_counted_from_the_start(open_service: Callable[..., Any], five_stars: Path) -> None:
    with open_service(model=str(five_stars)) as opened:
        counts = [read_metrics(opened.client)["sentiment_answers_total", label] for label in "12345"]
        assert counts == [0] * 5


@pytest.mark.parametrize("names", [["1", "2", "3", "4"], ["1", "2", "3", "4", "6"], ["1", "2", "3", "4", "5", "6"]])
def test_models_of_other_classes_are_not_compared(
    names: list[str], open_service: Callable[..., Any], five_stars: Path, build_classifier: Callable[..., Path]
) -> None:
    other = build_classifier(names)
    with pytest.raises(InputError) as refusal, open_service(model=str(five_stars), compare_with=str(other)):
        pass
    assert f"--compare-with {other}" in str(refusal.value)
    assert str(five_stars) in str(refusal.value)


# --- invalid requests ---


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"{'sentences': 'good'}", b'{"sentences": "good"', b"[" * 100_000, b'"\\ud8"']
)
def test_malformed_json(client: TestClient, path: str, body: bytes) -> None:
    assert get_error(client.post(path, content=body, headers=JSON), 400).startswith("the body: ")


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("body", [b'{"sentences": "\xff"}', b"\xc3", b'{"inputs": "\xc0\x80"}', b"\xff\xfe\x00"])
def test_malformed_utf8(client: TestClient, path: str, body: bytes) -> None:
    assert get_error(client.post(path, content=body, headers=JSON), 400).startswith("the body: not valid JSON")


def test_utf8_of_a_lone_surrogate(client: TestClient) -> None:
    response = client.post("/query", content=b'{"sentences": "\xed\xa0\x80"}', headers=JSON)
    assert get_error(response, 400) == "the body: not valid JSON in UTF-8"


@pytest.mark.parametrize(("path", "field"), FIELDS.items())
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the body: "),
        ("null", "the body: must be an object"),
        ("[]", "the body: must be an object"),
        ('"good"', "the body: must be an object"),
        ("NaN", "the body: must be an object"),
        ("{}", "{field}: is missing"),
        ('{"{field}": null}', "{field}: must be a string"),
        ('{"{field}": 1}', "{field}: must be a string"),
        ('{"{field}": true}', "{field}: must be a string"),
        ('{"{field}": NaN}', "{field}: must be a string"),
        ('{"{field}": Infinity}', "{field}: must be a string"),
        ('{"{field}": {"a": "good"}}', "{field}: must be a string"),
        ('{"{field}": "good", "{field}s": "good"}', "{field}s: is not a known field"),
        ('{"{field}": "good", "": 1}', ": is not a known field"),
        ('{"{field}": "\\ud800"}', "{place}: holds a lone surrogate, which is not Unicode"),
        ('{"{field}": "good \\udfff film"}', "{place}: holds a lone surrogate"),
        ('{"{field}": "' + "x" * 10_001 + '"}', "{place}: 10,001 characters are too many: at most 10,000"),
    ],
)
def test_errors_of_wrong_bodies_name_the_field(
    client: TestClient, path: str, field: str, content: str, message: str
) -> None:
    place = field if field == "sentence" else f"{field}[0]"
    body, message = [part.replace("{field}", field).replace("{place}", place) for part in (content, message)]
    answer = get_error(client.post(path, content=body, headers=JSON), 400)
    assert answer.startswith(message) or (message.startswith(":") and answer.endswith("is not a known field"))


@pytest.mark.parametrize(("path", "field"), [("/query", "sentences"), ("/predict", "inputs")])
@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "{field}: is empty: pass at least one text"),
        (["good", 1], "{field}[1]: must be a string"),
        (["good", None], "{field}[1]: must be a string"),
        ([["good"]], "{field}[0]: must be a string"),
        (["good", "bad", "x" * 10_001], "{field}[2]: 10,001 characters are too many"),
        (["good", "\ud800"], "{field}[1]: holds a lone surrogate"),
        (["good"] * 129, "{field}: 129 are too many: at most 128 per request"),
    ],
)
def test_errors_of_wrong_lists_name_the_position(
    client: TestClient, path: str, field: str, texts: list[Any], message: str
) -> None:
    response = client.post(path, content=json.dumps({field: texts}), headers=JSON)
    assert get_error(response, 400).startswith(message.format(field=field))


def test_a_path_with_a_line_break_is_answered_in_the_same_form(client: TestClient) -> None:
    assert client.post("/query%0A", json={"sentences": ["good"]}).status_code == 200
    assert get_error(client.post("/query%0A", json={"sentences": 3}), 400).startswith("sentences: must be a string")


@pytest.mark.parametrize("text", ["", " \t\n\u00a0 ", "<br />", "\u200b\ufeff"])
def test_a_blank_text(client: TestClient, text: str) -> None:
    message = "is blank, or empty without its HTML tags"
    assert get_error(client.post("/predict", json={"inputs": ["good", text]}), 400) == f"inputs[1]: {message}"
    assert get_error(client.post("/explain", json={"sentence": text}), 400) == f"sentence: {message}"
    filled = client.post("/query", json={"sentences": ["good", "bad"]}).json()
    answer = client.post("/query", json={"sentences": ["good", text, "bad"]}).json()
    assert set(answer) == {"results", "labels", "scores", "reasons"}
    assert answer["reasons"] == [None, message, None]
    for key, (first, second) in filled.items():
        assert answer[key] == [pytest.approx(first) if key == "scores" else first, None, pytest.approx(second)]


def test_blank_texts_alone(client: TestClient) -> None:
    answer = client.post("/query", json={"sentences": ["", "<br />"], "top_k": 1}).json()
    assert all(answer.pop("reasons"))
    assert answer == {"results": [None] * 2, "labels": [None] * 2, "scores": [None] * 2, "top": [None] * 2}


def test_texts_that_were_cut_are_named(client: TestClient) -> None:
    longer, fitting = "good " * 15, "good " * 14  # of 16 tokens, two are special
    assert "truncated" not in client.post("/query", json={"sentences": [fitting]}).json()
    answer = client.post("/query", json={"sentences": [fitting, longer, ""]}).json()
    assert answer["truncated"] == [False, True, False]
    assert client.post("/explain", json={"sentence": longer}).json()["truncated"] is True
    assert "truncated" not in client.post("/explain", json={"sentence": fitting}).json()


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"top_k": 0}, "parameters.top_k"),
        ({"top_k": -1}, "parameters.top_k"),
        ({"top_k": "1"}, "parameters.top_k"),
        ({"top_k": 1.0}, "parameters.top_k"),
        ({"top_k": True}, "parameters.top_k"),
        ({"function_to_apply": "tanh"}, "parameters.function_to_apply"),
        ({"function_to_apply": 1}, "parameters.function_to_apply"),
        ({"top": 1}, "parameters.top"),
        ("softmax", "parameters"),
        ([], "parameters"),
    ],
)
def test_wrong_parameters_are_refused_by_their_name(client: TestClient, parameters: Any, field: str) -> None:
    answer = get_error(client.post("/predict", json={"inputs": "good", "parameters": parameters}), 400)
    assert answer.startswith(f"{field}: ")


def test_limits_are_those_of_the_options(open_service: Callable[..., Any]) -> None:
    with open_service(max_sentences=2, max_characters=5) as opened:
        ask = opened.client.post
        assert ask("/query", json={"sentences": ["good", "dull!"]}).status_code == 200
        assert get_error(ask("/query", json={"sentences": ["a"] * 3}), 400).endswith("at most 2 per request")
        assert get_error(ask("/query", json={"sentences": ["a", "dull!!"]}), 400).endswith("at most 5")
        limits = opened.client.get("/info").json()["limits"]
        assert (limits["max_sentences"], limits["max_characters"]) == (2, 5)


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ";"])
def test_another_content_type(client: TestClient, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    for content in (b'{"sentences": "good", "inputs": "good"}', b"{"):
        response = client.post(path, content=content, headers=headers)
        assert get_error(response, 415) == "content-type: must be application/json"


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8"])
def test_the_content_type_of_json(client: TestClient, kind: str) -> None:
    response = client.post("/query", content=b'{"sentences": "good"}', headers={"content-type": kind})
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/query/", "/QUERY", "/health", "/docs/nothing.js", "/docs/../app.py"])
def test_no_such_path(client: TestClient, path: str) -> None:
    for answer in (client.get(path), client.post(path, json={})):
        if not (path.startswith("/docs/") and answer.status_code == 405):
            assert get_error(answer, 404) == "no such path; see /docs"


@pytest.mark.parametrize("path", [*FIELDS, "/info", "/metrics", "/health/live", "/health/ready", "/", "/docs"])
def test_another_method(client: TestClient, path: str) -> None:
    taken = "POST" if path in FIELDS else "GET"
    assert path in FIELDS or client.head(path).status_code == 200
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - {taken}:
        response = client.request(method, path)
        assert get_error(response, 405) == "method: not allowed on this path"
        assert response.headers["allow"] == taken


@pytest.mark.parametrize(
    "path",
    ["/info", "/metrics", "/health/live", "/health/ready", "/", "/page.js", "/docs", "/docs/swagger-ui.css", "/none"],
)
def test_head_is_answered_like_get_without_the_body(listen: Callable[..., Any], path: str) -> None:
    served = listen()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=SECONDS)
    found = []
    for method in ("HEAD", "GET"):  # on one connection: a body after HEAD would be read as the next answer
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name: value for name, value in response.getheaders() if name != "date"}
        if path == "/metrics":
            headers.pop("content-length")
        found.append((response.status, headers))
        assert bool(response.read()) == (method == "GET")
    connection.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("path", FIELDS)
def test_a_large_body(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.01)
    largest = json.dumps({FIELDS[path]: "x" * 10_000}).encode().ljust(1 << 20)
    assert client.post(path, content=largest, headers=JSON).status_code == 200
    for content in (largest + b" ", iter([largest, b" "])):
        answer = get_error(client.post(path, content=content, headers=JSON), 413)
        assert answer == "the body is larger than 1,048,576 bytes: send fewer texts per request"


# --- overload, timeouts and failures ---


def test_a_full_queue(open_service: Callable[..., Any], close_gate: Callable[[Any], Any]) -> None:
    with open_service(max_waiting_tokens=1) as opened, concurrent.futures.ThreadPoolExecutor() as pool:
        gate = close_gate(opened.service)
        running = pool.submit(opened.client.post, "/query", json={"sentences": "good"})
        assert gate.is_entered.wait(SECONDS)
        # Of two more, one is queued; the other is refused at once.
        others = [pool.submit(opened.client.post, path, json={FIELDS[path]: "good"}) for path in ("/query", "/predict")]
        done, waiting = concurrent.futures.wait(others, SECONDS, concurrent.futures.FIRST_COMPLETED)
        (response,) = [future.result() for future in done]
        assert get_error(response, 429) == "too many texts are waiting: try again"
        assert response.headers["retry-after"] == "1"
        gate.is_open.set()
        assert [future.result(SECONDS).status_code for future in (running, *waiting)] == [200, 200]


def test_a_timeout(open_service: Callable[..., Any], close_gate: Callable[[Any], Any]) -> None:
    with open_service(timeout=0.1) as opened:
        gate = close_gate(opened.service)
        for path, field in FIELDS.items():
            response = opened.client.post(path, json={field: "good"})
            assert get_error(response, 503) == "no answer within 0.1 s"
            assert response.headers["retry-after"] == "1"
        gate.is_open.set()
        opened.service.args.__dict__["timeout"] = SECONDS
        assert opened.client.post("/query", json={"sentences": "good"}).status_code == 200


def fail_on_word(service: Any, word: str, answer: float | None = None) -> None:
    """Make the model fail on texts with this word, or answer them with this number."""
    model = service.models[0]
    compute, (ids,) = model.batcher.compute_logits, model.predictor.checkpoint.encode([word])

    def compute_or_fail(input_ids: Any) -> np.ndarray:
        is_wrong = [ids[1] in row for row in input_ids]
        if any(is_wrong) and answer is None:
            raise RuntimeError("the word was zebra")
        logits = compute(input_ids)
        if answer is not None:
            logits[is_wrong] = answer
        return logits

    model.batcher.compute_logits = compute_or_fail


@pytest.mark.parametrize("answer", [None, float("nan"), float("inf")])
def test_a_text_on_which_the_model_fails(open_service: Callable[..., Any], answer: float | None) -> None:
    with open_service() as opened, concurrent.futures.ThreadPoolExecutor() as pool:
        fail_on_word(opened.service, "awful", answer)
        bodies = [{"sentences": ["good", "awful"] if number % 4 == 0 else ["good", "bad"]} for number in range(16)]
        answers = list(pool.map(lambda body: opened.client.post("/query", json=body), bodies))
        for number, response in enumerate(answers):
            if number % 4 == 0:
                assert "zebra" not in get_error(response, 500)
            else:
                assert response.status_code == 200
        assert get_error(opened.client.post("/predict", json={"inputs": "awful"}), 500)
        assert get_error(opened.client.post("/explain", json={"sentence": "awful"}), 500)


def test_an_error_of_the_service_itself(
    open_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Any) -> None:
        raise KeyError("zebra")

    with open_service() as opened, caplog.at_level(logging.DEBUG):
        monkeypatch.setattr(opened.service, "compute_outputs", fail)
        answer = get_error(opened.client.post("/query", json={"sentences": "zebra"}), 500)
        assert answer == "the service failed on this request"
    assert "a request failed: KeyError in " in caplog.text
    assert "zebra" not in caplog.text
    assert "Traceback" not in caplog.text


def test_queued_texts_of_a_client_that_disconnected_are_not_run(
    listen: Callable[..., Any], close_gate: Callable[[Any], Any]
) -> None:
    served = listen()
    gate = close_gate(served.service)
    ran: list[int] = []
    compute = gate.compute_logits

    def note(input_ids: Any) -> np.ndarray:
        ran.extend(len(ids) for ids in input_ids)
        return compute(input_ids)

    gate.compute_logits = note

    def send(text: str) -> socket.socket:
        body = json.dumps({"sentences": text})
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS)
        head = f"POST /query HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        return connection

    staying = send("good")
    assert gate.is_entered.wait(SECONDS)
    batcher = served.service.models[0].batcher
    leaving = send("good good good good")
    wait_for(lambda: batcher.waiting_tokens > 0)
    leaving.close()
    wait_for(lambda: b'path="/query",status="499"' in generate_latest(served.service.metrics.registry))
    gate.is_open.set()
    assert staying.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    staying.close()
    assert ran == [3]


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = threading.Event()
    for _ in range(SECONDS * 100):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError("timeout")


# --- health, information, metrics, log and pages ---


def test_health(open_service: Callable[..., Any]) -> None:
    with open_service() as opened:
        assert opened.client.get("/health/live").json() == {"status": "live"}
        assert opened.client.get("/health/ready").json() == {"status": "ready"}
        opened.service.is_ready = False
        assert get_error(opened.client.get("/health/ready"), 503) == "the service is shutting down"
        assert opened.client.get("/health/live").status_code == 200


def test_info(client: TestClient, tiny_classifier: Path) -> None:
    info = client.get("/info").json()
    model = {"name": tiny_classifier.name, "backend": "torch", "precision": "fp32"}
    assert info["models"] == [model | {"cleaning": "light", "max_seq_length": 16, "temperature": 1.0}]
    assert info["labels"] == ["negative", "positive"]
    assert info["examples"] == []
    assert info["limits"] == {
        "max_sentences": 128,
        "max_characters": 10_000,
        "max_body_bytes": 1_048_576,
        "timeout": 10.0,
    }
    assert {"sentiment", "python", "torch", "tokenizers", "fastapi", "uvicorn"} <= set(info["versions"])


def test_examples_are_test_texts_of_the_run_and_asked_for(
    open_service: Callable[..., Any], tiny_classifier: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_classifier, tmp_path / "model")
    rows = [
        ("too short", 0, 0), ("a film that is wrongly labelled", 0, 1), ("x" * 500, 1, 1),
        ("the first bad film of all", 0, 0),
        ("the second bad film of all", 0, 0), ("the only good film of all", 1, 1), ("the third bad film of all", 0, 0),
        ("the fourth bad film of all", 0, 0),
    ]  # fmt: skip
    names = ("text", "label", "predicted")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    table = {"row": [*range(len(rows))]} | columns | {"score": [0.9] * len(rows)}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "predictions.parquet")
    chosen = ["the first bad film of all", "the only good film of all", "the second bad film of all"]
    for model in (tmp_path, tmp_path / "model"):
        with open_service(model=str(model), examples=True) as opened:
            assert opened.client.get("/info").json()["examples"] == [*chosen, "the third bad film of all"]
    with open_service(model=str(tmp_path)) as opened:  # texts of a team are shown to nobody unless asked for
        assert opened.client.get("/info").json()["examples"] == []
    with pytest.raises(InputError, match="has no predictions"), open_service(examples=True):
        pass


def read_metrics(client: TestClient) -> dict[tuple[str, ...], float]:
    """The samples of /metrics, by name and label values."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_metrics_count(open_service: Callable[..., Any], tiny_classifier: Path) -> None:
    with open_service() as opened:
        client, model = opened.client, str(tiny_classifier)
        before = read_metrics(client)
        answer = client.post("/query", json={"sentences": ["good", "bad", "dull"]}).json()
        client.post("/predict", json={"inputs": "good"})
        client.post("/query", json={"sentences": []})
        client.get("/zebra")
        client.get("/docs/swagger-ui.css")
        after = read_metrics(client)
        requests = {key[1:]: value for key, value in after.items() if key[0] == "sentiment_requests_total"}
        assert requests == {
            ("/query", "200"): 1,
            ("/predict", "200"): 1,
            ("/query", "400"): 1,
            ("other", "404"): 1,
            ("other", "200"): 1,
            ("/metrics", "200"): 1,
        }
        counted = [after.get(("sentiment_answers_total", label), 0) for label in ("negative", "positive")]
        assert sum(counted) == 4
        assert counted[0] >= answer["labels"].count("negative")
        texts = "sentiment_batch_texts_sum", model
        assert after[texts] - before[texts] == 4
        tokens = "sentiment_batch_tokens_total", model
        assert after[tokens] - before[tokens] == 4 * 3  # each is one word and two special tokens
        assert after["sentiment_waiting_tokens", model] == 0
        assert after["sentiment_request_seconds_count", "/query"] == 2
        assert not any("zebra" in part for key in after for part in key)


def test_the_log_holds_no_texts(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = opened.client
    with caplog.at_level(logging.DEBUG):
        for path, field in FIELDS.items():
            client.post(path, json={field: "zebra"})
            client.post(path, json={field: ["zebra", ""]})
            client.post(path, json={field: "good", "zebra": 1})
            client.post(path, content=b'{"zebra', headers=JSON)
            client.post(path, content=b"zebra", headers={"content-type": "zebra"})
            client.post(f"{path}?zebra=zebra", json={field: "zebra"})
        client.get("/zebra", headers={"authorization": "Bearer zebra", "user-agent": "zebra"})
        client.request("ZEBRA", "/query")
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert sum(line.startswith("POST /query ") for line in lines) == 6
    assert [line for line in lines if "zebra" in line.lower() and not line.startswith("ZEBRA /query 405")] == []
    assert "Traceback" not in caplog.text


def test_page_and_documentation_load_nothing_from_other_hosts(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/page.css", "/page.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json"):
        assert client.get(path).status_code == 200
    docs = client.get("/docs")
    assert docs.headers["content-type"].startswith("text/html")
    assert "docs/swagger-ui-bundle.js" in docs.text
    assert "https://" not in docs.text


# --- token and CORS ---


def test_with_a_token(open_service: Callable[..., Any]) -> None:
    with open_service(token="secret") as opened:
        for path, field in FIELDS.items():
            ask = {"json": {field: "good"}}
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
                response = opened.client.post(path, headers=headers, **ask)
                assert get_error(response, 401).startswith("authorization: ")
                assert response.headers["www-authenticate"] == "Bearer"
            assert opened.client.post(path, headers={"authorization": "Bearer secret"}, **ask).status_code == 200
        for path in ("/info", "/metrics", "/nothing"):
            get_error(opened.client.get(path), 401)
        for path in ("/", "/page.js", "/docs", "/openapi.json", "/health/live", "/health/ready"):
            assert opened.client.get(path).status_code == 200


def test_other_origins_are_not_allowed(client: TestClient) -> None:
    response = client.post("/query", json={"sentences": "good"}, headers={"origin": "https://a.example"})
    assert not any(name.startswith("access-control") for name in response.headers)
    preflight = {"origin": "https://a.example", "access-control-request-method": "POST"}
    response = client.options("/query", headers=preflight)
    assert response.status_code == 405
    assert not any(name.startswith("access-control") for name in response.headers)


def test_listed_origins_are_allowed(open_service: Callable[..., Any]) -> None:
    with open_service(cors_origins=["https://a.example"], token="secret") as opened:
        headers = {"origin": "https://a.example", "authorization": "Bearer secret"}
        ask = {"json": {"sentences": "good"}}
        response = opened.client.post("/query", headers=headers, **ask)
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        preflight = {
            "origin": "https://a.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        response = opened.client.options("/query", headers=preflight)  # browsers send preflights without the token
        assert response.status_code == 200
        assert "authorization" in response.headers["access-control-allow-headers"].lower()
        # Errors too, or the page could not read them.
        response = opened.client.post("/query", headers={"origin": "https://a.example"}, **ask)
        assert get_error(response, 401)
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        response = opened.client.post("/query", headers=headers | {"origin": "https://b.example"}, **ask)
        assert "access-control-allow-origin" not in response.headers


# --- calibration and abstention ---


@pytest.fixture(scope="module")
def calibrated_classifier(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(tiny_classifier, folder)
    write_calibration(folder, 2.5)
    return folder


def test_python_onnx_and_service_give_the_same_calibrated_probabilities(
    calibrated_classifier: Path, tiny_classifier: Path, open_service: Callable[..., Any], tmp_path: Path
) -> None:
    uncalibrated = Predictor.from_pretrained(str(tiny_classifier)).predict_probabilities(TEXTS)
    expected = scale_probabilities(uncalibrated, 2.5)
    assert np.abs(uncalibrated - expected).max() > 0.05
    assert np.allclose(Predictor.from_pretrained(str(calibrated_classifier)).predict_probabilities(TEXTS), expected)
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "".join(f'"{text}",{row % 2}\n' for row, text in enumerate(TEXTS)))
    export_model(str(calibrated_classifier), dataset=str(data))
    exported = Predictor.from_pretrained(str(calibrated_classifier), backend="onnx").predict_probabilities(TEXTS)
    assert np.allclose(exported, expected, atol=1e-6)
    for backend in ("torch", "onnx"):
        with open_service(model=str(calibrated_classifier), backend=backend) as opened:
            answer = opened.client.post("/query", json={"sentences": TEXTS}).json()
            assert opened.client.get("/info").json()["models"][0]["temperature"] == 2.5
        assert answer["scores"] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-6)
        assert answer["results"] == uncalibrated.argmax(axis=1).tolist()


def test_uncertain_answers_are_withheld(calibrated_classifier: Path, open_service: Callable[..., Any]) -> None:
    predictions = Predictor.from_pretrained(str(calibrated_classifier)).predict(TEXTS)
    scores = [prediction.score for prediction in predictions if prediction]
    limit = float(np.median(scores))
    with open_service(model=str(calibrated_classifier), abstain_below=limit) as opened:
        answer = opened.client.post("/query", json={"sentences": [*TEXTS, " "]}).json()
    for label, result, score, prediction in zip(
        answer["labels"], answer["results"], answer["scores"], predictions, strict=False
    ):
        assert prediction is not None
        assert score == pytest.approx(prediction.score, abs=1e-6)
        if score < limit:
            assert (label, result) == ("uncertain", None)
        else:
            assert label == prediction.label
    assert answer["labels"].count("uncertain") == 3
    assert answer["labels"][-1] is None  # a blank text has no answer at all
    with pytest.raises(InputError, match="--abstain-below 2: a probability"):
        open_service(abstain_below=2).__enter__()
