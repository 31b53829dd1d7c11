"""The words of a verdict for every outcome."""

from typing import Any

import numpy as np
import pytest

from sentiment.evaluation.significance import compare_predictions
from sentiment.evaluation.study_effects import EFFECTS, STRATEGIES, choose_by_validation, find_paying_budget
from sentiment.reporting.verdicts import (
    describe_baselines,
    describe_chosen,
    describe_comparison,
    describe_effect,
    describe_strategies,
    describe_study,
    describe_worth,
    find_best,
    list_recommendations,
    name_budgets,
)


def compare(both: int, fixes: int, regressions: int, neither: int, clusters: Any = None) -> str:
    """The verdict where both, only B (finetune), only A (e2e) and neither classify this many rows correctly."""
    counts = [both, fixes, regressions, neither]
    labels = np.resize([0, 1, 1], sum(counts))
    wrong_a, wrong_b = np.repeat([0, 1, 0, 1], counts), np.repeat([0, 0, 1, 1], counts)
    return describe_comparison(
        "e2e", "finetune", compare_predictions(labels, labels ^ wrong_a, labels ^ wrong_b, clusters)
    )


def test_the_run_that_is_ahead_comes_first_with_a_positive_difference() -> None:
    assert compare(840, 80, 40, 40) == "finetune is better than e2e by 4.0 points (95% interval 1.8 to 6.1)."
    assert compare(840, 40, 80, 40).startswith("e2e is better than finetune by 4.0 points (95% interval 1.")


def test_an_inconclusive_difference() -> None:
    sentence = compare(900, 30, 34, 36)
    assert sentence.startswith("Inconclusive: e2e is ahead of finetune by 0.4 points (95% interval -1.")
    assert sentence.endswith("; about 31,000 test rows are needed to detect a difference of that size with 80% power.")


def test_a_tie() -> None:
    sentence = compare(900, 30, 30, 40)
    assert sentence.startswith("Inconclusive: finetune and e2e classify equally many rows correctly (95% interval")
    assert sentence.endswith("; about 4,700 test rows are needed to detect a difference of one point with 80% power.")
    assert compare(9000, 30, 30, 940).endswith("a difference of one point would be detected with 80% power.")
    assert compare(90, 0, 0, 10) == "Inconclusive: finetune and e2e classify the same rows correctly."


def test_clusters_are_named_only_if_there_are_fewer_than_rows() -> None:
    words = "; 1,000 test rows in 500 clusters of texts that contain each other)."
    assert words in compare(840, 80, 40, 40, np.arange(1000) // 2)
    assert "cluster" not in compare(840, 80, 40, 40, np.arange(1000))


def effect(budget: int, low: float, high: float, name: str = "both changes") -> dict[str, Any]:
    found = {"effect": name, "arms": list(EFFECTS[name]), "budget": budget}
    return found | {"difference": (low + high) / 2, "ci95": [low, high]}


BETTER, OPEN, WORSE = (0.01, 0.03), (-0.01, 0.01), (-0.03, -0.01)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([OPEN, OPEN], ["mlm+decay is not shown to beat e2e at any budget tried (100 and 300 labels)."]),
        (
            [BETTER, OPEN],
            ["The largest budget at which mlm+decay is shown to beat e2e is 100 labels, by 2.0 points (95%"],
        ),
        (
            [BETTER, BETTER],
            ["mlm+decay beats e2e at 300 labels, the largest budget tried", "also beats e2e at every smaller budget"],
        ),
        ([OPEN, BETTER], ["the largest budget tried", "It is not shown to beat e2e at 100 labels."]),
        ([BETTER, WORSE], ["is 100 labels", "It loses to e2e by 2.0 points (95% interval 1.0 to 3.0) at 300 labels."]),
        ([WORSE, WORSE], ["not shown to beat e2e", "at 100 labels and by 2.0 points", "at 300 labels."]),
    ],
)
def test_the_verdict_on_the_strategies(outcomes: list[tuple[float, float]], words: list[str]) -> None:
    effects = [effect(budget, *ends) for budget, ends in zip((100, 300), outcomes, strict=True)]
    sentence = describe_strategies(effects, find_paying_budget(effects))
    assert [word for word in words if word not in sentence] == []


