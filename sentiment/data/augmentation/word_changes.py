"""Easy data augmentation (EDA; Wei & Zou 2019, arXiv:1901.11196): synonyms, insertions, deletions, swaps."""

import numpy as np

from sentiment.data.augmentation.base import WordAugmentation
from sentiment.data.augmentation.negation import WORD, match_case
from sentiment.data.augmentation.word_lists import find_synonyms


class SynonymReplacement(WordAugmentation):
    """Words become synonyms of the same polarity."""

    is_english = True

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with synonyms."""
        matches = list(WORD.finditer(text))
        places = [place for place, match in enumerate(matches) if find_synonyms(match[0].lower())]
        pieces, end = [], 0
        for place in self.choose(places, len(matches), generator):
            match = matches[place]
            synonyms = find_synonyms(match[0].lower())
            pieces += [text[end : match.start()], match_case(synonyms[generator.integers(len(synonyms))], match[0])]
            end = match.end()
        return "".join([*pieces, text[end:]]) if pieces else None


class SynonymInsertion(WordAugmentation):
    """Synonyms of words of the text are put at random places."""

    is_english = True

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with more words."""
        words = self.split(text)
        lowered = [word.lower().strip(".,;:!?()\"'") for word in words]
        # One of a word of sentiment could land within the scope of a negation.
        places = [place for place, word in enumerate(lowered) if find_synonyms(word) and not self.decides_label(word)]
        chosen = self.choose(places, len(words), generator)
        for place in chosen:
            synonyms = find_synonyms(lowered[place])
            words.insert(int(generator.integers(len(words) + 1)), synonyms[generator.integers(len(synonyms))])
        return self.join(words) if chosen else None


class WordDeletion(WordAugmentation):
    """Words are left out; one word at least stays."""

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with fewer words."""
        words = self.split(text)
        places = [place for place, word in enumerate(words) if not self.decides_label(word)]
        chosen = set(self.choose(places, len(words), generator)) if len(words) > 1 else set()
        if not chosen or len(chosen) == len(words):
            return None
        return self.join([word for place, word in enumerate(words) if place not in chosen])


class WordSwap(WordAugmentation):
    """Pairs of words change places."""

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text in another order."""
        words = self.split(text)
        places = [place for place, word in enumerate(words) if not self.decides_label(word)]
        count = min(len(places) // 2, max(1, round(self.strength * len(words) / 2)))  # a swap changes two words
        if not count:
            return None
        chosen = generator.permutation(np.asarray(places, dtype=int))[: 2 * count].tolist()
        for first, second in zip(chosen[::2], chosen[1::2], strict=True):
            words[first], words[second] = words[second], words[first]
        return self.join(words)
