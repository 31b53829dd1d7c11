"""Words that a masked language model proposes in the place of others (Kobayashi 2018, arXiv:1805.06201)."""

import numpy as np

from sentiment.data.augmentation.base import WordAugmentation
from sentiment.data.languages import SPACELESS


class MaskedWordReplacement(WordAugmentation):
    """Words are masked, and one of the model's proposals takes their place.

    Negations and words of sentiment stay, and no word becomes one: what a model finds probable in "a [MASK] film" may
    be of the other class. In languages other than English they are not known, so that labels may become wrong.
    """

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with words of the model."""
        propose = self.material.propose_words
        assert propose is not None
        words = self.split(text)
        places = [
            place
            for place, word in enumerate(words)
            if word.isalpha() and not self.decides_label(word) and (len(word) > 1 or SPACELESS.match(word))
        ]
        chosen = self.choose(places, len(words), generator)
        starts = [len(self.join([*words[:place], ""])) if place else 0 for place in chosen]
        spans = [(start, start + len(words[place])) for start, place in zip(starts, chosen, strict=True)]
        found = propose(self.join(words), spans) if chosen else []
        is_changed = False
        for place, proposals in zip(chosen, found, strict=True):
            fitting = [
                (word, probability)
                for word, probability in proposals
                if word.lower() != words[place].lower() and not self.decides_label(word)
            ]
            if fitting:
                weights = np.array([probability for _, probability in fitting])
                words[place] = fitting[generator.choice(len(fitting), p=weights / weights.sum())][0]
                is_changed = True
        return self.join(words) if is_changed else None
