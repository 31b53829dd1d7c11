"""The contrastive losses, held against computations by hand, plain loops and torch's own cross-entropy."""

import math

import pytest
import torch
from torch.nn import functional

from sentiment.models.contrastive_losses import compute_info_nce, compute_supervised_contrastive

ROWS, HIDDEN = 6, 5
KEYS = torch.arange(ROWS)


@pytest.fixture
def embeddings() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Anchors, positives and hard negatives."""
    generator = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn(ROWS, HIDDEN, generator=generator) for _ in range(3))
    return first, second, third


def test_info_nce_by_hand() -> None:
    """Two texts at right angles; the view of the first is the text itself, that of the second lies between both."""
    anchors = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    positives = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    losses = compute_info_nce(anchors, positives, torch.arange(2), temperature=0.5)
    half = math.sqrt(0.5) / 0.5
    expected = [
        -math.log(math.exp(2) / (math.exp(2) + math.exp(half))),
        -math.log(math.exp(half) / (math.exp(0) + math.exp(half))),
    ]
    assert losses.tolist() == pytest.approx(expected)


def test_info_nce_is_the_cross_entropy_of_a_matrix_of_similarities(
    embeddings: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    anchors, positives, negatives = embeddings
    for hard in (None, negatives):
        columns = positives if hard is None else torch.cat([positives, hard])
        similarities = functional.cosine_similarity(anchors[:, None], columns[None], dim=-1) / 0.05
        expected = functional.cross_entropy(similarities, torch.arange(ROWS), reduction="none")
        has_negative = None if hard is None else torch.ones(ROWS, dtype=torch.int64)
        found = compute_info_nce(anchors, positives, KEYS, 0.05, hard, has_negative)
        assert torch.allclose(found, expected, atol=1e-5)


def test_rows_without_a_hard_negative_add_none(embeddings: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    anchors, positives, negatives = embeddings
    has_negative = torch.tensor([0, 1, 0, 0, 1, 0])
    columns = torch.cat([positives, negatives[has_negative.bool()]])
    similarities = functional.cosine_similarity(anchors[:, None], columns[None], dim=-1) / 0.1
    expected = functional.cross_entropy(similarities, torch.arange(ROWS), reduction="none")
    found = compute_info_nce(anchors, positives, KEYS, 0.1, negatives, has_negative)
    assert torch.allclose(found, expected, atol=1e-5)


def test_equal_texts_are_no_negatives_of_each_other(
    embeddings: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    anchors, positives, _ = embeddings
    keys = torch.tensor([7, 1, 2, 7, 4, 5])
    found = compute_info_nce(anchors, positives, keys, 0.1)
    columns = torch.tensor([0, 1, 2, 4, 5])
    alone = compute_info_nce(anchors[columns], positives[columns], keys[columns], 0.1)
    assert found[0] == pytest.approx(float(alone[0]))
    assert found[1] > alone[1]  # to the others, both are negatives


def test_anchors_of_a_process_are_compared_with_the_rows_of_all(
    embeddings: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    anchors, positives, _ = embeddings
    whole = compute_info_nce(anchors, positives, KEYS, 0.05)
    part = compute_info_nce(anchors[4:], positives, KEYS, 0.05, first=4)
    assert torch.allclose(part, whole[4:])
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    whole = compute_supervised_contrastive(anchors, anchors, labels, 0.1)
    assert torch.allclose(compute_supervised_contrastive(anchors[2:4], anchors, labels, 0.1, first=2), whole[2:4])


def test_supervised_contrastive_loss_as_a_loop(embeddings: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Equation 2 of the paper, term by term; the last row is the only one of its class."""
    anchors, labels, temperature = functional.normalize(embeddings[0], dim=1), [0, 1, 0, 1, 0, 2], 0.1
    expected = []
    for row in range(ROWS):
        others = [other for other in range(ROWS) if other != row]
        scores = {other: math.exp(float(anchors[row] @ anchors[other]) / temperature) for other in others}
        positives = [other for other in others if labels[other] == labels[row]]
        terms = [-math.log(scores[other] / sum(scores.values())) for other in positives]
        expected.append(sum(terms) / len(terms) if terms else 0.0)
    found = compute_supervised_contrastive(embeddings[0], embeddings[0], torch.tensor(labels), temperature)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    assert found[-1] == 0


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_without_positives_or_negatives_has_gradients_that_are_numbers(rows: int) -> None:
    anchors = torch.randn(rows, HIDDEN, requires_grad=True)
    labels = torch.arange(rows)
    loss = compute_supervised_contrastive(anchors, anchors, labels, 0.05).sum()
    loss = loss + compute_info_nce(anchors, anchors, labels, 0.05).sum()
    loss.backward()
    assert anchors.grad is not None
    assert bool(anchors.grad.isfinite().all())
