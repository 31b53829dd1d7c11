"""Which slices of the test texts a text belongs to: by length, negation, contrast, vocabulary.

Stands apart from `errors` so that who only asks for slices does not wait for the libraries of metrics.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

ALL_TEXTS = "all texts"
# fmt: off
NEGATIONS = frozenset({
    "no", "not", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without", "cannot",
    "hardly", "barely", "scarcely", "rarely", "seldom",
    # What is left of "n't" words when a cleaning deletes the apostrophe; "nt" is SST-2's own "n't".
    "nt", "aint", "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt", "havent", "isnt",
    "mustnt", "neednt", "shouldnt", "wasnt", "werent", "wont", "wouldnt",
})
CONTRASTS = frozenset({
    "but", "although", "though", "tho", "albeit", "however", "yet", "despite", "while", "whilst", "whereas",
    "nevertheless", "nonetheless", "notwithstanding", "except", "instead", "unless",
})
# fmt: on
# Letters and digits, held together by inner apostrophes: "doesn't" is one word, "street-smart" two.
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class DescribedText:
    """What the slices look at: words in lower case, their number, and whether the vocabulary split one."""

    words: frozenset[str]
    length: int
    has_split_word: bool


def is_negated(text: DescribedText) -> bool:
    """Whether the text holds a negation: a word of `NEGATIONS`, or one that ends with n't."""
    return not NEGATIONS.isdisjoint(text.words) or any(word.endswith("n't") for word in text.words)


def _length_between(shortest: int, longest: float) -> Callable[[DescribedText], bool]:
    return lambda text: shortest <= text.length <= longest


# The five lengths share the texts out between them; the other slices overlap with them and each other.
SLICES: Mapping[str, Callable[[DescribedText], bool]] = {
    "1 word": _length_between(0, 1),
    "2-5 words": _length_between(2, 5),
    "6-10 words": _length_between(6, 10),
    "11-20 words": _length_between(11, 20),
    "over 20 words": _length_between(21, float("inf")),
    "negation (not, never, n't, ...)": is_negated,
    "contrast (but, although, despite, ...)": lambda text: not CONTRASTS.isdisjoint(text.words),
    "a word that the vocabulary splits": lambda text: text.has_split_word,
    "only words of the vocabulary": lambda text: not text.has_split_word,
}


def describe_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[DescribedText]:
    """The facts about each text that `SLICES` asks for, tokenized in one batch; needs a fast tokenizer.

    Length counts the pieces between white space that hold a letter or a digit, so SST-2's free-standing
    commas are no words, and "street-smart" is one.
    """
    if not texts:
        return []
    # Not truncated on purpose, and the tokenizer need not warn about it: no model sees these ids.
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)
    return [
        DescribedText(
            words=frozenset(WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))),
            length=sum(any(map(str.isalnum, piece)) for piece in text.split()),
            # Pieces of one word stand side by side and carry the same word number.
            has_split_word=any(one == other for one, other in pairwise(encoded.word_ids(row))),
        )
        for row, text in enumerate(texts)
    ]


def assign_slices(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[bool]]:
    """For "all texts" and then each of `SLICES`, in their order, whether each text belongs to it."""
    described = describe_texts(texts, tokenizer)
    members = {name: [belongs(text) for text in described] for name, belongs in SLICES.items()}
    return {ALL_TEXTS: [True] * len(texts)} | members
