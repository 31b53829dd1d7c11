"""What every kind of augmentation is: a class that turns a labelled text into another one, from a generator."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from sentiment.data.augmentation.lexicon import load_lexicon
from sentiment.data.augmentation.negation import CONTRACTION, NEGATIONS
from sentiment.data.languages import find_words, has_spaces, is_english

# For a text and the start and end of words in it: for each place, the words that may stand there, and how probable.
ProposeWords = Callable[[str, Sequence[tuple[int, int]]], list[list[tuple[str, float]]]]


class Example(NamedTuple):
    """A text and the id of its class."""

    text: str
    label: int


@dataclass(frozen=True)
class Material:
    """What kinds of augmentation may draw from: the training split, its language, and a masked language model."""

    texts: Sequence[str]
    labels: Sequence[int]
    language: str = "en"
    propose_words: ProposeWords | None = None


class Augmentation(ABC):
    """One kind of augmentation.

    Args:
        strength: `unit` says of what: the share of a text's words that are changed, or the share of an epoch's rows.
        material: what it may draw from.
    """

    unit: ClassVar[str] = "words"  # or "rows"
    is_english: ClassVar[bool] = False  # whether it needs word lists, which are English
    needs_polarity: ClassVar[bool] = False  # whether it needs the classes negative and positive, and no other
    needs_punctuation: ClassVar[bool] = False

    def __init__(self, strength: float, material: Material):
        self.strength = strength
        self.material = material

    @abstractmethod
    def augment(self, example: Example, generator: np.random.Generator) -> Example | None:
        """The example changed, with the label that is right for it; None where nothing can be changed."""


class WordAugmentation(Augmentation):
    """A kind that changes a share of a text's words, at least one, and leaves the label as it is.

    In English, negations and words of sentiment are never moved, deleted or misspelt into other words: without "not",
    the label would be wrong.
    """

    def augment(self, example: Example, generator: np.random.Generator) -> Example | None:
        """The example with some of its words changed."""
        text = self.change_words(example.text, generator)
        return None if text is None or text == example.text or not text.strip() else Example(text, example.label)

    @abstractmethod
    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with some of its words changed; None where none can be."""

    def split(self, text: str) -> list[str]:
        """The words of a text, with the punctuation that they touch; characters in scripts without spaces."""
        if has_spaces(self.material.language):
            return text.split()
        return [text[start:end] for start, end in find_words(text)]

    def join(self, words: Sequence[str]) -> str:
        """The text of these words."""
        return (" " if has_spaces(self.material.language) else "").join(words)

    def choose(self, places: Sequence[int], total: int, generator: np.random.Generator) -> list[int]:
        """Places to change, sorted: `strength` of the `total` words, at least one, among those that may be changed."""
        count = min(len(places), max(1, round(self.strength * total)))
        return sorted(generator.permutation(np.asarray(places, dtype=int))[:count].tolist())

    def decides_label(self, word: str) -> bool:
        """Whether the label may hang on a word; in other languages than English, unknown."""
        return is_english(self.material.language) and is_negation_or_sentiment(word)


def is_negation_or_sentiment(word: str) -> bool:
    """Whether an English word is a negation or judges something, so that the label may hang on it.

    >>> [is_negation_or_sentiment(word) for word in ("Not", "isn't,", "n't", "table")]
    [True, True, True, False]
    """
    plain = word.lower().replace("\u2019", "'").strip(".,;:!?()[]\"`'")
    return plain in NEGATIONS or CONTRACTION.fullmatch(plain) is not None or plain in load_lexicon()
