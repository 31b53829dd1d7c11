"""Ratings of English words by sentiment: VADER's lexicon (MIT), Hutto & Gilbert 2014, read from its package."""

from functools import lru_cache

from sentiment.data.augmentation.antonyms import load_polarities
from sentiment.demo.embedded import fetch_lexicon

ANTONYM_RATING = 2.0  # of a word with antonyms that VADER does not rate; its words lie between -4 and 4
# Rated by VADER as in a chat, but what reviews are about, or a word of grammar.
TOPICAL_TEXT = """
abuse accident action adventure alien alone arrest art attack battle blood bomb care catholic challenge child christ
christmas comedies comedy crime crimes criminal criminals crisis cry death deaths dead demand devil die died dies
doubt drama dream dreams emergency enemy escape evil fantasy fear feel fight fighting fights fire free freedom
friend friends funeral ghost god grave grand gun guns hard heaven hell hero heroes horror hospital important
interest intense join jokes joke justice kill killed killer killers killing kills kind kinds legal matter miss
moment murder murderer murders mystery nerves no novel party passion play played player playing plays
pretty prison please rape rescue revenge rob romance romantic shares share sick silly save saved sex shock shot
shooting sigh strange suicide super sure surprise survivor suspect suspense tension terror thief thriller tragedy
tragic true trust twist unlikely vampire victim victims violence violent war wars want wanted wants warfare weapon
weapons weird widow wish yes zombie well
"""
TOPICAL = frozenset(TOPICAL_TEXT.split())


@lru_cache(maxsize=1)
def load_lexicon() -> dict[str, float]:
    """Words of sentiment and their ratings, from -4 to 4: VADER's without `TOPICAL`, and those of `antonyms.py`.

    Downloads the lexicon at the first use; raises InputError where that is impossible.
    """
    lines = (fetch_lexicon() / "vader_lexicon.txt").read_text(encoding="utf-8").splitlines()
    rated = {word: float(rating) for word, rating, *_ in (line.split("\t") for line in lines)}
    words = {word: rating for word, rating in rated.items() if word.isalpha() and word not in TOPICAL}
    return words | {word: sign * abs(rated.get(word, ANTONYM_RATING)) for word, sign in load_polarities().items()}
