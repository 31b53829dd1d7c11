"""Which words an answer rests on: the words of a text in any language, and the text without each of them."""

from collections.abc import Sequence

import numpy as np

from sentiment.data.languages import find_words

MAX_EXPLAINED_WORDS = 64  # each is one more text for the model
MAX_CHARACTERS_PER_WORD = 4  # of a script without spaces


def build_occlusions(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and the text without each of the first `MAX_EXPLAINED_WORDS` words.

    >>> build_occlusions("a good film")
    (['a', 'good', 'film'], ['good film', 'a film', 'a good'])
    """
    words = find_words(text, MAX_EXPLAINED_WORDS, MAX_CHARACTERS_PER_WORD)
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
