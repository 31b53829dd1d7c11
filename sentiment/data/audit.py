"""Audit of splits: sizes, lengths, duplicates and leaks."""

from itertools import combinations
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.data.cleaning import is_blank
from sentiment.data.labels import LEFT_OUT
from sentiment.data.leaks import SpanIndex
from sentiment.data.splits import collect_labels
from sentiment.data.tokenization import count_special_tokens, encode_texts


def audit_splits(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> dict[str, Any]:
    """Counts of each split (`audit_split`) and of overlaps between splits, where texts are compared by their `key`.

    - `across`: for each two splits, the rows of the second whose text is in the first.
    - `test_in_train`, `test_contained_in_train`: test rows whose text is a training text, or one or a part of one.
    """
    keys = {name: part["key"][:] for name, part in splits.items()}
    distinct = {name: set(values) for name, values in keys.items()}
    report: dict[str, Any] = {
        "max_seq_length": max_seq_length,
        "splits": {name: audit_split(part, tokenizer, max_seq_length) for name, part in splits.items()},
        "across": {
            f"{first} & {second}": sum(key in distinct[first] for key in keys[second])
            for first, second in combinations(splits, 2)
        },
    }
    if "train" in splits and "test" in splits:
        contained = find_contained(distinct["test"], distinct["train"])
        for name, found in (("test_in_train", distinct["train"]), ("test_contained_in_train", contained)):
            rows = sum(key in found for key in keys["test"])
            report[name] = {"rows": rows, "share": rows / len(keys["test"]) if rows else 0.0}
    return report


def audit_split(part: Dataset, tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> dict[str, Any]:
    """Rows, labels, empty texts, duplicates, texts with several labels, lengths in tokens, share of truncated texts."""
    keys, labels = part["key"][:], np.asarray(part["label"][:], dtype=int)
    labels_of = collect_labels(keys, labels.tolist())
    class_names = part.features["label"].names
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
    batches = part.select_columns(["text"]).iter(batch_size=1000)
    tokens, unknown = [], 0
    for batch in batches:
        for ids in encode_texts(batch["text"], tokenizer):
            tokens.append(len(ids))
            unknown += ids.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
    lengths = np.array(tokens) + count_special_tokens(tokenizer)
    is_cut = lengths > max_seq_length
    return {
        "rows": len(part),
        "labels": dict(zip(class_names, counts.tolist(), strict=True)) | {"unlabelled": int((labels < 0).sum())},
        "left_out_by_mapping": int((labels == LEFT_OUT).sum()),  # among the unlabelled
        "empty": sum(map(is_blank, part["text"][:])),
        "duplicates": sum(map(bool, keys)) - sum(map(bool, labels_of)),
        "both_labels": sum(sum(label >= 0 for label in found) > 1 for key, found in labels_of.items() if key),
        "tokens": {
            "mean": round(float(lengths.mean()), 2),
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "share_unknown": unknown / max(1, sum(tokens)),
        "share_cut": float(is_cut.mean()),
        "share_cut_by_class": {
            name: float(is_cut[labels == label].mean()) for label, name in enumerate(class_names) if counts[label]
        },
    }


def find_contained(phrases: set[str], texts: set[str]) -> set[str]:
    """The phrases that are one of the texts or, as whole words, a part of one."""
    index = SpanIndex(phrases)
    return {phrase for text in texts for phrase in index.find_in(text)}
