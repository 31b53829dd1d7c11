import pytest

from sentiment.evaluation.study_effects import FINETUNING_COUNTS, compare_costs, count_finetunings_to_target


def test_costs_with_and_without_the_adaptation() -> None:
    cost = compare_costs(train_a=500, train_b=400, adaptation_b=1100)
    assert (cost["a"]["seconds"], cost["b"]["seconds"], cost["ratio"]) == (500, 1500, 3.0)
    amortized = {entry["finetunings"]: entry for entry in cost["amortized"]}
    assert tuple(amortized) == FINETUNING_COUNTS
    assert (amortized[2]["a"], amortized[2]["b"], amortized[2]["ratio"]) == (500, 950, 1.9)
    assert amortized[10]["b"] == 510
    # 1.1 times A leaves 150 seconds: 1100 / 8 is 137.5, 1100 / 7 is 157.
    assert cost["finetunings_to_target"] == 8


@pytest.mark.parametrize(
    ("train_b", "adaptation_b", "expected"),
    [(100, 0, 1), (109, 1, 1), (120, 0, None), (110.1, 500, None), (100, 1000, 100), (50, 1000, 17)],
)
def test_number_of_finetunings_to_the_target_ratio(train_b: float, adaptation_b: float, expected: int | None) -> None:
    found = count_finetunings_to_target(100, train_b, 0, adaptation_b)
    assert found == expected
    if found and found > 1:
        assert train_b + adaptation_b / found <= 110 + 1e-9 < train_b + adaptation_b / (found - 1)


def test_two_adaptations_of_equal_cost() -> None:
    cost = compare_costs(100, 100, adaptation_a=1000, adaptation_b=1000)
    assert cost["finetunings_to_target"] == 1
    assert all(entry["ratio"] == 1 for entry in cost["amortized"])


def test_finetunings_to_target_by_hand() -> None:
    assert count_finetunings_to_target(500, 500, 0, 1000) == 20
