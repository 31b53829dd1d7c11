"""Which words an answer rests on: the weight of each word of a text, and those without which the label is another."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import numpy as np

from sentiment.data.languages import find_words

MAX_EXPLAINED_WORDS = 64  # each is one more text for the model
MAX_CHARACTERS_PER_WORD = 4  # of a script without spaces
MAX_OMITTED_WORDS, MAX_CANDIDATES = 5, 16  # left out together; weighed for each further one of these
Place = tuple[int, int]  # start and end of a word
# The probabilities of each label for texts, shape (texts, labels).
ComputeProbabilities = Callable[[Sequence[str]], Awaitable[np.ndarray]]


def find_explained_words(text: str) -> list[Place]:
    """The words of a text; in long ones of a script without spaces, up to four characters are a word."""
    return find_words(text, MAX_EXPLAINED_WORDS, MAX_CHARACTERS_PER_WORD)


def omit_words(text: str, places: Iterable[Place]) -> str:
    """The text without these words.

    >>> omit_words("a good film", [(0, 1), (2, 6)])
    'film'
    """
    for start, end in sorted(places, reverse=True):
        before, after = text[:start], text[end:]
        is_joined = before and not before[-1].isspace()  # to the word before, as in Chinese
        text = before + (after if is_joined else after.lstrip())
    return text.strip()


def build_occlusions(text: str, places: Sequence[Place]) -> list[str]:
    """The text without each of its first `MAX_EXPLAINED_WORDS` words.

    >>> build_occlusions("a good film", find_explained_words("a good film"))
    ['good film', 'a film', 'a good']
    """
    return [omit_words(text, [place]) for place in places[:MAX_EXPLAINED_WORDS]]


def compute_word_weights(probabilities: np.ndarray, words: int) -> Sequence[float | None]:
    """How much the probability of the label drops without each word; None for words that were not omitted.

    `probabilities`, shape (texts, labels), are for the whole text, then without each word.
    """
    of_label = probabilities[:, probabilities[0].argmax()]
    weights: list[float | None] = (of_label[0] - of_label[1:]).tolist()
    return weights + [None] * (words - len(weights))


async def find_counterfactual(
    text: str, places: Sequence[Place], probabilities: np.ndarray, compute: ComputeProbabilities
) -> tuple[list[int], np.ndarray] | None:
    """The positions of up to five words without which another label is the most probable, and the probabilities then.

    SEDC, Martens & Provost 2014 (MIS Quarterly 38(1)): words are left out one after another, each time the one without
    which the label is least probable, here among the 16 that are heaviest by themselves. None where the label stays.
    `probabilities` are as in `compute_word_weights`.
    """
    label = probabilities[0].argmax()
    candidates = probabilities[1:, label].argsort(kind="stable")[:MAX_CANDIDATES].tolist()
    found, omitted = probabilities[1:][candidates], list[int]()
    while candidates and len(omitted) + 1 < len(places):  # one word at least stays
        best = int(found[:, label].argmin())
        omitted.append(candidates.pop(best))
        if found[best].argmax() != label:
            return sorted(omitted), found[best]
        if len(omitted) == MAX_OMITTED_WORDS or not candidates:
            break
        shortened = [omit_words(text, [places[other] for other in (*omitted, one)]) for one in candidates]
        found = await compute(shortened)
    return None
