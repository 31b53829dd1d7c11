"""Texts with their sentiment reversed, and the label with it."""

import numpy as np

from sentiment.data.augmentation.base import Augmentation, Example
from sentiment.data.augmentation.sentiment_reversal import find_reversal


class SentimentSwap(Augmentation):
    """Words of sentiment become antonyms, or a negation is added or taken away; negative becomes positive, and back.

    Only where the words' ratings agree with the label: where they do not, the label hangs on something else.
    """

    unit = "rows"
    is_english = True
    needs_polarity = True

    def augment(self, example: Example, generator: np.random.Generator) -> Example | None:
        """The reversed example."""
        reversal = find_reversal(example.text, generator)
        if reversal is None or reversal.rating == 0 or (reversal.rating > 0) != (example.label == 1):
            return None
        return Example(reversal.text, 1 - example.label)
