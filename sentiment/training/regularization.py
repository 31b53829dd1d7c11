"""Losses beside the classification loss: R-Drop, and consistency on unlabelled texts (UDA)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax, pad

from sentiment.training.augmented_batches import AUGMENTED_PREFIX, UNLABELLED_PREFIX

Count = torch.Tensor | int
Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Regularization:
    """The loss of a batch with R-Drop or consistency, all of it from one forward pass with gradients.

    The passes of R-Drop and the augmented texts are rows of one larger batch: distributed training allows one forward
    pass for each backward pass, and a larger batch is faster than several.

    Args:
        classification_loss: of logits and labels, a sum over rows divided by `num_items_in_batch`, as
            `build_weighted_loss` makes it.
        rdrop_alpha: weight of `compute_rdrop_loss`; 0: off.
        consistency_weight: weight of `compute_consistency_loss`; 0: off.
        temperature: of the targets of the consistency loss.
        threshold: of their confidence.
        pad_token_id: of the tokenizer.
    """

    classification_loss: Callable[..., torch.Tensor]
    rdrop_alpha: float = 0.0
    consistency_weight: float = 0.0
    temperature: float = 0.4
    threshold: float = 0.8
    pad_token_id: int = 0

    def compute_loss(
        self, model: nn.Module, inputs: Inputs, num_items_in_batch: Count | None = None
    ) -> tuple[torch.Tensor, Any]:
        """The loss of a batch as a part of its optimizer step's, and the output for its rows."""
        labels = inputs["labels"]
        rows, count = len(labels), len(labels) if num_items_in_batch is None else num_items_in_batch
        batch: Inputs = {
            name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs
        }
        views = select_prefix(inputs, AUGMENTED_PREFIX)
        passes = 2 if self.rdrop_alpha else 1
        stacked = stack_batches([batch] * passes + ([views] if views else []), self.pad_token_id)
        targets = self.compute_targets(model, inputs) if views else None
        outputs = model(**stacked)
        logits = outputs["logits"]
        own = logits[: passes * rows]
        # The mean over the passes: each row is there `passes` times.
        loss = self.classification_loss({"logits": own}, labels.repeat(passes), num_items_in_batch=count * passes)
        if self.rdrop_alpha:
            loss = loss + self.rdrop_alpha * compute_rdrop_loss(own[:rows], own[rows:], count)
        if targets is not None:
            predicted = logits[passes * rows :]
            loss = loss + self.consistency_weight * compute_consistency_loss(
                targets, predicted, count, self.temperature, self.threshold
            )
        return loss, {"loss": loss, "logits": own[:rows]}

    @torch.no_grad()
    def compute_targets(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        """The logits of the unlabelled texts as they are."""
        logits: torch.Tensor = model(**select_prefix(inputs, UNLABELLED_PREFIX))["logits"]
        return logits


def select_prefix(inputs: Inputs, prefix: str) -> Inputs:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): values for name, values in inputs.items() if name.startswith(prefix)}


def stack_batches(batches: list[Inputs], pad_token_id: int) -> Inputs:
    """Batches as one, padded on the right to the longest of them."""
    tokens = max(batch["input_ids"].shape[1] for batch in batches)

    def stack(name: str) -> torch.Tensor:
        value = pad_token_id if name == "input_ids" else 0
        return torch.cat([pad(batch[name], (0, tokens - batch[name].shape[1]), value=value) for batch in batches])

    return {name: stack(name) for name in batches[0]}


def compute_rdrop_loss(first: torch.Tensor, second: torch.Tensor, count: Count) -> torch.Tensor:
    """The symmetric KL divergence of two passes with their own dropout: a sum over rows, divided by `count`.

    R-Drop: Liang et al. 2021 (arXiv:2106.14448), equation 2: the mean of both directions, in nats.

    >>> compute_rdrop_loss(torch.zeros(1, 2), torch.zeros(1, 2), 1)
    tensor(0.)
    """
    logs = log_softmax(first.float(), -1), log_softmax(second.float(), -1)
    both = kl_div(logs[0], logs[1], reduction="sum", log_target=True)
    both = both + kl_div(logs[1], logs[0], reduction="sum", log_target=True)
    return both / 2 / count


def compute_consistency_loss(
    targets: torch.Tensor, predicted: torch.Tensor, count: Count, temperature: float, threshold: float
) -> torch.Tensor:
    """The KL divergence of the predictions for augmented texts from those for the texts as they are.

    UDA: Xie et al. 2020 (arXiv:1904.12848), sections 2 and 2.3: targets, whose gradient must be stopped, are sharpened
    by the temperature, and rows count whose largest probability before that is above the threshold. A sum over rows,
    divided by `count`.

    >>> compute_consistency_loss(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), 1, temperature=1.0, threshold=0.8)
    tensor(0.)
    """
    targets = targets.float()
    is_confident = (targets.softmax(-1).amax(-1) > threshold).float()
    sharpened = log_softmax(targets / temperature, -1)
    divergence = kl_div(log_softmax(predicted.float(), -1), sharpened, reduction="none", log_target=True).sum(-1)
    return (divergence * is_confident).sum() / count
