"""Words of English texts, their clauses, and negations: found, taken away, added."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WORD = re.compile(r"[A-Za-z]+(?:['\u2019-][A-Za-z]+)*")
BREAK = re.compile(r"[.,;:!?()\"\n]|--")  # between two words: the end of a clause
CLAUSE_WORDS_TEXT = """
but although though however because while yet than if when which who
"""
CLAUSE_WORDS = frozenset(CLAUSE_WORDS_TEXT.split())
NEGATION_SCOPE = 4  # words after a negation that it may deny
AUXILIARY_SCOPE = 5  # words after a verb that a negation added to it may deny

BE = frozenset(["is", "are", "was", "were", "am", "be", "been"])
HAVE = frozenset(["have", "has", "had"])
OTHER_AUXILIARIES = frozenset(["do", "does", "did", "can", "could", "will", "would", "should", "may", "might", "must"])
AUXILIARIES = BE | HAVE | OTHER_AUXILIARIES
PRONOUNS = frozenset(["it", "that", "he", "she", "there", "they", "we", "you", "i", "this", "what"])
ENCLITICS = frozenset(["s", "re", "m"])  # "it's", or "it 's" in the tokenized texts of SST-2
# What may stand between a verb and the word that "not" after the verb denies: "is really a very good".
FILLERS_TEXT = """
a an the such so very really quite rather just also still always all any one some this my your his her its their our
most more much truly almost even as
"""
FILLERS = frozenset(FILLERS_TEXT.split())
# Negations, and the word that takes their place where they are taken away; "" for none.
NEGATIONS = {
    "not": "",
    "n't": "",
    "never": "always",
    "no": "some",
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
    "nobody": "everybody",
    "cannot": "can",
    "neither": "both",
    "nor": "and",
}
FAILURES = {"fail": "manage", "fails": "manages", "failed": "managed", "failing": "managing"}  # before "to"
STEMS = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}  # of "can't", "won't", "shan't", "ain't"
CONTRACTION = re.compile(r"(is|are|was|were|do|does|did|have|has|had|ca|could|wo|would|should|must|might|ai)n'?t")
DOUBT = re.compile(r"((a|any|no) )?(doubt|question)")  # "without a doubt" denies nothing
COMPARATIVES = frozenset(["better", "worse"])
COULD = re.compile(r"(\w+ )?(could|ca)n't|(could|can|ca) (not|n't)|(\w+ )?cannot")  # "couldn't be better" praises
NOT_ONLY = frozenset(["only", "just", "merely", "simply", "because"])  # "not only good" denies nothing
VOWELS = "aeiou"


@dataclass
class Sentence:
    """The words of a text, what stands between them, and what was changed."""

    words: list[str]
    separators: list[str]  # before each word, and after the last
    lowered: list[str]  # the words as they were, in lower case and with the ASCII apostrophe
    clauses: list[int]  # number of the clause of each word
    removed: set[int] = field(default_factory=set)  # negations taken away
    negated: list[int] = field(default_factory=list)  # verbs after which one was added
    replaced: set[int] = field(default_factory=set)

    @classmethod
    def parse(cls, text: str) -> "Sentence":
        """The words of a text.

        >>> Sentence.parse("It isn't bad, though").clauses
        [0, 0, 0, 2]
        """
        matches = list(WORD.finditer(text))
        ends = [0, *(match.end() for match in matches)]
        starts = [*(match.start() for match in matches), len(text)]
        separators = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        words = [match[0] for match in matches]
        lowered = [word.lower().replace("\u2019", "'") for word in words]
        clauses, clause = [], 0
        for word, separator in zip(lowered, separators[:-1], strict=True):
            clause += bool(BREAK.search(separator)) + (word in CLAUSE_WORDS)
            clauses.append(clause)
        return cls(words, separators, lowered, clauses)

    def get_word(self, place: int) -> str:
        """The word at a place, in lower case; "" outside the text."""
        return self.lowered[place] if 0 <= place < len(self.lowered) else ""

    def find_negation(self, place: int) -> int | None:
        """The place of the nearest negation, not taken away yet, that denies the word; None without one."""
        return next(iter(self.find_negations(place)), None)

    def find_negations(self, place: int) -> Iterator[int]:
        """The places of all of them, the nearest first; two cancel each other."""
        for before in range(place - 1, max(-1, place - 1 - NEGATION_SCOPE), -1):
            if self.clauses[before] != self.clauses[place]:
                return
            if before in self.removed or not self.is_negation(before):
                continue
            verb = " ".join(self.lowered[max(0, before - 1) : before + 1])
            if not (self.get_word(place) in COMPARATIVES and COULD.fullmatch(verb)):
                yield before

    def is_negation(self, place: int) -> bool:
        """Whether the word denies what follows it."""
        word, after = self.get_word(place), self.get_word(place + 1)
        if word in FAILURES:
            return after == "to"
        if word == "without":
            return not DOUBT.match(" ".join(self.lowered[place + 1 : place + 3]))
        return (word in NEGATIONS or CONTRACTION.fullmatch(word) is not None) and after not in NOT_ONLY

    def is_freed(self, place: int) -> bool:
        """Whether a negation that denied the word was taken away."""
        return any(
            before in self.removed and self.clauses[before] == self.clauses[place]
            for before in range(max(0, place - NEGATION_SCOPE), place)
        )

    def is_denied_anew(self, place: int) -> bool:
        """Whether a negation that denies the word was added."""
        verb = self.negated[-1] if self.negated else place
        return verb < place <= verb + AUXILIARY_SCOPE and self.clauses[verb] == self.clauses[place]

    def find_auxiliary(self, place: int) -> int | None:
        """The place of the verb before the word that takes "not" after it, with nothing but `FILLERS` between."""
        for before in range(place - 1, max(-1, place - 1 - AUXILIARY_SCOPE), -1):
            if self.clauses[before] != self.clauses[place] or before in self.replaced:
                return None
            if self.is_auxiliary(before):
                # "has been lost", "would be": the first of several takes it
                return before - 1 if self.is_auxiliary(before - 1) else before
            if self.lowered[before] not in FILLERS and not self.lowered[before].endswith("ly"):
                return None
        return None

    def is_auxiliary(self, place: int) -> bool:
        """Whether the word is a verb that takes "not" after it."""
        word, after = self.get_word(place), self.get_word(place + 1)
        if word in HAVE:  # "has charm" is no auxiliary
            return after == "been" or after.endswith("ed")
        if word in ENCLITICS:
            return self.get_word(place - 1) in PRONOUNS and self.separators[place].endswith(("'", "\u2019"))
        stem, _, enclitic = word.partition("'")
        return word in AUXILIARIES or (enclitic in ENCLITICS and stem in PRONOUNS)

    def remove_negation(self, place: int) -> None:
        """Takes a negation away, or puts its opposite in its place."""
        word, before, after = self.lowered[place], self.get_word(place - 1), self.get_word(place + 1)
        contraction = CONTRACTION.fullmatch(word)
        self.removed.add(place)
        opposite = FAILURES.get(word) or NEGATIONS.get(word, "")
        if contraction:
            opposite = STEMS.get(contraction[1], contraction[1])
        elif word == "n't" and before in STEMS:
            self.words[place - 1] = match_case(STEMS[before], self.words[place - 1])
        elif word == "no" and after in ("good", "better", "fun"):
            opposite = ""
        elif word == "no" and (before in BE | ENCLITICS or "'" in before):  # "is no masterpiece"
            opposite = "an" if after[:1] in VOWELS else "a"
        if opposite:
            self.words[place] = match_case(opposite, self.words[place])
        else:
            self.delete(place)

    def delete(self, place: int) -> None:
        """Deletes a word, with one of the two spaces around it; the next word takes over its capital."""
        if place + 1 < len(self.words) and self.words[place].istitle():
            self.words[place + 1] = self.words[place + 1][:1].upper() + self.words[place + 1][1:]
        self.words[place] = ""
        if self.separators[place].endswith(" ") or not self.separators[place]:
            self.separators[place + 1] = self.separators[place + 1].removeprefix(" ")

    def add_negation(self, place: int) -> None:
        """Adds "not" after a verb."""
        self.words[place] += " NOT" if len(self.words[place]) > 1 and self.words[place].isupper() else " not"
        self.negated.append(place)

    def replace(self, place: int, word: str) -> None:
        """Puts another word in the place of one, in the same case, and makes "a" or "an" before it right."""
        self.words[place] = match_case(word, self.words[place])
        self.replaced.add(place)
        if self.get_word(place - 1) in ("a", "an"):
            self.words[place - 1] = match_case("an" if word[:1] in VOWELS else "a", self.words[place - 1])

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
