from sentiment.evaluation.error_analysis import count_fixes_and_regressions, find_most_confident_flips


def test_flips_by_slice() -> None:
    members = {"all texts": [True] * 5, "short": [True, True, False, False, False], "none": [False] * 5}
    right_a, right_b = [True, False, False, False, True], [False, True, True, False, True]
    found = {entry["name"]: entry for entry in count_fixes_and_regressions(members, right_a, right_b)}
    assert list(found) == list(members)
    assert found["all texts"] == {
        "name": "all texts", "rows": 5, "errors_a": 3, "errors_b": 2, "fixes": 2, "regressions": 1, "net": 1,
    }  # fmt: skip
    assert [found["short"][key] for key in ("rows", "errors_a", "errors_b", "fixes", "regressions", "net")] == [
        2,
        1,
        1,
        1,
        1,
        0,
    ]
    assert set(list(found["none"].values())[1:]) == {0}


def test_the_most_confident_flips_stand_first() -> None:
    first = {
        "row": [10, 11, 12, 13, 14], "text": ["a", "b", "c", "d", "e"], "label": [1, 0, 1, 0, 1],
        "predicted": [0, 1, 1, 0, 0], "probability": [0.4, 0.9, 0.8, 0.1, 0.2],
    }  # fmt: skip
    second = {**first, "text": list("ABCDE"), "predicted": [1, 0, 0, 0, 0], "probability": [0.6, 0.25, 0.25, 0.3, 0.1]}
    flips = find_most_confident_flips(first, second)
    assert [(flip["row"], flip["text"]) for flip in flips["fixes"]] == [(11, "b"), (10, "a")]
    assert flips["fixes"][0]["label"] == 0
    # Of the true label, which is negative here.
    assert (round(flips["fixes"][0]["probability_a"], 9), flips["fixes"][0]["probability_b"]) == (0.1, 0.75)
    assert [flip["row"] for flip in flips["regressions"]] == [12]
    assert [flip["row"] for flip in find_most_confident_flips(first, second, limit=1)["fixes"]] == [11]
