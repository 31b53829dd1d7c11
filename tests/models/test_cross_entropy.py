"""The cross-entropy in chunks: torch's own loss and gradient, whatever the type, the size and the divisor."""

import pytest
import torch
from torch import nn

from sentiment.models import fast_bert as cross_entropy
from sentiment.models.fast_bert import ChunkedCrossEntropy


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_torchs_own(rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", 2 * 11)  # two rows at a time
    torch.manual_seed(0)
    scores = (5 * torch.randn(rows, 11)).to(dtype).requires_grad_()
    targets = torch.randint(11, (rows,))
    divisor = torch.tensor(3)
    expected = nn.functional.cross_entropy(scores.float(), targets, reduction="sum") / divisor
    loss = ChunkedCrossEntropy.apply(scores, targets, divisor)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    # A third of it, as where three batches make one step.
    gradients = [torch.autograd.grad(value / 3, scores)[0] for value in (loss, expected)]
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(*gradients)


def test_a_hopeless_score_has_a_finite_loss() -> None:
    scores = torch.tensor([[0.0, 1000.0]], requires_grad=True)
    loss = ChunkedCrossEntropy.apply(scores, torch.tensor([0]), torch.tensor(1))
    assert loss.item() == 1000
    assert torch.autograd.grad(loss, scores)[0].tolist() == [[-1, 1]]
