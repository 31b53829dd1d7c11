"""Masks for masked-language modelling: dynamic ones for training, static ones for validation.

Devlin et al. 2019 (arXiv:1810.04805), section 3.1: of the tokens to predict, 80% become the mask token, 10% a random
token, and 10% stay. Labels come from transformers' collator: the true ids of these tokens, and -100 elsewhere.
"""

import zlib
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, DataCollatorForTokenClassification, PreTrainedTokenizerBase

from sentiment.models.masked_lm import IGNORE_INDEX
from sentiment.training.batches import EpochTracker, build_generator

MAX_ATTEMPTS = 100


class SeededMaskingCollator:
    """Pads a batch, and masks it unless its rows have labels already, as those of `apply_static_masking` do.

    At least one token of a batch is masked, if any can be: without one it has no loss.

    Masks depend on the seed, the epoch and the texts of the batch, so that a resumed run draws the same ones.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        mlm_probability: float,
        seed: int = 0,
        tracker: EpochTracker | None = None,
    ):
        self._mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mlm_probability, seed=seed)
        self._pad = DataCollatorForTokenClassification(tokenizer)
        self._seed = seed
        self._tracker = tracker or EpochTracker()

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch as tensors `input_ids`, `attention_mask` and `labels`, each of shape (rows, tokens)."""
        if "labels" in rows[0]:
            batch = self._pad(rows)
        else:
            texts = np.concatenate([row["input_ids"] for row in rows])
            key = (self._seed, self._tracker.epoch, zlib.crc32(texts.tobytes()))
            for attempt in range(MAX_ATTEMPTS):  # short texts may have no masked token, and no loss
                self._mask.generator = build_generator(*key, *([attempt] if attempt else []))
                batch = self._mask([dict(row) for row in rows])
                if (batch["labels"] != IGNORE_INDEX).any():
                    break
        return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def apply_static_masking(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, mlm_probability: float, seed: int
) -> Dataset:
    """The texts with static masks, for comparable evaluations: `input_ids`, `labels`, `length`.

    The masks depend on the seed and the order of the texts alone.
    """
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mlm_probability, seed=seed)

    def mask(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        names = ("input_ids", "special_tokens_mask")
        rows = [dict(zip(names, values, strict=True)) for values in zip(*(batch[name] for name in names), strict=True)]
        masked = collator(rows)
        return {
            name: [values[:length].tolist() for values, length in zip(masked[name], batch["length"], strict=True)]
            for name in ("input_ids", "labels")
        }

    # In one process and not from the cache: the collator's generator advances from batch to batch.
    return texts.map(
        mask, batched=True, remove_columns=["special_tokens_mask"], load_from_cache_file=False, desc="Masking"
    )
