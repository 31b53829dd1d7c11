"""Failures of behaviour tests against known values: kinds of cases, rates, intervals, paired differences, Holm."""

import numpy as np
import pytest
from scipy.stats import binomtest

from sentiment.data.behaviour_cases import Case, load_suite
from sentiment.evaluation.behaviour import (
    Answers,
    compare_failures,
    find_constant_answer,
    find_worst_failures,
    judge_answers,
    summarize_capabilities,
    summarize_failures,
)
from sentiment.evaluation.significance import compute_holm_p

CLASSES = ("negative", "positive")


def judge(cases: list[Case], probabilities: dict[str, float]) -> Answers:
    """The answers of a model that gives these texts these probabilities of `positive`."""

    def stack(texts: list[str | None]) -> np.ndarray:
        found = np.array([np.nan if text is None else probabilities[text] for text in texts])
        return np.stack([1 - found, found], axis=1)

    expected = [-1 if case.expected is None else CLASSES.index(case.expected) for case in cases]
    return judge_answers(
        cases, expected, stack([case.text for case in cases]), stack([case.original for case in cases])
    )


def test_a_bag_of_words_fails_negation_and_nothing_that_has_the_same_words() -> None:
    """A model that counts words of praise and blame, and reads nothing else."""
    cases = load_suite(capabilities=["vocabulary", "negation", "double negation", "names", "length"]).cases
    praise = {"good", "great", "wonderful", "excellent", "superb", "brilliant", "fantastic", "outstanding", "terrific"}
    praise |= {"marvellous", "delightful", "loved", "adored", "enjoyed", "enjoy", "perfectly", "love"}
    blame = {"terrible", "awful", "dreadful", "horrible", "disappointing", "atrocious", "lousy", "abysmal", "appalling"}
    blame |= {"pathetic", "boring", "dull", "tedious", "hated", "detested", "loathed", "disliked", "broke", "regret"}

    def score(text: str) -> float:
        words = text.lower().replace(".", "").replace(",", "").split()
        balance = sum(word in praise for word in words) - sum(word in blame for word in words)
        return 1 / (1 + np.exp(-balance - 0.01))

    texts = {text: score(text) for case in cases for text in (case.text, case.original) if text}
    found = {each["name"]: each for each in summarize_capabilities(cases, [judge(cases, texts).failed])}
    rates = {name: each["models"][0]["failure_rate"] for name, each in found.items()}
    assert rates["vocabulary"] == rates["names"] == rates["length"] == 0
    assert rates["negation"] > 0.4
    assert found["names"]["models"][0]["failure_rate_ci95"] == pytest.approx([0, 0.01884], abs=1e-5)
    assert "difference" not in found["names"]


def test_each_kind_fails_where_it_should() -> None:
    cases = [
        Case("a", "minimum_functionality", "good", expected="positive"),
        Case("a", "minimum_functionality", "good", expected="negative"),
        Case("a", "invariance", "fine", original="good"),
        Case("a", "invariance", "bad", original="good"),
        Case("a", "must_not_fall", "fine", original="good", expected="positive", tolerance=0.2),
        Case("a", "must_not_fall", "fine", original="good", expected="positive", tolerance=0.1),
        Case("a", "must_not_fall", "good", original="bad", expected="negative"),
        Case("a", "must_rise", "good", original="fine", expected="positive", tolerance=0.1),
        Case("a", "must_rise", "good", original="fine", expected="positive", tolerance=0.25),
        Case("a", "must_rise", "bad", original="fine", expected="positive"),
    ]
    answers = judge(cases, {"good": 0.9, "fine": 0.75, "bad": 0.2})
    failed = [False, True, False, True, False, True, True, False, True, True]
    assert answers.failed.tolist() == failed
    severity = [0.1, 0.9, 0.15, 0.7, 0.15, 0.15, 0.7, -0.15, -0.15, 0.55]
    assert answers.severity == pytest.approx(severity)
    assert answers.label.tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 1, 0]
    assert answers.original_label.tolist() == [-1, -1, 1, 1, 1, 1, 0, 1, 1, 1]
    assert answers.probability == pytest.approx([0.9, 0.1, 0.75, 0.2, 0.75, 0.75, 0.1, 0.9, 0.9, 0.2])
    assert np.isnan(answers.original_probability).tolist() == [True] * 2 + [False] * 8


def test_invariance_of_several_classes() -> None:
    cases = [Case("a", "invariance", "x", original="y"), Case("a", "invariance", "z", original="y")]
    texts = np.array([[0.2, 0.3, 0.5], [0.2, 0.5, 0.3]])
    answers = judge_answers(cases, [-1, -1], texts, np.array([[0.1, 0.2, 0.7]] * 2))
    assert answers.failed.tolist() == [False, True]
    assert answers.severity == pytest.approx([0.2, 0.4])


def test_failure_rate_and_wilson_interval() -> None:
    found = summarize_failures([True] * 30 + [False] * 170)
    assert found["failures"] == 30
    assert found["failure_rate"] == 0.15
    assert found["failure_rate_ci95"] == pytest.approx([*binomtest(30, 200).proportion_ci(method="wilson")])


def test_paired_difference() -> None:
    failed_a = np.array([True] * 20 + [False] * 80)
    failed_b = np.array([True] * 5 + [False] * 94 + [True])
    found = compare_failures(failed_a, failed_b)
    assert (found["only_a"], found["only_b"], found["difference"]) == (15, 1, -0.14)
    assert found["mcnemar_p"] == pytest.approx(2 * 17 / 2**16)
    assert found["difference_ci95"] == pytest.approx([-0.2150, -0.0595], abs=2e-3)


def test_holm() -> None:
    assert compute_holm_p([]) == []
    assert compute_holm_p([0.5, 0.9]) == [1.0, 1.0]
    assert compute_holm_p([0.04, 0.001, 0.03, 0.02]) == pytest.approx([0.06, 0.004, 0.06, 0.06])


def test_many_capabilities_need_a_clearer_difference() -> None:
    """Eight discordant cases of one side have p 0.0078: enough for one capability, and not among ten."""
    cases = [Case(f"c{place // 50}", "invariance", f"{place}", original="x") for place in range(500)]
    failed_a = np.arange(500) < 8
    failed_b = np.zeros(500, dtype=bool)
    alone = summarize_capabilities(cases[:50], [failed_a[:50], failed_b[:50]])[0]["difference"]
    among = summarize_capabilities(cases, [failed_a, failed_b])[0]["difference"]
    assert (alone["holm_p"], alone["better"]) == (pytest.approx(2 / 2**8), "b")
    assert (among["holm_p"], among["better"]) == (pytest.approx(20 / 2**8), None)
    assert among["mcnemar_p"] == alone["mcnemar_p"]


def test_worst_failures_are_of_different_templates_first() -> None:
    scores = {"a": 0.9, "b": 0.95, "c": 0.6, "d": 0.2, "e": 0.99}
    cases = [
        Case("x", "minimum_functionality", text, expected="negative", template=template)
        for text, template in (("a", 1), ("b", 1), ("c", 2), ("d", 3))
    ]
    cases.append(Case("y", "minimum_functionality", "e", expected="negative"))
    answers = judge(cases, scores)
    assert find_worst_failures(cases, [answers], "x") == [1, 2, 0]
    assert find_worst_failures(cases, [answers], "x", limit=2) == [1, 2]
    assert find_worst_failures(cases, [answers], "y") == [4]


def test_constant_answers() -> None:
    assert find_constant_answer(np.array([1] * 99 + [0])) == 1
    assert find_constant_answer(np.array([1] * 98 + [0] * 2)) is None
