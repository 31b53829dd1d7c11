"""Which rows of an epoch are augmented, by which kind, and what becomes of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sentiment.data.augmentation import AUGMENTATIONS, compute_row_shares
from sentiment.data.augmentation.base import Augmentation, Example, Material
from sentiment.data.cleaning import CLEANINGS, is_blank

# Streams of random numbers, so that the views of unlabelled texts do not repeat those of labelled rows.
LABELLED, UNLABELLED = 0, 1


class AugmentedExample(NamedTuple):
    """An example after augmentation, and the kind that changed it; None for one that stayed as it was."""

    text: str
    label: int
    kind: str | None


class Augmenter:
    """Augments the rows of a training split, anew in each epoch.

    A row gets at most one kind, each with the probability of `compute_row_shares`; where that kind can change nothing,
    the row stays as it is. What becomes of a row depends on the seed, the epoch and the row's number alone: not on its
    batch, the number of processes, or where a run was resumed.

    Args:
        strengths: of each kind of `AUGMENTATIONS`, checked by `check_augmentations`.
        augmented_share: share of an epoch's rows that get one of the kinds that change words.
        material: what kinds may draw from, and the rows that are numbered.
        cleaning: of the rows, which have been cleaned; what kinds add is cleaned in the same way.
        seed: of the random numbers.
    """

    def __init__(
        self, strengths: Mapping[str, float], augmented_share: float, material: Material, cleaning: str, seed: int
    ):
        self.material = material
        self.kinds: dict[str, Augmentation] = {
            name: AUGMENTATIONS[name](strength, material) for name, strength in strengths.items()
        }
        shares = compute_row_shares(strengths, augmented_share)
        self._names = [*shares]
        self._bounds = np.cumsum([shares[name] for name in self._names])
        self._clean = CLEANINGS[cleaning] if cleaning == "classic" else str
        self._seed = seed

    def augment_row(self, row: int, epoch: int) -> AugmentedExample:
        """The row of this number, as it is trained on in this epoch."""
        example = Example(self.material.texts[row], self.material.labels[row])
        generator = np.random.default_rng((self._seed, epoch, row, LABELLED))
        place = int(np.searchsorted(self._bounds, generator.random(), side="right"))
        if place == len(self._names):
            return AugmentedExample(*example, None)
        name = self._names[place]
        changed = self.kinds[name].augment(example, generator)
        return self._finish(example, changed, name)

    def augment_text(self, text: str, epoch: int, row: int) -> str:
        """A view of an unlabelled text by one of the kinds that keep the label, the first of them that changes it."""
        generator = np.random.default_rng((self._seed, epoch, row, UNLABELLED))
        names = [name for name, kind in self.kinds.items() if kind.unit == "words"]
        for place in generator.permutation(len(names)).tolist():
            changed = self.kinds[names[place]].augment(Example(text, 0), generator)
            if changed is not None:
                return self._finish(Example(text, 0), changed, names[place]).text
        return text

    def _finish(self, example: Example, changed: Example | None, name: str) -> AugmentedExample:
        cleaned = self._clean(changed.text) if changed is not None else ""
        if changed is None or is_blank(cleaned) or (cleaned == example.text and changed.label == example.label):
            return AugmentedExample(*example, None)
        return AugmentedExample(cleaned, changed.label, name)


def choose_examples(augmenter: Augmenter, count: int = 20) -> list[dict[str, object]]:
    """Rows of the first epoch as they were and as they were trained on, in turn of each kind: for the report."""
    found: dict[str, list[dict[str, object]]] = {name: [] for name in augmenter.kinds}
    wanted = -(-count // len(found))
    for row, (text, label) in enumerate(zip(augmenter.material.texts, augmenter.material.labels, strict=True)):
        augmented = augmenter.augment_row(row, epoch=0)
        if augmented.kind is not None and len(found[augmented.kind]) < count:
            found[augmented.kind].append(
                {"kind": augmented.kind, "text": text, "label": label}
                | {"augmented_text": augmented.text, "augmented_label": augmented.label, "row": row}
            )
        if all(len(examples) >= wanted for examples in found.values()):
            break
    in_turn = [examples[turn] for turn in range(count) for examples in found.values() if turn < len(examples)]
    return in_turn[:count]
