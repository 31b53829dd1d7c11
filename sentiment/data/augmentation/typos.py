"""Typing errors: common misspellings, neighbours on the keyboard, letters left out, doubled or swapped."""

import numpy as np

from sentiment.data.augmentation.base import WordAugmentation
from sentiment.data.augmentation.negation import WORD, match_case
from sentiment.data.augmentation.word_lists import load_keyboard, load_misspellings, load_words

SHORTEST = 3  # letters: "but" may become "bt"
ATTEMPTS = 4
KNOWN_SHARE = 0.5  # of the words with a common misspelling that get it


class TypingErrors(WordAugmentation):
    """Words are misspelt, but never into another word: "not" does not become "now"."""

    is_english = True

    def change_words(self, text: str, generator: np.random.Generator) -> str | None:
        """The text with typing errors."""
        matches = list(WORD.finditer(text))
        places = [place for place, match in enumerate(matches) if len(match[0]) >= SHORTEST]
        pieces, end = [], 0
        for place in self.choose(places, len(matches), generator):
            match = matches[place]
            wrong = misspell(match[0].lower(), generator)
            if wrong is not None:
                pieces += [text[end : match.start()], match_case(wrong, match[0])]
                end = match.end()
        return "".join([*pieces, text[end:]]) if pieces else None


def misspell(word: str, generator: np.random.Generator) -> str | None:
    """A word in lower case with a typing error; None where all that were tried give another word."""
    known = load_misspellings().get(word, [])
    if known and generator.random() < KNOWN_SHARE:
        return known[generator.integers(len(known))]
    for _ in range(ATTEMPTS):
        wrong = mistype(word, generator)
        if wrong != word and wrong not in load_words():
            return wrong
    return None


def mistype(word: str, generator: np.random.Generator) -> str:
    """The word with one letter replaced by a neighbour on the keyboard, left out, doubled, or swapped with the next.

    >>> mistype("but", np.random.default_rng(1))
    'bt'
    """
    way, place = int(generator.integers(4)), int(generator.integers(len(word)))
    letter = word[place]
    if way == 0:
        neighbours = load_keyboard().get(letter, [letter])
        return word[:place] + neighbours[generator.integers(len(neighbours))] + word[place + 1 :]
    if way == 1:
        return word[:place] + word[place + 1 :]
    if way == 2:
        return word[:place] + letter + word[place:]
    return word[:place] + word[place + 1 : place + 2] + letter + word[place + 2 :]
