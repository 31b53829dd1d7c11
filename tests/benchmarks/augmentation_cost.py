"""Milliseconds that a batch of 32 rows takes in the collator, by kind of augmentation, with every row augmented.

SENTIMENT_DATA_DIR=DIR OMP_NUM_THREADS=1 python tests/benchmarks/augmentation_cost.py
"""

import time
from typing import Any

import torch
from transformers import AutoTokenizer

from sentiment.data.augmentation import AUGMENTATIONS, Material
from sentiment.data.augmentation.augmenter import Augmenter
from sentiment.data.sources import load_reviews
from sentiment.demo.embedded import fetch_minilm
from sentiment.models.masked_lm import load_masked_lm
from sentiment.models.word_proposals import WordProposer
from sentiment.training.augmented_batches import POSITION, AugmentingCollator
from sentiment.training.batches import EpochTracker

ROWS, BATCH, TOKENS = 960, 32, 128
MASKED_LM_ROWS = 64  # each costs a forward pass


def main() -> None:
    """Prints a line for each dataset and kind."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(fetch_minilm())
    model, _ = load_masked_lm(str(fetch_minilm()))  # its head is new, which costs the same
    for dataset in ("sst2", "imdb"):
        reviews = load_reviews(dataset)["train"].select(range(ROWS))
        material = Material(reviews["text"][:], [row % 2 for row in range(ROWS)], "en")
        proposing = Material(material.texts, material.labels, "en", WordProposer(model, tokenizer, TOKENS))
        print(f"{dataset:5} {'no augmentation':15} {measure(tokenizer, Augmenter({}, 0.0, material, 'light', 0)):8.1f}")
        for name, kind in AUGMENTATIONS.items():
            strengths = {name: 0.1 if kind.unit == "words" else 1.0}
            augmenter = Augmenter(strengths, float(kind.unit == "words"), proposing, "light", 0)
            rows = MASKED_LM_ROWS if name == "masked_lm" else ROWS
            print(f"{dataset:5} {name:15} {measure(tokenizer, augmenter, rows):8.1f}")


def measure(tokenizer: Any, augmenter: Augmenter, count: int = ROWS) -> float:
    """The mean milliseconds of a batch."""
    collator = AugmentingCollator(tokenizer, augmenter, TOKENS, "head", EpochTracker())
    texts, labels = augmenter.material.texts, augmenter.material.labels
    encoded = collator.encode(texts)
    rows = [{"input_ids": ids, "labels": labels[row], POSITION: row} for row, ids in enumerate(encoded)]
    collator(rows[:BATCH])  # reads the word lists
    start = time.perf_counter()
    for first in range(0, count, BATCH):
        collator(rows[first : first + BATCH])
    return (time.perf_counter() - start) * 1000 * BATCH / count


if __name__ == "__main__":
    main()
