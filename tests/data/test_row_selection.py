"""Label budgets: drawn with the label shares, the smaller within the larger."""

from collections.abc import Callable

import pytest
from datasets import Dataset, DatasetDict

from sentiment.data.assignment import sample_training_rows
from sentiment.exceptions import InputError


@pytest.fixture
def part(build_reviews: Callable[..., DatasetDict]) -> Dataset:
    """400 rows, a quarter of them positive."""
    return build_reviews(train=[(f"text {row}", int(row % 4 == 0)) for row in range(400)])["train"]


@pytest.mark.parametrize("rows", [4, 10, 100, 399, 400])
def test_a_budget_has_its_rows_and_the_label_shares(part: Dataset, rows: int) -> None:
    drawn = sample_training_rows(part, rows, seed=1)
    assert len(set(drawn["text"])) == len(drawn) == rows
    assert abs(sum(drawn["label"]) - rows / 4) <= 1
    order = [int(text.split()[1]) for text in drawn["text"]]
    assert order == sorted(order)


def test_a_smaller_budget_is_part_of_a_larger_one_and_seeds_differ(part: Dataset) -> None:
    drawn = {rows: set(sample_training_rows(part, rows, seed=1)["text"]) for rows in (10, 50, 200)}
    assert drawn[10] < drawn[50] < drawn[200]
    assert drawn[50] != set(sample_training_rows(part, 50, seed=2)["text"])


@pytest.mark.parametrize(("rows", "message"), [(401, "has 400 rows"), (1, "both labels")])
def test_a_budget_that_cannot_be_drawn(part: Dataset, rows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_training_rows(part, rows, seed=1)
