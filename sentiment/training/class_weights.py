"""Weights of the classes in the training loss."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from sentiment.config.arguments import parse_weights
from sentiment.exceptions import require


def build_class_weights(class_weights: str, labels: Sequence[int], class_names: Sequence[str]) -> list[float] | None:
    """The weight of each class for `--class_weights`, of mean 1 over the training rows; None for equal weights.

    `balanced` is scikit-learn's: rows / (classes x rows of the class).

    Raises:
        InputError: not as many weights as classes.
    """
    if class_weights == "none":
        return None
    true, weights = np.asarray(labels), np.ones(len(class_names))
    if class_weights == "balanced":
        present = np.unique(true)  # a declared class may have no rows
        weights[present] = compute_class_weight("balanced", classes=present, y=true)
    else:
        weights = np.array(parse_weights(class_weights))
        require(
            len(weights) == len(class_names),
            f"--class_weights {class_weights}: {len(weights)} weights for {len(class_names)} classes "
            f"({', '.join(class_names)})",
        )
    scaled: list[float] = (weights / weights[true].mean()).tolist()
    return scaled


def build_weighted_loss(weights: Sequence[float], label_smoothing: float = 0.0) -> Callable[..., torch.Tensor]:
    """The Trainer's `compute_loss_func`: the weighted cross-entropy, a mean over the rows of an optimizer step."""

    def compute_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        losses = cross_entropy(
            logits,
            labels,
            torch.tensor(weights, device=logits.device),
            reduction="none",
            label_smoothing=label_smoothing,
        )
        return losses.sum() / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return compute_loss
