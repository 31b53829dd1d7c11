"""Texts with their sentiment reversed: antonyms of their words of sentiment, negations added or taken away."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from sentiment.data.augmentation.antonyms import load_antonyms
from sentiment.data.augmentation.lexicon import load_lexicon

WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
BREAK = re.compile(r"[.,;:!?()\"\n]|--")  # between two words: the end of a clause
CLAUSE_WORDS = {"but", "although", "though", "however", "because", "while", "yet", "than", "if", "when", "which", "who"}
NEGATION_SCOPE = 4  # words after a negation that it may negate
AUXILIARY_SCOPE = 5  # words after a verb that a negation added to it may negate
REVERSED_SHARE = 0.75  # of the strength of all words of sentiment
NEGATED_SHARE = 0.3  # of the words that could be replaced by an antonym and are negated

AUXILIARIES = frozenset(
    """is are was were am be been do does did have has had can could will would should may might must
    it's that's he's she's there's they're we're you're i'm it’s that’s he’s she’s there’s they’re we’re you’re i’m
    's 're""".split()
)
# "not" and how it is taken away: the word that stays in its place, "" for none.
NEGATIONS = {
    "not": "",
    "n't": "",
    "n’t": "",
    "never": "always",
    "no": "",
    "without": "with",
    "hardly": "clearly",
    "barely": "clearly",
    "scarcely": "clearly",
    "rarely": "often",
    "seldom": "often",
    "lack": "have",
    "lacks": "has",
    "lacked": "had",
    "lacking": "having",
    "nothing": "something",
    "cannot": "can",
    "neither": "both",
    "nor": "and",
}
# With "to" after them, as in "fails to amuse".
FAILURES = {"fail": "manage", "fails": "manages", "failed": "managed", "failing": "managing"}
IRREGULAR = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
CONTRACTION = re.compile(r"(is|are|was|were|do|does|did|have|has|had|ca|could|wo|would|should|must|might|ai|need)n['’]?t")
NOT_ONLY = {"only", "just", "merely", "simply", "because", "that"}  # "not only good" denies nothing
# Before "like", a verb: "a film like this" has none.
BEFORE_LIKE = frozenset("i we you they he she really do does did to will would not n't don't didn't doesn't also".split())
PHRASES = {"kind": ("of",), "great": ("deal",), "good": ("deal", "many"), "better": ("off",), "fine": ("art",)}
VOWELS = "aeiou"


def reverse_sentiment(text: str, generator: np.random.Generator) -> str | None:
    """The text with its sentiment reversed, or None where that cannot be done well.

    A word of sentiment within the scope of a negation loses the negation; another is replaced by one of its antonyms
    or, without one, negated after a verb such as "is", "have" or "would". A text is refused where no word can be
    reversed, and where those that cannot be carry more than a quarter of the strength of its words of sentiment
    (ratings of VADER): their reversal would leave a text of both sentiments. English only. Linear in the text's length.
    """
    sentence = Sentence.parse(text)
    words = [place for place in range(len(sentence.words)) if sentence.has_sentiment(place)]
    total = reversed_strength = 0.0
    for place in words:
        strength = abs(load_lexicon()[sentence.lowered[place]])
        total += strength
        reversed_strength += strength * reverse_word(sentence, place, words, generator)
    if not reversed_strength or reversed_strength < REVERSED_SHARE * total:
        return None
    sentence.correct_articles()
    return sentence.render()


def reverse_word(sentence: "Sentence", place: int, words: list[int], generator: np.random.Generator) -> bool:
    """Reverses a word of sentiment, by its negation, an antonym or a new negation; whether it could be."""
    negation = sentence.find_negation(place)
    if negation is not None:
        sentence.remove_negation(negation)
        return True
    if sentence.is_negated(place):
        return True
    auxiliary = sentence.find_auxiliary(place)
    is_alone = not any(0 < abs(other - place) <= AUXILIARY_SCOPE for other in words)
    antonyms = load_antonyms().get(sentence.lowered[place], ())
    chance, choice = generator.random(2)  # always two, so that later words do not depend on this branch
    if antonyms and not (auxiliary is not None and is_alone and chance < NEGATED_SHARE):
        sentence.replace(place, antonyms[int(choice * len(antonyms))])
        return True
    if auxiliary is None:
        return False
    sentence.add_negation(auxiliary)
    return True


@dataclass
class Sentence:
    """The words of a text, what stands between them, and what was changed."""

    words: list[str]
    separators: list[str]  # before each word, and after the last
    lowered: list[str]
    clauses: list[int]  # number of the clause of each word
    removed: set[int] = field(default_factory=set)  # negations taken away
    negated: list[int] = field(default_factory=list)  # verbs after which one was added
    replaced: set[int] = field(default_factory=set)

    @classmethod
    def parse(cls, text: str) -> "Sentence":
        """The words of a text."""
        matches = list(WORD.finditer(text))
        ends = [0, *(match.end() for match in matches)]
        starts = [*(match.start() for match in matches), len(text)]
        separators = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        words = [match[0] for match in matches]
        lowered = [word.lower() for word in words]
        clauses, clause = [], 0
        for word, separator in zip(lowered, separators[:-1], strict=True):
            clause += bool(BREAK.search(separator)) or word in CLAUSE_WORDS
            clauses.append(clause)
        return cls(words, separators, lowered, clauses)

    def has_sentiment(self, place: int) -> bool:
        """Whether the word judges something."""
        word = self.lowered[place]
        before = self.lowered[place - 1] if place else ""
        after = self.lowered[place + 1] if place + 1 < len(self.words) else ""
        if word in NEGATIONS or after in PHRASES.get(word, ()) or (word in FAILURES and after == "to"):
            return False
        if word == "like":
            return before in BEFORE_LIKE and place > 0
        if word == "well":
            return before != "as" and after not in ("as", "known") and not BREAK.search(self.separators[place + 1])
        return word in load_lexicon()

    def find_negation(self, place: int) -> int | None:
        """The place of the negation, not taken away yet, that this word is in the scope of."""
        for before in range(place - 1, max(-1, place - 1 - NEGATION_SCOPE), -1):
            if self.clauses[before] != self.clauses[place]:
                return None
            if before not in self.removed and self.is_negation(before):
                return before
        return None

    def is_negation(self, place: int) -> bool:
        """Whether the word denies what follows it."""
        word, after = self.lowered[place], self.lowered[place + 1]
        if word in FAILURES:
            return after == "to"
        return (word in NEGATIONS or CONTRACTION.fullmatch(word) is not None) and after not in NOT_ONLY

    def is_negated(self, place: int) -> bool:
        """Whether the word is reversed already, by a negation taken away or added before it in its clause."""
        removed = any(
            before in self.removed and self.clauses[before] == self.clauses[place]
            for before in range(max(0, place - NEGATION_SCOPE), place)
        )
        return removed or any(
            verb < place <= verb + AUXILIARY_SCOPE and self.clauses[verb] == self.clauses[place]
            for verb in self.negated[-1:]
        )

    def find_auxiliary(self, place: int) -> int | None:
        """The place of the nearest verb before the word, in its clause, that takes "not" after it."""
        for before in range(place - 1, max(-1, place - 1 - AUXILIARY_SCOPE), -1):
            if self.clauses[before] != self.clauses[place] or before in self.replaced:
                return None
            if self.lowered[before] in AUXILIARIES:
                return before
        return None

    def remove_negation(self, place: int) -> None:
        """Takes a negation away, or puts its opposite in its place."""
        word = self.lowered[place]
        contraction = CONTRACTION.fullmatch(word)
        self.removed.add(place)
        if contraction:
            self.words[place] = match_case(IRREGULAR.get(contraction[1], contraction[1]), self.words[place])
            return
        if word in ("n't", "n’t") and place and self.lowered[place - 1] in IRREGULAR:
            self.words[place - 1] = match_case(IRREGULAR[self.lowered[place - 1]], self.words[place - 1])
        opposite = FAILURES.get(word) or NEGATIONS[word]
        if opposite:
            self.words[place] = match_case(opposite, self.words[place])
        else:
            follows = place + 1 < len(self.words)
            if follows and self.words[place][:1].isupper() and not self.words[place].isupper():
                self.words[place + 1] = self.words[place + 1][:1].upper() + self.words[place + 1][1:]
            self.words[place] = ""
            # one space stays of the two around it
            if self.separators[place].endswith(" ") or not self.separators[place]:
                self.separators[place + 1] = self.separators[place + 1].removeprefix(" ")

    def add_negation(self, place: int) -> None:
        """Adds "not" after a verb."""
        self.words[place] += " NOT" if len(self.words[place]) > 3 and self.words[place].isupper() else " not"
        self.negated.append(place)

    def replace(self, place: int, antonym: str) -> None:
        """Puts an antonym in the place of a word, in the same case."""
        self.words[place] = match_case(antonym, self.words[place])
        self.replaced.add(place)

    def correct_articles(self) -> None:
        """Makes "a" and "an" right before words that were replaced or now follow them."""
        for place in self.replaced | {removed + 1 for removed in self.removed}:
            before = place - 1
            while before in self.removed and not self.words[before]:
                before -= 1
            if 0 <= before < place < len(self.words) and self.lowered[before] in ("a", "an") and self.words[place]:
                article = "an" if self.words[place][0].lower() in VOWELS else "a"
                self.words[before] = match_case(article, self.words[before])

    def render(self) -> str:
        """The text."""
        pieces = [piece for pair in zip(self.separators, self.words, strict=False) for piece in pair]
        return "".join([*pieces, self.separators[-1]])


def match_case(word: str, original: str) -> str:
    """The word in lower case, capitalised or in capitals, as the original is.

    >>> match_case("dull", "Great"), match_case("dull", "GREAT"), match_case("an", "A")
    ('Dull', 'DULL', 'An')
    """
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word
