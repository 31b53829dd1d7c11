"""How positive the words of an English text are: the ratings of a lexicon, turned by negations."""

from sentiment.data.augmentation.lexicon import load_lexicon
from sentiment.data.augmentation.negation import Sentence
from sentiment.data.augmentation.sentiment_reversal import has_sentiment

DENIED = -0.74  # factor of the rating of a denied word, as in VADER


def rate_sentiment(text: str) -> float:
    """The sum of the ratings of a text's words of sentiment, each from -4 to 4; 0.0 without one.

    Raises InputError where the lexicon is needed for the first time and cannot be downloaded.
    """
    sentence, ratings, total = Sentence.parse(text), load_lexicon(), 0.0
    for place in range(len(sentence.words)):
        if has_sentiment(sentence, place):
            is_denied = sum(1 for _ in sentence.find_negations(place)) % 2
            total += (DENIED if is_denied else 1.0) * ratings[sentence.lowered[place]]
    return total