def test_an_effect_in_one_sentence() -> None:
    name = "decay, with adaptation"
    effects = [effect(100, *BETTER, name), effect(300, *OPEN, name), effect(1000, *WORSE, name)]
    assert describe_effect(effects) == (
        "Decay, with adaptation (mlm+decay against mlm): helps at 100 labels; hurts at 1,000 labels; "
        "inconclusive at 300 labels."
    )
    assert describe_effect([effect(100, *OPEN), effect(300, *OPEN)]).endswith(": inconclusive at every budget tried.")


def test_a_study_without_both_strategies() -> None:
    effects = [effect(100, *BETTER, "adaptation, without decay")]
    summary = {"effects": effects, "adaptation_pays": None, "scores": [], "metric": "accuracy"}
    sentences = describe_study(summary | {"strategies": STRATEGIES})
    assert "does not have both e2e and mlm+decay" in sentences["sentence"]
    assert sentences["effects_in_words"] == ["Adaptation, without decay (mlm against e2e): helps at 100 labels."]


def test_collapsed_runs_are_counted_in_any_study() -> None:
    cells = [{"arm": "mlm", "budget": 100, "score": 0.6, "collapsed": 2, "per_seed": [0.6, 0.6]}]
    summary = {"effects": [], "adaptation_pays": None, "scores": cells, "metric": "macro_f1", "strategies": STRATEGIES}
    sentence = describe_study(summary)["sentence"]
    assert "2 of 2 runs have collapsed to one class: train with more epochs" in sentence
    assert sentence.endswith("All scores are macro F1.")


def test_budgets_in_words() -> None:
    assert [name_budgets(budgets) for budgets in ([100], [100, 300], [100, 300, 1000])] == [
        "100 labels", "100 and 300 labels", "100, 300 and 1,000 labels",
    ]  # fmt: skip


def test_budgets_with_collapsed_runs_have_no_verdict() -> None:
    effects = [effect(100, -0.4, -0.2) | {"collapsed": 2}, effect(1000, 0.01, 0.03) | {"collapsed": 0}]
    sentence = describe_strategies(effects, find_paying_budget(effects))
    assert "mlm+decay beats e2e at 1,000 labels" in sentence
    assert "No verdict at 100 labels: 2 runs have collapsed to one class." in sentence
    assert "loses" not in sentence
    assert "no verdict, since runs have collapsed, at 100 labels" in describe_effect(effects)


def test_a_study_says_where_a_baseline_is_not_beaten() -> None:
    cells = [
        {"arm": arm, "budget": budget, "score": accuracy, "baseline": {"name": "embeddings", "score": baseline}}
        for arm, budget, accuracy, baseline in (
            ("e2e", 100, 0.70, 0.716), ("mlm+decay", 100, 0.69, 0.65), ("e2e", 1000, 0.85, 0.74),
        )
    ]  # fmt: skip
    assert describe_baselines({"scores": cells}) == (
        "At 100 labels, no arm beats logistic regression on frozen embeddings: 71.6% against 70.0% of e2e."
    )
    for cell in cells:
        cell["baseline"] = None
    assert describe_baselines({"scores": cells}) == ""


def build_study(scores: dict[int, float], **verdicts: str) -> dict[str, Any]:
    """A summary with the verdict on strategy B, and the score of the best arm, at each budget."""
    by_budget = dict(zip(scores, verdicts.values(), strict=True))
    largest = max((size for size, verdict in by_budget.items() if verdict == "better"), default=None)
    cells = [
        {"arm": arm, "budget": size, "score": score, "per_seed": [score], "seconds": {"total": seconds}}
        for size, score in scores.items()
        for arm, seconds in (("e2e", 60.0), ("mlm+decay", 180.0))
    ]
    paying = {"budget": largest, "by_budget": by_budget}
    return {"scores": cells, "adaptation_pays": paying, "strategies": STRATEGIES, "label_worth": None} | {
        "arms": [*STRATEGIES], "adapting": ["mlm+decay"],
    }  # fmt: skip


