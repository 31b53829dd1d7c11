"""Training batches whose rows are augmented anew in each epoch, and unlabelled texts beside them in two views."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from sentiment.data.augmentation.augmenter import Augmenter
from sentiment.data.tokenization import get_backend
from sentiment.data.truncation import encode_truncated
from sentiment.training.batches import EpochTracker

POSITION = "position"  # column of the training data: the number of the row
UNLABELLED_PREFIX = "unlabelled_"  # of the names of the tensors of unlabelled texts
AUGMENTED_PREFIX = "augmented_"  # of those of their augmented views
UNLABELLED_STREAM = 2  # of random numbers; 0 and 1 are the augmenter's


class AugmentingCollator:
    """Augments the rows of a batch, tokenizes those that changed, and pads all.

    What a row becomes depends on the seed, the epoch and its number (`Augmenter`), so that a resumed run trains on the
    same rows. With `unlabelled_texts`, each row brings one of them, drawn in the same way, and its augmented view.

    Args:
        tokenizer: of the model.
        augmenter: knows the texts and labels of the rows.
        max_seq_length: tokens of the longest sequence, special tokens included.
        truncation: what is kept of longer texts, as in `tokenize_reviews`.
        tracker: knows the epoch; shared with the Trainer.
        unlabelled_texts: cleaned texts for consistency training.
        seed: of the draws of unlabelled texts.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        augmenter: Augmenter,
        max_seq_length: int,
        truncation: str,
        tracker: EpochTracker,
        unlabelled_texts: Sequence[str] = (),
        seed: int = 0,
    ):
        self._pad = DataCollatorWithPadding(tokenizer)
        self._tokenizer = tokenizer
        self._augmenter = augmenter
        self._max_seq_length, self._truncation = max_seq_length, truncation
        self._tracker = tracker
        self._unlabelled_texts = unlabelled_texts
        self._seed = seed

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch as tensors `input_ids`, `attention_mask` and `labels`, and those of unlabelled texts.

        Rows without a number are those of an evaluation, which are padded alone.
        """
        if POSITION not in rows[0]:
            return dict(self._pad(rows))
        epoch = self._tracker.epoch
        examples = [self._augmenter.augment_row(row[POSITION], epoch) for row in rows]
        changed = [place for place, example in enumerate(examples) if example.kind is not None]
        encoded = dict(zip(changed, self.encode([examples[place].text for place in changed]), strict=True))
        batch = self._pad(
            [
                {"input_ids": encoded.get(place, row["input_ids"]), "labels": examples[place].label}
                for place, row in enumerate(rows)
            ]
        )
        return dict(batch) | self.build_unlabelled([row[POSITION] for row in rows], epoch)

    def build_unlabelled(self, positions: Sequence[int], epoch: int) -> dict[str, torch.Tensor]:
        """The tensors of one unlabelled text for each row, and of their augmented views; none without such texts."""
        if not len(self._unlabelled_texts):
            return {}
        texts, views = [], []
        for position in positions:
            generator = np.random.default_rng((self._seed, epoch, position, UNLABELLED_STREAM))
            text = self._unlabelled_texts[int(generator.integers(len(self._unlabelled_texts)))]
            texts.append(text)
            views.append(self._augmenter.augment_text(text, epoch, position))
        tensors: dict[str, torch.Tensor] = {}
        for prefix, own in ((UNLABELLED_PREFIX, texts), (AUGMENTED_PREFIX, views)):
            padded = self._pad([{"input_ids": ids} for ids in self.encode(own)])
            tensors |= {prefix + name: values for name, values in padded.items()}
        return tensors

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts, truncated as those of the other splits."""
        if not texts:
            return []
        backend = get_backend(self._tokenizer)
        return encode_truncated(backend, texts, self._max_seq_length, self._truncation)[0]
