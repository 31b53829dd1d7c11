"""AEDA: punctuation at random places (Karimi, Rossi & Prati 2021, arXiv:2108.13230)."""

import numpy as np

from sentiment.data.augmentation.base import WordAugmentation

MARKS = (".", ";", "?", ":", "!", ",")


class PunctuationInsertion(WordAugmentation):
    """Marks of punctuation are put between words; all words stay."""

    needs_punctuation = True

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with more punctuation."""
        words = self.split(text)
        for place in reversed(self.choose(range(len(words)), len(words), generator)):
            words.insert(place, MARKS[generator.integers(len(MARKS))])
        return self.join(words) if words else None
