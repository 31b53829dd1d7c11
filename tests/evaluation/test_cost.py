import pytest

from sentiment.evaluation.cost import SHARED_AMONG, compare_costs, count_finetunings_until_close


def test_costs_with_and_without_the_adaptation() -> None:
    cost = compare_costs(train_a=500, train_b=400, adaptation_b=1100)
    assert (cost["a"]["seconds"], cost["b"]["seconds"], cost["ratio"]) == (500, 1500, 3.0)
    shared = {share["finetunings"]: share for share in cost["shared"]}
    assert tuple(shared) == SHARED_AMONG
    assert (shared[2]["a"], shared[2]["b"], shared[2]["ratio"]) == (500, 950, 1.9)
    assert shared[10]["b"] == 510
    assert cost["close_after"] == 8  # 1100 / 8 is 137.5, of the 150 that 1.1 times A leaves; 1100 / 7 is 157


@pytest.mark.parametrize(
    ("train_b", "adaptation_b", "close_after"),
    [(100, 0, 1), (109, 1, 1), (120, 0, None), (110.1, 500, None), (100, 1000, 100), (50, 1000, 17)],
)
def test_number_after_which_the_extra_is_small(train_b: float, adaptation_b: float, close_after: int | None) -> None:
    found = count_finetunings_until_close(100, train_b, 0, adaptation_b)
    assert found == close_after
    if found and found > 1:
        assert train_b + adaptation_b / found <= 110 + 1e-9 < train_b + adaptation_b / (found - 1)


def test_both_adapted() -> None:
    cost = compare_costs(100, 100, adaptation_a=1000, adaptation_b=1000)
    assert cost["close_after"] == 1
    assert all(share["ratio"] == 1 for share in cost["shared"])
