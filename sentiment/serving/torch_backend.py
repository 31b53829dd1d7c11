"""A classifier run by torch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from sentiment.evaluation.predictions import pad_batch
from sentiment.models.classifier import load_trained_classifier
from sentiment.serving.checkpoint import Checkpoint
from sentiment.training.precision import choose_precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """A checkpoint's model on CUDA where there is one, else on the CPU.

    Args:
        checkpoint: where its weights are.
        precision: `fp32`, `bf16`, `fp16`, or `auto` for the fastest that the device has.

    Raises:
        InputError: no weights, damaged ones, or no trained head among them.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32"):
        self.precision = choose_precision(precision)
        self.pad_token_id = checkpoint.pad_token_id
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_trained_classifier(str(checkpoint.folder), device)
        nn.Module.to(self.model, DTYPES[self.precision])

    @torch.inference_mode()
    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, 2)."""
        batch = pad_batch(input_ids, self.pad_token_id)
        logits = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()}).logits
        return logits.float().cpu().numpy()
