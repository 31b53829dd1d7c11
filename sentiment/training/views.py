"""Views of texts for contrastive objectives: other ones, hard negatives, and keys that say which texts are equal."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from sentiment.data.tokenization import get_backend
from sentiment.data.truncation import encode_truncated
from sentiment.training.batches import EpochTracker
from sentiment.training.masking import SeededMaskingCollator

POSITIVE, NEGATIVE = "positive_input_ids", "negative_input_ids"  # columns of static views; no tokens where none exists
DELETED_SHARE = 0.1  # of the tokens, in the views of validation texts
Row = dict[str, Any]
# Another text, or None where that cannot be done well.
ChangeText = Callable[[str, np.random.Generator], str | None]


def compute_key(input_ids: Sequence[int]) -> int:
    """A hash of a text's tokens (CRC-32).

    >>> compute_key([101, 7, 102]) == compute_key((101, 7, 102)) != compute_key([101, 8, 102])
    True
    """
    return zlib.crc32(np.asarray(input_ids, dtype=np.int64).tobytes())


class ContrastiveCollator:
    """Pads texts as `ContrastiveEncoder` takes them: `input_ids`, `attention_mask`, keys as `labels`, hard negatives.

    Rows with static views (`add_static_views`) bring their other view and their hard negative along. For other rows
    the other view is the text itself or what `augment` makes of it, and augmented views and hard negatives depend on
    the seed, the epoch and the text alone, so that a resumed run draws the same ones.

    Args:
        tokenizer: of the texts, with the length that they are truncated to.
        reverse: makes a hard negative of a row's `text`; None for no hard negatives.
        augment: makes another view of a row's `text`; None for views that differ in dropout alone.
        seed: of what is random.
        tracker: knows the epoch.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        reverse: ChangeText | None = None,
        seed: int = 0,
        tracker: EpochTracker | None = None,
        augment: ChangeText | None = None,
    ):
        self._tokenizer = tokenizer
        self._reverse = reverse
        self._augment = augment
        self._seed = seed
        self._tracker = tracker or EpochTracker()

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """The batch as tensors."""
        batch = self.pad([row["input_ids"] for row in rows])
        batch["labels"] = torch.tensor([compute_key(row["input_ids"]) for row in rows])
        if POSITIVE in rows[0]:
            batch |= self.pad([row[POSITIVE] for row in rows], "positive_")
        elif self._augment is not None:
            views = self.change_texts(rows, self._augment, 1)
            own = [view or row["input_ids"] for view, row in zip(views, rows, strict=True)]
            batch |= self.pad(own, "positive_")
        if self._reverse is not None:
            is_static = NEGATIVE in rows[0]
            negatives = [row[NEGATIVE] for row in rows] if is_static else self.change_texts(rows, self._reverse, 0)
            places = [place for place, ids in enumerate(negatives) if ids]
            batch["negative_rows"] = torch.tensor(places, dtype=torch.int64)
            if places:
                batch |= self.pad([negatives[place] for place in places], "negative_")
        return batch

    def pad(self, input_ids: Sequence[Sequence[int]], prefix: str = "") -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask`, padded to the longest text."""
        padded = self._tokenizer.pad([{"input_ids": list(ids)} for ids in input_ids], return_tensors="pt")
        return {f"{prefix}{name}": padded[name] for name in ("input_ids", "attention_mask")}

    def change_texts(self, rows: list[Row], change: ChangeText, stream: int) -> list[Sequence[int]]:
        """The token ids of each row's changed text, none where it cannot be changed.

        `stream` keeps the random numbers of two changes apart.
        """
        keys = [(self._seed, self._tracker.epoch, compute_key(row["input_ids"]), stream) for row in rows]
        changed = [change(row["text"], np.random.default_rng(key)) for row, key in zip(rows, keys, strict=True)]
        return encode_changed(changed, self._tokenizer)


class JointCollator:
    """Batches of `ContrastiveCollator` beside masked ones of `SeededMaskingCollator`, as `JointModel` takes them."""

    def __init__(self, views: ContrastiveCollator, masking: SeededMaskingCollator):
        self._views = views
        self._masking = masking

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """The batch as tensors; rows with static masks bring `masked_input_ids` and `labels` along."""
        names = {"input_ids": "anchor_input_ids", "labels": "text_keys"}
        views = {names.get(name, name): tensor for name, tensor in self._views(rows).items()}
        columns = ("input_ids", "special_tokens_mask", "labels")
        masked = [
            {name: row[name] for name in columns if name in row}
            | ({"input_ids": row["masked_input_ids"]} if "masked_input_ids" in row else {})
            for row in rows
        ]
        return self._masking(masked) | {name: views[name] for name in views if name != "attention_mask"}


class LabelledCollator(ContrastiveCollator):
    """Pads labelled texts as `SupervisedContrastiveEncoder` takes them: classes as `labels`, and `text_keys`."""

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """The batch as tensors."""
        batch = super().__call__(rows)
        return batch | {"text_keys": batch["labels"], "labels": torch.tensor([row["labels"] for row in rows])}


def encode_changed(texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase) -> list[Sequence[int]]:
    """The token ids of each text, truncated to the tokenizer's length; none for None."""
    given = [text for text in texts if text is not None]
    encoded, _ = encode_truncated(get_backend(tokenizer), given, tokenizer.model_max_length, "head")
    following = iter(encoded)
    return [[] if text is None else next(following) for text in texts]


def add_static_views(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, reverse: ChangeText | None, seed: int
) -> Dataset:
    """The texts with another view each, in which a tenth of the tokens is deleted, and hard negatives if there are any.

    They depend on the seed and the texts alone: each evaluation compares the same views, whatever the batch, the number
    of processes or the model's dropout.
    """

    def add(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        generators = [np.random.default_rng((seed, compute_key(ids))) for ids in batch["input_ids"]]
        added: dict[str, list[Any]] = {
            POSITIVE: [
                delete_tokens(ids, mask, generator)
                for ids, mask, generator in zip(
                    batch["input_ids"], batch["special_tokens_mask"], generators, strict=True
                )
            ]
        }
        if reverse is not None:
            changed = [reverse(text, generator) for text, generator in zip(batch["text"], generators, strict=True)]
            added[NEGATIVE] = encode_changed(changed, tokenizer)
        return added

    return texts.map(add, batched=True, load_from_cache_file=False, desc="Views")


def delete_tokens(
    input_ids: Sequence[int], special_tokens_mask: Sequence[int], generator: np.random.Generator
) -> list[int]:
    """The text without a tenth of its tokens, at least one, if it has two; special tokens stay.

    >>> delete_tokens([101, 7, 102], [1, 0, 1], np.random.default_rng(0))
    [101, 7, 102]
    >>> delete_tokens([101, 7, 8, 102], [1, 0, 0, 1], np.random.default_rng(0))
    [101, 8, 102]
    """
    places = np.flatnonzero(np.asarray(special_tokens_mask) == 0)
    count = max(1, round(DELETED_SHARE * len(places))) if len(places) > 1 else 0
    deleted = set(generator.permutation(places)[:count].tolist())
    return [token for place, token in enumerate(input_ids) if place not in deleted]
