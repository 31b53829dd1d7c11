"""Contrastive losses: InfoNCE and its supervised form, over the rows of all processes."""

from typing import Any

import torch
from torch import Tensor, nn

EXCLUDED = torch.finfo(torch.float32).min  # similarity of a column that is no negative of a row; -inf can give NaN


class GatherRows(torch.autograd.Function):
    """The rows of all processes; the gradient of each row is the sum of what all processes have for it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """From shape (rows, ...) to (processes * rows, ...); each process must have as many rows."""
        ctx.count = len(rows)
        gathered = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient of this process's own rows."""
        gradient = gradients[0].contiguous()
        torch.distributed.all_reduce(gradient)
        first = torch.distributed.get_rank() * ctx.count
        return gradient[first : first + ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, those of the first process first; in a single one, the rows themselves."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return rows
    gathered: Tensor = GatherRows.apply(rows)
    return gathered


def get_first_row(count: int) -> int:
    """The place of this process's first row among those of `gather_rows`, where each process has `count`."""
    return torch.distributed.get_rank() * count if torch.distributed.is_initialized() else 0


def compute_similarities(rows: Tensor, columns: Tensor, temperature: float) -> Tensor:
    """Cosine similarities divided by the temperature, in fp32, shape (rows, columns)."""
    with torch.autocast(rows.device.type, enabled=False):
        normalize = nn.functional.normalize
        return normalize(rows.float(), dim=-1) @ normalize(columns.float(), dim=-1).T / temperature


def compute_info_nce(
    anchors: Tensor,
    positives: Tensor,
    keys: Tensor,
    temperature: float,
    negatives: Tensor | None = None,
    has_negative: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """The InfoNCE loss of each anchor in nats, shape (anchors,).

    SimCSE, Gao et al. 2021 (arXiv:2104.08821), equations 1 and 5: the cross-entropy of finding the own positive among
    those of all rows and all hard negatives, by cosine similarity.

    Args:
        anchors: shape (anchors, hidden).
        positives: shape (rows, hidden), from all processes.
        keys: of the rows, shape (rows,): texts with equal keys are equal, and no negatives of each other.
        temperature: that similarities are divided by.
        negatives: hard ones, shape (rows, hidden).
        has_negative: shape (rows,), which rows of `negatives` are any.
        first: the place of the first anchor among the rows.
    """
    similarities = compute_similarities(anchors, positives, temperature)
    targets = torch.arange(first, first + len(anchors), device=anchors.device)
    is_same = keys[targets][:, None] == keys[None, :]
    is_same[torch.arange(len(anchors)), targets] = False
    similarities = similarities.masked_fill(is_same, EXCLUDED)
    if negatives is not None and has_negative is not None:
        hard = compute_similarities(anchors, negatives, temperature).masked_fill(~has_negative.bool(), EXCLUDED)
        similarities = torch.cat([similarities, hard], dim=1)
    return nn.functional.cross_entropy(similarities, targets, reduction="none")


def compute_supervised_contrastive(
    anchors: Tensor, rows: Tensor, labels: Tensor, temperature: float, first: int = 0
) -> Tensor:
    """The supervised contrastive loss of each anchor in nats, shape (anchors,); 0 for one without a positive.

    Khosla et al. 2020 (arXiv:2004.11362), equation 2 with one view of each row: the mean cross-entropy of finding each
    row of the same label among all other rows, by cosine similarity.

    Args:
        anchors: shape (anchors, hidden).
        rows: shape (rows, hidden), from all processes; the anchors are among them.
        labels: of the rows, shape (rows,).
        temperature: that similarities are divided by.
        first: the place of the first anchor among the rows.
    """
    own = torch.arange(first, first + len(anchors), device=anchors.device)
    is_self = own[:, None] == torch.arange(len(rows), device=anchors.device)[None, :]
    similarities = compute_similarities(anchors, rows, temperature).masked_fill(is_self, EXCLUDED)
    is_positive = (labels[own][:, None] == labels[None, :]) & ~is_self
    log_probabilities = similarities.log_softmax(dim=1).masked_fill(~is_positive, 0.0)
    return -log_probabilities.sum(dim=1) / is_positive.sum(dim=1).clamp(min=1)
