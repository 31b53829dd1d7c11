"""Slices of the test texts: by length, negation, contrast and words outside the vocabulary."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

ALL_TEXTS = "all texts"
# fmt: off
NEGATIONS = frozenset({
    "no", "not", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without", "cannot",
    "hardly", "barely", "scarcely", "rarely", "seldom",
    # Words with "n't" without their apostrophe, which some cleanings delete; SST-2 itself has "nt".
    "nt", "aint", "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt", "havent", "isnt",
    "mustnt", "neednt", "shouldnt", "wasnt", "werent", "wont", "wouldnt",
})
CONTRASTS = frozenset({
    "but", "although", "though", "tho", "albeit", "however", "yet", "despite", "while", "whilst", "whereas",
    "nevertheless", "nonetheless", "notwithstanding", "except", "instead", "unless",
})
# fmt: on
# Letters, digits and inner apostrophes: "doesn't" is one word, "street-smart" two.
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class TextFeatures:
    """The lower-case words of a text, its length in words, and whether the tokenizer splits a word of it."""

    words: frozenset[str]
    length: int
    has_split_word: bool


def has_negation(text: TextFeatures) -> bool:
    """Whether the text has a word of `NEGATIONS` or one that ends with n't."""
    return not NEGATIONS.isdisjoint(text.words) or any(word.endswith("n't") for word in text.words)


def _length_between(shortest: int, longest: float) -> Callable[[TextFeatures], bool]:
    return lambda text: shortest <= text.length <= longest


# The five lengths partition the texts; the other slices overlap with them and each other.
SLICES: Mapping[str, Callable[[TextFeatures], bool]] = {
    "1 word": _length_between(0, 1),
    "2-5 words": _length_between(2, 5),
    "6-10 words": _length_between(6, 10),
    "11-20 words": _length_between(11, 20),
    "over 20 words": _length_between(21, float("inf")),
    "negation (not, never, n't, ...)": has_negation,
    "contrast (but, although, despite, ...)": lambda text: not CONTRASTS.isdisjoint(text.words),
    "a word split into subwords": lambda text: text.has_split_word,
    "no word split into subwords": lambda text: not text.has_split_word,
}


def extract_features(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[TextFeatures]:
    """The features of each text that `SLICES` depends on; needs a fast tokenizer.

    Length counts the strings between white space that have a letter or a digit: SST-2's free-standing commas do not
    count, and "street-smart" counts once.
    """
    if not texts:
        return []
    # Nothing is truncated and no warning about length is due: these ids are not for a model.
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)
    return [
        TextFeatures(
            words=frozenset(WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))),
            length=sum(any(map(str.isalnum, part)) for part in text.split()),
            # Subwords of one word are adjacent and have the same word id.
            has_split_word=any(one == other for one, other in pairwise(encoded.word_ids(row))),
        )
        for row, text in enumerate(texts)
    ]


def assign_slices(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """A boolean mask of shape (texts,) for "all texts" and for each of `SLICES`, in their order."""
    features = extract_features(texts, tokenizer)
    masks = {name: np.array([belongs(text) for text in features], dtype=bool) for name, belongs in SLICES.items()}
    return {ALL_TEXTS: np.ones(len(texts), dtype=bool)} | masks
