"""Labelled rows of any dataset, with the labels of a trained classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset

from sentiment.data.cleaning import is_blank
from sentiment.data.labels import LabelOptions, align_labels
from sentiment.data.sources import load_reviews
from sentiment.data.splits import choose_labelled_split, count_left_out, join_labelled
from sentiment.exceptions import require

DEFAULT_SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows with `row`, `text` and `label`, where they come from, and how many rows were left out."""

    dataset: str
    split: str
    rows: Dataset
    blank: int
    unlabelled: int
    unmapped: int  # left out by --label_mapping

    def __str__(self) -> str:
        counts = {"with a blank text": self.blank, "without a label": self.unlabelled}
        counts["by --label_mapping"] = self.unmapped
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
        line = f"{self.dataset}, split {self.split}: {len(self.rows):,} labelled rows"
        return f"{line}; left out: {left_out}" if left_out else line

    @property
    def texts(self) -> list[str]:
        """The raw texts."""
        texts: list[str] = self.rows["text"][:]
        return texts

    def align_labels(self, class_names: Sequence[str], model: str) -> np.ndarray:
        """The labels as numbers of the model's classes, shape (rows,); raises InputError if the model lacks one."""
        order = align_labels(self.rows.features["label"].names, class_names, self.dataset, model)
        return np.asarray(order)[self.rows["label"][:]]


def load_labelled_rows(
    dataset: str,
    class_names: Sequence[str],
    data_dir: str | None = None,
    split: str | None = None,
    labels: LabelOptions | None = None,
    **reading: Any,
) -> LabelledRows:
    """The labelled rows with a text of a split, by default of the first of `DEFAULT_SPLITS` that has some.

    `class_names` are those of the model that the rows are for, `reading` further arguments of `load_reviews`. Raises
    InputError if there are none.
    """
    options = replace(labels or LabelOptions(), known=tuple(class_names))
    reviews = load_reviews(dataset, data_dir, labels=options, **reading)
    name = choose_labelled_split(reviews, [split] if split else DEFAULT_SPLITS)
    rows = join_labelled(reviews, [name])
    filled = np.flatnonzero([not is_blank(text) for text in rows["text"][:]])
    require(len(filled) > 0, f"{dataset}, split {name}: every labelled row has a blank text")
    left_out = count_left_out(reviews, [name])
    counts = len(rows) - len(filled), left_out["unlabelled"], left_out["left_out_by_mapping"]
    return LabelledRows(dataset, name, rows.select(filled), *counts)
