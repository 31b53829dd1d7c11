"""What a reader must know about the data before believing a number: sizes, lengths, duplicates and leaks."""

from collections import defaultdict
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.data.leaks import SpanIndex
from sentiment.data.word_pieces import TextEncoder


def audit_splits(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> dict[str, Any]:
    """Counts of each split, and of what splits share; needs the columns `text`, `key` and `label`.

    `splits`: rows, label counts, empty texts, duplicates within the split, texts with both labels, length in tokens
    (special tokens included) and the share of texts that are cut at `max_seq_length`.
    `across`: for each two splits, how many rows of the second have a text that stands in the first.
    `test_in_train` and `test_contained_in_train`: rows of the test split that stand word for word in training, and
    rows that are a training text or a part of one. Texts are compared by their key.
    """
    encoder = TextEncoder(tokenizer)
    keys = {name: part["key"][:] for name, part in splits.items()}
    distinct = {name: set(values) for name, values in keys.items()}
    names = list(splits)
    across = {
        f"{first} & {second}": sum(key in distinct[first] for key in keys[second])
        for position, first in enumerate(names)
        for second in names[position + 1 :]
    }
    report: dict[str, Any] = {
        "max_seq_length": max_seq_length,
        "splits": {name: audit_split(part, keys[name], encoder, max_seq_length) for name, part in splits.items()},
        "across": across,
    }
    if "train" in splits and "test" in splits:
        report["test_in_train"] = count_share(key in distinct["train"] for key in keys["test"])
        contained = find_contained(distinct["test"], distinct["train"])
        report["test_contained_in_train"] = count_share(key in contained for key in keys["test"])
    return report


def audit_split(part: Dataset, keys: list[str], encoder: TextEncoder, max_seq_length: int) -> dict[str, Any]:
    """The counts of one split, see `audit_splits`."""
    labels = np.asarray(part["label"][:], dtype=int)
    labels_of: dict[str, set[int]] = defaultdict(set)
    for key, label in zip(keys, labels.tolist(), strict=True):
        labels_of[key].add(label)
    lengths = count_tokens(part, encoder)
    return {
        "rows": len(part),
        "labels": {
            "negative": int((labels == 0).sum()),
            "positive": int((labels == 1).sum()),
            "unlabelled": int((labels < 0).sum()),
        },
        "empty": sum(not text for text in part["text"][:]),
        "duplicates": len(keys) - len(labels_of),
        "both_labels": sum(len(found - {-1}) > 1 for found in labels_of.values()),
        "tokens": {
            "mean": round(float(lengths.mean()), 2),
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "share_cut": float((lengths > max_seq_length).mean()),
    }


def count_tokens(part: Dataset, encoder: TextEncoder) -> np.ndarray:
    """Length of each text in tokens, special tokens included, nothing cut; shape (rows,)."""
    batches = part.select_columns(["text"]).iter(batch_size=1000)
    return np.array([len(ids) + len(encoder.special) for batch in batches for ids in encoder.encode(batch["text"])])


def find_contained(phrases: set[str], texts: set[str]) -> set[str]:
    """The phrases that are a text or, as whole words, a part of one."""
    index = SpanIndex(phrases)
    return {phrase for text in texts for phrase in index.find_in(text)}


def count_share(flags: Any) -> dict[str, Any]:
    """How many flags are set, as `rows` and as `share` of all."""
    values = list(flags)
    return {"rows": sum(values), "share": sum(values) / len(values) if values else 0.0}
