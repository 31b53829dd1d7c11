"""Class weights: their values, the loss that they give, and what they do to a rare class."""

import pytest
import torch

from sentiment.exceptions import InputError
from sentiment.training.class_weights import build_class_weights, build_weighted_loss


def test_weights_of_classes() -> None:
    labels = [0] * 6 + [1] * 3
    assert build_class_weights("none", labels, ["a", "b"]) is None
    assert build_class_weights("balanced", labels, ["a", "b"]) == pytest.approx([0.75, 1.5])
    assert build_class_weights("1,4", labels, ["a", "b"]) == pytest.approx([0.5, 2.0])
    with pytest.raises(InputError, match="--class_weights 1,4,2: 3 weights for 2 classes \\(a, b\\)"):
        build_class_weights("1,4,2", labels, ["a", "b"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_that_of_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(12, 3), torch.arange(12) % 3, [0.5, 1.0, 1.5]
    found = build_weighted_loss(weights, smoothing)({"logits": logits}, labels)
    # With as many rows of each class and weights of mean 1, torch's weighted mean has the same divisor.
    expected = torch.nn.CrossEntropyLoss(torch.tensor(weights), label_smoothing=smoothing)(logits, labels)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_micro_batches_add_up_to_the_loss_of_the_step() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(10, 2), torch.tensor([0] * 7 + [1] * 3)
    loss = build_weighted_loss([0.7, 1.7])
    parts = [loss({"logits": logits[rows]}, labels[rows], 10) for rows in (slice(0, 4), slice(4, 10))]
    assert sum(parts).item() == pytest.approx(loss({"logits": logits}, labels).item(), abs=1e-6)  # type: ignore[union-attr]


def test_a_declared_class_without_rows_is_no_error() -> None:
    assert build_class_weights("balanced", [0] * 6 + [1] * 3, ["a", "b", "c"]) == pytest.approx([0.75, 1.5, 1.0])
