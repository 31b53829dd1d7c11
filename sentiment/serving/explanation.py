"""Which words of a text weigh most: its label's probability with and without each of them."""

import re
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"\S+")
MAX_WORDS = 64  # each is one more text for the model


@dataclass(frozen=True)
class Occlusions:
    """A text's words, and the texts whose logits weigh them: the whole text, and the text without each word."""

    words: list[str]
    variants: list[str]


def build_occlusions(text: str) -> Occlusions:
    """The variants of a text; words past the first `MAX_WORDS` are always left in.

    >>> build_occlusions("a good film").variants
    ['a good film', 'good film', 'a film', 'a good']
    """
    words = WORD.findall(text)
    without = [" ".join(words[:left_out] + words[left_out + 1 :]) for left_out in range(min(len(words), MAX_WORDS))]
    return Occlusions(words, [text, *without])


def compute_word_weights(marking: Occlusions, probabilities: np.ndarray) -> list[float | None]:
    """What the probability of the text's label loses without each word; None for words that were not left out.

    Args:
        marking: of the text.
        probabilities: of `positive`, for each of its variants; shape (variants,).
    """
    whole, without = probabilities[0], probabilities[1:]
    losses = (whole - without) if whole > 0.5 else (without - whole)
    return [*losses.tolist(), *[None] * (len(marking.words) - len(losses))]
