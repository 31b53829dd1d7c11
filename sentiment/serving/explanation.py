"""Which words an answer rests on: the words of a text in any language, and the text without each of them."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from sentiment.data.words import SPACELESS

MAX_EXPLAINED_WORDS = 64  # each is one more text for the model
MAX_CHARACTERS_PER_WORD = 4  # of a script without spaces


def find_words(text: str) -> list[tuple[int, int]]:
    """Start and end of each word: what stands between white space, or a character of a script without spaces.

    If these are over `MAX_EXPLAINED_WORDS`, up to `MAX_CHARACTERS_PER_WORD` characters in a row are one word.

    >>> [text[start:end] for text in ["so-so, but", "电影很好看。very"] for start, end in find_words(text)]
    ['so-so,', 'but', '电', '影', '很', '好', '看。', 'very']
    """
    pieces = [find_starts(piece) for piece in re.finditer(r"\S+", text)]
    size = 1
    while sum(-(-len(starts) // size) for starts, _ in pieces) > MAX_EXPLAINED_WORDS and size < MAX_CHARACTERS_PER_WORD:
        size += 1
    words = []
    for starts, end in pieces:
        kept = starts[::size]
        words += list(zip(kept, [*kept[1:], end], strict=True))
    return words


def find_starts(piece: re.Match[str]) -> tuple[list[int], int]:
    """Where the words of a piece of text without white space start, and where the piece ends.

    Punctuation, combining marks and invisible characters belong to the character before them.
    """
    starts, is_spaceless = [piece.start()], False
    for place, character in enumerate(piece[0], start=piece.start()):
        if unicodedata.category(character)[0] in "MPC" or unicodedata.category(character) == "Sk":
            continue
        was_spaceless, is_spaceless = is_spaceless, SPACELESS.match(character) is not None
        if place > piece.start() and (is_spaceless or was_spaceless):
            starts.append(place)
    return starts, piece.end()


def build_occlusions(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and the text without each of the first `MAX_EXPLAINED_WORDS` words.

    >>> build_occlusions("a good film")
    (['a', 'good', 'film'], ['good film', 'a film', 'a good'])
    """
    words = find_words(text)
    occlusions = []
    for start, end in words[:MAX_EXPLAINED_WORDS]:
        before, after = text[:start], text[end:]
        is_joined = before and not before[-1].isspace()  # to the word before, as in Chinese
        occlusions.append((before + (after if is_joined else after.lstrip())).strip())
    return [text[start:end] for start, end in words], occlusions


def compute_word_weights(probabilities: np.ndarray, words: int) -> Sequence[float | None]:
    """How much the probability of the label drops without each word; None for words that were not omitted.

    `probabilities`, shape (texts, labels), are for the whole text, then without each word.
    """
    of_label = probabilities[:, probabilities[0].argmax()]
    weights: list[float | None] = (of_label[0] - of_label[1:]).tolist()
    return weights + [None] * (words - len(weights))