def test_recommendations_name_only_budgets_at_which_adapting_pays() -> None:
    found = list_recommendations(
        build_study({100: 0.8, 300: 0.82, 1000: 0.85}, a="worse", b="better", c="inconclusive")
    )
    assert found[0] == "Adapt first, then fine-tune, with 300 labels; fine-tune end to end with 100 and 1,000 labels."
    assert "1 min 0 s for e2e, and 3 min 0 s for mlm+decay with its adaptation (3.0 times as long)" in found[1]
    assert found[2] == "From 300 to 1,000 labels, the best arm gains 3.0 points: label more if that is worth it."
    found = list_recommendations(build_study({100: 0.8, 300: 0.79}, a="better", b="better"))
    assert found[0] == "Adapt first, then fine-tune: it pays at every budget tried (100 and 300 labels)."
    assert found[2] == "From 100 to 300 labels, the best arm does not gain: more labels are not shown to help."
    assert "not shown to pay" in list_recommendations(build_study({100: 0.8}, a="inconclusive"))[0]
    found = list_recommendations(build_study({100: 0.8, 300: 0.79}, a="better", b="withheld"))
    assert found[0] == "Adapt first, then fine-tune: it pays at every budget that has a verdict (100 labels)."
    assert "No recommendation" in list_recommendations(build_study({100: 0.8}, a="withheld"))[0]


def test_worth_in_labels_is_said_where_it_is_seen() -> None:
    worth = {
        "largest": 10_000,
        "budgets": [
            {"budget": 100, "labels": 62.3, "ci95": [20.0, None]},
            {"budget": 300, "labels": 10.0, "ci95": [-20.0, 80.0]},
            {"budget": 1000, "labels": -123.0, "ci95": [-400.0, -15.0]},
        ],
    }
    assert describe_worth(worth) == [
        "At 100 labels, mlm+decay is worth about 62 more labels (95% interval 20 to more than 10,000).",
        "At 1,000 labels, mlm+decay costs about 120 labels (95% interval 15 to 400).",
        "At 300 labels, mlm+decay is worth no number of labels that can be seen.",
    ]
    assert describe_worth(None) == []
    most = {"largest": 10_000, "budgets": [{"budget": 100, "labels": None, "ci95": [None, None]}]}
    assert describe_worth(most, "own") == [
        "At 100 labels, own is worth more than 10,000 more labels (95% interval more than 10,000)."
    ]


def test_arms_without_an_adaptation_are_recommended_by_their_names() -> None:
    summary = build_study({100: 0.8, 300: 0.82}, a="better", b="inconclusive") | {"adapting": []}
    found = list_recommendations(summary)
    assert found[0] == "Take mlm+decay with 100 labels; take e2e with 300 labels."
    assert "1 min 0 s for e2e, and 3 min 0 s for mlm+decay (3.0 times as long)" in found[1]
    assert "adapt" not in " ".join(found).lower()


def test_the_best_arms_are_those_of_the_validation_split() -> None:
    scores = {"e2e": (0.9, 0.7), "gentle": (0.8, 0.9), "mlm": (0.6, 0.95), "mlm+decay": (0.7, 0.8)}
    cells = [
        {"arm": arm, "budget": 100, "validation": validation, "score": score}
        for arm, (validation, score) in scores.items()
    ]
    assert choose_by_validation(cells, ["mlm", "mlm+decay"]) == {100: ["e2e", "mlm+decay"]}
    assert find_best(cells)["arm"] == "e2e"
    assert choose_by_validation(cells, []) == {}
    summary = {"arms": [*scores], "chosen_by_validation": [effect(100, *BETTER) | {"arms": ["e2e", "mlm+decay"]}]}
    (sentence,) = describe_chosen(summary)
    assert "best on validation with and without adaptation, mlm+decay beats e2e by" in sentence
    assert describe_chosen(summary | {"arms": ["e2e", "mlm+decay"]}) == []
