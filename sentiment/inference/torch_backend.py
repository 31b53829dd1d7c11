"""A classifier run by torch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from sentiment.environment import choose_precision
from sentiment.inference.batching import pad_batch
from sentiment.inference.checkpoint import Checkpoint
from sentiment.models.classifier import load_trained_classifier
from sentiment.models.fast_bert import pack_linears

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """A checkpoint's model on CUDA where there is one, else on the CPU.

    Args:
        checkpoint: where its weights are.
        precision: `fp32`, `bf16`, `fp16`, or `auto` for the fastest that the device has.
        threads: that torch computes one batch with, in this process; torch's own choice where left out.

    Raises:
        InputError: no weights, damaged ones, or no trained head among them.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32", threads: int | None = None):
        if threads is not None:
            torch.set_num_threads(threads)
        self.precision = choose_precision(precision)
        self.pad_token_id = checkpoint.pad_token_id
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_trained_classifier(str(checkpoint.folder), self.device)
        nn.Module.to(self.model.eval(), device=self.device, dtype=DTYPES[self.precision])
        if self.device == "cpu" and self.precision == "bf16":
            pack_linears(self.model)

    @torch.inference_mode()
    def compute_logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of one batch in fp32; shape (texts, 2)."""
        batch = pad_batch(input_ids, self.pad_token_id)
        logits = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()}).logits
        return logits.float().cpu().numpy()
