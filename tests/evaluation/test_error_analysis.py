from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizerFast

from sentiment.evaluation.error_analysis import (
    ENGLISH_SLICES,
    compute_slice_metrics,
    count_fixes_and_regressions,
    find_most_confident_errors,
    find_most_confident_flips,
    list_slices,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "dull", "but", "not"]
NEGATION, CONTRAST = ENGLISH_SLICES


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={token: index for index, token in enumerate(VOCABULARY)})


def make_columns(labels: list[int], predicted: list[int], **others: list[Any]) -> dict[str, list[Any]]:
    rows = len(labels)
    columns = {"row": list(range(rows)), "text": ["a"] * rows, "score": [0.9] * rows}
    return columns | {"label": labels, "predicted": predicted} | others


def test_error_rates_by_slice(tokenizer: BertTokenizerFast) -> None:
    texts = ["good", "dull", "not good", "good but dull"]
    metrics = compute_slice_metrics(make_columns([1, 0, 0, 0], [1, 1, 1, 0], text=texts), tokenizer)
    slices = {entry["name"]: entry for entry in metrics}
    assert list(slices) == ["all texts", *list_slices("en")]
    assert slices["all texts"]["rows"] == 4
    assert slices["all texts"]["errors"] == 2
    assert slices["1 word"]["error_rate"] == 0.5
    assert slices[NEGATION]["error_rate"] == 1.0
    assert slices[CONTRAST]["error_rate"] == 0.0
    assert slices["1 word"]["error_rate_ci95"] == pytest.approx([0.0945, 0.9055], abs=1e-4)
    assert slices["over 20 words"] == {
        "name": "over 20 words", "rows": 0, "errors": 0, "error_rate": None, "error_rate_ci95": None,
    }  # fmt: skip


def test_clusters_widen_the_intervals_of_slices_with_several_rows_of_a_cluster(tokenizer: BertTokenizerFast) -> None:
    columns = make_columns([1] * 40, [1] * 20 + [0] * 20, text=["good"] * 38 + ["not good"] * 2)
    independent, clustered = (
        {entry["name"]: entry["error_rate_ci95"] for entry in compute_slice_metrics(columns, tokenizer, clusters)}
        for clusters in (None, [row // 4 for row in range(38)] + [98, 99])
    )
    for name in ("all texts", "1 word"):
        assert clustered[name][0] < independent[name][0] < independent[name][1] < clustered[name][1]
    assert clustered[NEGATION] == independent[NEGATION]


def test_no_texts(tokenizer: BertTokenizerFast) -> None:
    assert all(entry["rows"] == 0 for entry in compute_slice_metrics(make_columns([], []), tokenizer))


def test_most_confident_errors_are_sorted_by_confidence_and_then_by_row() -> None:
    columns = make_columns([1, 1, 0, 0, 1], [0, 1, 1, 1, 0], score=[0.75, 0.99, 0.75, 0.9, 0.6])
    errors = find_most_confident_errors(columns)
    assert [(error["row"], error["confidence"]) for error in errors] == [(3, 0.9), (0, 0.75), (2, 0.75), (4, 0.6)]
    many = make_columns([1] * 30, [0] * 30)
    assert find_most_confident_errors(many, limit=2)[-1]["row"] == 1
    assert len(find_most_confident_errors(many)) == 20


def test_fixes_and_regressions_by_slice() -> None:
    masks = {"all texts": [True] * 5, "short": [True, True, False, False, False], "none": [False] * 5}
    correct_a, correct_b = [True, False, False, False, True], [False, True, True, False, True]
    counts = count_fixes_and_regressions({name: np.array(mask) for name, mask in masks.items()}, correct_a, correct_b)
    found = {entry["name"]: entry for entry in counts}
    assert list(found) == list(masks)
    assert found["all texts"] == {
        "name": "all texts", "rows": 5, "errors_a": 3, "errors_b": 2, "fixes": 2, "regressions": 1, "net": 1,
    }  # fmt: skip
    assert list(found["short"].values())[1:] == [2, 1, 1, 1, 1, 0]
    assert set(list(found["none"].values())[1:]) == {0}


def test_most_confident_flips_are_sorted_by_the_change_of_probability() -> None:
    first = {
        "row": [10, 11, 12, 13, 14], "text": ["a", "b", "c", "d", "e"], "label": [1, 0, 1, 0, 1],
        "predicted": [0, 1, 1, 0, 0],
        "p_negative": [0.6, 0.1, 0.2, 0.9, 0.8], "p_positive": [0.4, 0.9, 0.8, 0.1, 0.2],
    }  # fmt: skip
    second = {**first, "text": list("ABCDE"), "predicted": [1, 0, 0, 0, 0]}
    second |= {"p_negative": [0.4, 0.75, 0.75, 0.7, 0.9], "p_positive": [0.6, 0.25, 0.25, 0.3, 0.1]}
    flips = find_most_confident_flips(first, second)
    assert [(flip["row"], flip["text"]) for flip in flips["fixes"]] == [(11, "b"), (10, "a")]
    assert flips["fixes"][0]["label"] == 0
    # The probabilities of the true label, which is negative here.
    assert (round(flips["fixes"][0]["probability_a"], 9), flips["fixes"][0]["probability_b"]) == (0.1, 0.75)
    assert [flip["row"] for flip in flips["regressions"]] == [12]
    assert [flip["row"] for flip in find_most_confident_flips(first, second, limit=1)["fixes"]] == [11]


def test_small_examples_by_hand() -> None:
    columns = {"row": [7, 8], "text": ["fine", "dull"], "label": [1, 0], "predicted": [1, 1]}
    assert find_most_confident_errors(columns | {"score": [0.9, 0.75]}) == [
        {"row": 8, "text": "dull", "label": 0, "predicted": 1, "confidence": 0.75}
    ]
    assert count_fixes_and_regressions({"all": np.ones(3, bool)}, [True, False, False], [False, True, True]) == [
        {"name": "all", "rows": 3, "errors_a": 2, "errors_b": 1, "fixes": 2, "regressions": 1, "net": 1}
    ]
