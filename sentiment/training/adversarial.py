"""Adversarial training: each batch a second time, its words moved the way that hurts most."""

from typing import Any

import torch

from sentiment.training.checkpointing import CheckpointingTrainer


class AdversarialTrainer(CheckpointingTrainer):
    """A Trainer that trains on each batch twice: as it is, and with the word embeddings moved along their gradient.

    The move has the length `epsilon` over the whole embedding matrix; 0 turns the second pass off. The gradients of
    both passes add up. It costs about twice the time, and keeps a classifier from being sure of its training rows.
    Fast gradient method: Miyato, Dai & Goodfellow 2017 (arXiv:1605.07725), section 3, there on each text's embeddings.
    """

    def __init__(self, *args: Any, epsilon: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss of the batch as it is; the gradients are those of both passes."""
        loss = super().training_step(model, dict(inputs), *args, **kwargs)
        if not self.epsilon:
            return loss
        embeddings = self.accelerator.unwrap_model(model).get_input_embeddings().weight
        assert embeddings.grad is not None
        norm = embeddings.grad.norm()
        # With fp16 a gradient may overflow; the optimizer skips that step.
        if norm > 0 and torch.isfinite(norm):
            rows = inputs["input_ids"].unique().to(embeddings.device)  # of all words only these are looked up
            unmoved = embeddings.data[rows]
            embeddings.data[rows] += embeddings.grad[rows] * (self.epsilon / norm)
            super().training_step(model, dict(inputs), *args, **kwargs)
            embeddings.data[rows] = unmoved
        return loss
