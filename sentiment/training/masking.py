"""Masks for masked-language modelling: drawn anew for training, drawn once for validation.

Devlin et al. 2019 (arXiv:1810.04805), section 3.1: of the tokens to predict, 80% become the mask, 10% a random token,
and 10% stay. The labels are the collator's own: the true ids where a token is to be predicted, and -100 elsewhere.
"""

from typing import Any

from datasets import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
)


class MaskingCollator:
    """Pads a batch, and masks it unless its rows carry labels already, as those of `mask_once` do."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mlm_probability: float):
        self._mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mlm_probability)
        self._pad = DataCollatorForTokenClassification(tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch as tensors `input_ids`, `attention_mask` and `labels`, each of shape (rows, tokens)."""
        batch = (self._pad if "labels" in rows[0] else self._mask)(rows)
        return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def mask_once(texts: Dataset, tokenizer: PreTrainedTokenizerBase, mlm_probability: float, seed: int) -> Dataset:
    """The texts with masks that stay, so that evaluations compare: `input_ids`, `labels`, `length`.

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

    # In one process, and not from the cache: the collator's own generator goes on from batch to batch.
    return texts.map(
        mask, batched=True, remove_columns=["special_tokens_mask"], load_from_cache_file=False, desc="Masking"
    )
