"""Texts with their sentiment reversed: antonyms of their words of sentiment, negations added or taken away."""

from dataclasses import dataclass

import numpy as np

from sentiment.data.augmentation.antonyms import load_antonyms
from sentiment.data.augmentation.lexicon import load_lexicon
from sentiment.data.augmentation.negation import AUXILIARY_SCOPE, BREAK, FAILURES, NEGATIONS, Sentence

REVERSED_SHARE = 0.75  # of the strength of all words of sentiment
NEGATED_SHARE = 0.3  # of the words that could be replaced by an antonym and are negated
# Before "love" or "like" as a verb; "a film like this", "a tale of love" have none.
BEFORE_VERB_TEXT = """
i we you they he she who people those everyone really do does did to will would should could can may might must not
n't don't didn't doesn't never also and just truly absolutely still
"""
BEFORE_VERB = frozenset(BEFORE_VERB_TEXT.split())
AMBIGUOUS_VERBS = frozenset(["like", "love", "hate", "delight", "bore", "praise", "respect"])
# Words of sentiment that are none before these.
PHRASES = {"great": ("deal", "many"), "good": ("deal", "many"), "better": ("off", "than"), "fine": ("art", "line")}


@dataclass(frozen=True)
class Reversal:
    """A text with its sentiment reversed, and the sentiment that it had: the sum of its words' ratings."""

    text: str
    rating: float


def reverse_sentiment(text: str, generator: np.random.Generator) -> str | None:
    """The text with its sentiment reversed, or None where that cannot be done well; see `find_reversal`.

    >>> reverse_sentiment("It is set in Paris.", np.random.default_rng(0)) is None
    True
    """
    reversal = find_reversal(text, generator)
    return reversal.text if reversal else None


def find_reversal(text: str, generator: np.random.Generator) -> Reversal | None:
    """The text with its sentiment reversed, or None where that cannot be done well.

    A word of sentiment that a negation denies loses the negation; another is replaced by one of its antonyms or,
    without one, denied after a verb such as "is" or "would". A text is refused where no word can be reversed, and where
    those that cannot be carry more than a quarter of the strength of its words of sentiment (ratings of VADER): what
    comes back would be of both sentiments. English only. Linear in the text's length.
    """
    sentence, ratings = Sentence.parse(text), load_lexicon()
    places = [place for place in range(len(sentence.words)) if has_sentiment(sentence, place)]
    total = reversed_strength = sum_of_ratings = 0.0
    for index, place in enumerate(places):
        rating = ratings[sentence.lowered[place]]
        is_denied = sentence.find_negation(place) is not None or sentence.is_freed(place)
        neighbours = places[max(0, index - 1) : index] + places[index + 1 : index + 2]
        is_alone = all(abs(other - place) > AUXILIARY_SCOPE for other in neighbours)
        total += abs(rating)
        sum_of_ratings += -rating if is_denied else rating
        reversed_strength += abs(rating) * reverse_word(sentence, place, is_alone, generator)
    if not reversed_strength or reversed_strength < REVERSED_SHARE * total:
        return None
    return Reversal(sentence.render(), sum_of_ratings)


def has_sentiment(sentence: Sentence, place: int) -> bool:
    """Whether the word judges something."""
    word, before, after = (sentence.get_word(place + shift) for shift in (0, -1, 1))
    if word in NEGATIONS or after in PHRASES.get(word, ()) or (word in FAILURES and after == "to"):
        return False
    if word in AMBIGUOUS_VERBS:
        if before in BEFORE_VERB or (place and sentence.is_negation(place - 1)):
            return True
        # "Love it", but "like a dream"
        return word != "like" and (not before or sentence.clauses[place] != sentence.clauses[place - 1])
    if word == "well":
        return before != "as" and after not in ("as", "known") and not BREAK.search(sentence.separators[place + 1])
    return word in load_lexicon()


def reverse_word(sentence: Sentence, place: int, is_alone: bool, generator: np.random.Generator) -> bool:
    """Reverses a word of sentiment, by its negation, an antonym or a new negation; whether it could be."""
    negation = sentence.find_negation(place)
    if negation is not None:
        sentence.remove_negation(negation)
    if negation is not None or sentence.is_freed(place) or sentence.is_denied_anew(place):
        return True
    auxiliary = sentence.find_auxiliary(place)
    antonyms = load_antonyms().get(sentence.lowered[place], ())
    chance, choice = generator.random(2)  # always two, so that later words do not depend on this branch
    if antonyms and not (auxiliary is not None and is_alone and chance < NEGATED_SHARE):
        # squared: the first antonyms, which are the common ones, more often
        sentence.replace(place, antonyms[int(choice**2 * len(antonyms))])
        return True
    if auxiliary is not None:
        sentence.add_negation(auxiliary)
    return auxiliary is not None
