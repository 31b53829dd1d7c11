"""Embeddings of texts: the mean of an encoder's tokens, kept in the cache of `datasets`, or a head's inputs."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from transformers import MODEL_MAPPING, PreTrainedModel

from sentiment.inference.batching import pad_batch, sort_into_batches
from sentiment.models.contrastive import PooledEncoder
from sentiment.models.loading import load_encoder_config, load_weights
from sentiment.models.masked_lm import uses_pooler
from sentiment.storage import compute_sha256, write_atomically

VERSION = 1  # of the cached values


def load_encoder(model_path: str, revision: str | None = None) -> PreTrainedModel:
    """The encoder of a checkpoint in fp32, without a head, on CUDA if available."""
    config = load_encoder_config(model_path, revision)
    model_class: Any = MODEL_MAPPING[type(config)]
    model: PreTrainedModel = load_weights(model_class, model_path, config, revision)[0]
    nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    return model.eval()


def compute_cached_embeddings(model_path: str, revision: str | None, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """The embeddings of tokenized texts, shape (texts, hidden size), computed once for these weights and tokens."""
    weights = Path(model_path) / "model.safetensors"
    identity = compute_sha256(weights) if weights.is_file() else f"{model_path} {revision}"
    key = hashlib.sha256(f"{VERSION} {identity}".encode())
    for ids in input_ids:
        key.update(np.asarray([len(ids), *ids], dtype=np.int64).tobytes())
    path = Path(datasets.config.HF_DATASETS_CACHE) / "embeddings" / f"{key.hexdigest()}.npy"
    if path.is_file():
        cached: np.ndarray = np.load(path, allow_pickle=False)
        return cached
    embeddings = compute_embeddings(load_encoder(model_path, revision), input_ids)
    with write_atomically(path) as staged, staged.open("wb") as stream:
        np.save(stream, embeddings, allow_pickle=False)
    return embeddings


def compute_embeddings(model: PreTrainedModel, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """The mean of the last layer's tokens for each text, in fp32; shape (texts, hidden size)."""

    def average(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = model(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    return embed_in_batches(model, input_ids, average)


def compute_head_inputs(model: PreTrainedModel, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """What a classifier's head starts from, for each text: the pooler's output, or the first token's without a pooler.

    Of a model with any head, in evaluation mode, in which it is not left if it was not; in fp32, shape (texts, hidden
    size).
    """

    def pool(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if isinstance(model, PooledEncoder):
            return model.pool(input_ids, attention_mask)
        outputs = model.base_model(input_ids, attention_mask=attention_mask)
        if uses_pooler(model.config) and outputs.get("pooler_output") is not None:
            pooled: torch.Tensor = outputs.pooler_output
            return pooled
        return outputs.last_hidden_state[:, 0]

    was_training = model.training
    model.eval()
    try:
        return embed_in_batches(model, input_ids, pool)
    finally:
        model.train(was_training)


@torch.inference_mode()
def embed_in_batches(
    model: PreTrainedModel,
    input_ids: Sequence[Sequence[int]],
    embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """What `embed` makes of `input_ids` and attention mask of each batch, in the order of the texts, in fp32."""
    found = np.empty((len(input_ids), model.config.hidden_size), dtype=np.float32)
    pad_token_id = model.config.pad_token_id or 0
    for batch in sort_into_batches(input_ids):
        padded = pad_batch([input_ids[place] for place in batch], pad_token_id)
        tensors = {name: torch.from_numpy(values).to(model.device) for name, values in padded.items()}
        found[batch] = embed(tensors["input_ids"], tensors["attention_mask"]).float().cpu().numpy()
    return found
