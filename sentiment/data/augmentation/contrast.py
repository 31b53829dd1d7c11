"""Contrasts: "although A, B" from two training texts of different labels, with the label of the clause that decides."""

import numpy as np

from sentiment.data.augmentation.base import Augmentation, Example, Material
from sentiment.data.augmentation.word_lists import FUNCTION_WORDS

LONGEST = 30  # words of a clause: of a longer text, no conjunction decides the label
# {0} concedes and {1} decides.
TEMPLATES = (
    "{0}, but {1}",
    "although {0}, {1}",
    "{0}. however, {1}",
    "{1}, although {0}",
    "even though {0}, {1}",
    "{0}, yet {1}",
)
ENDS = " .,;:!?-"
CONTRASTS_TEXT = """
but although though however yet despite nevertheless nonetheless
"""
CONTRASTS = frozenset(CONTRASTS_TEXT.split())
OPENINGS = frozenset(["and", "or", "if", "because", "while", "when", "that", "which", "who", "than", "even"])


class ContrastTemplates(Augmentation):
    """The text and one of the other class in a template, as the conceding clause or the deciding one."""

    unit = "rows"
    is_english = True
    needs_polarity = True

    def __init__(self, strength: float, material: Material):
        super().__init__(strength, material)
        self._rows: dict[int, list[int]] = {}
        for row, (text, label) in enumerate(zip(material.texts, material.labels, strict=True)):
            if is_clause(text):
                self._rows.setdefault(label, []).append(row)

    def augment(self, example: Example, generator: np.random.Generator) -> Example | None:
        """A contrast with the example in it; None for a long text."""
        others = [row for label, rows in sorted(self._rows.items()) if label != example.label for row in rows]
        if not others or not is_clause(example.text):
            return None
        row = others[generator.integers(len(others))]
        other = Example(self.material.texts[row], self.material.labels[row])
        conceding, deciding = (example, other) if generator.random() < 0.5 else (other, example)
        return Example(
            combine(TEMPLATES[generator.integers(len(TEMPLATES))], conceding.text, deciding.text), deciding.label
        )


def is_clause(text: str) -> bool:
    """Whether the text can be a clause of a contrast: it has words, not too many, and is no contrast itself.

    >>> [is_clause(text) for text in ("Fine.", "fine, but long", "and it is long", "...")]
    [True, False, False, False]
    """
    words = [word.strip(ENDS).lower() for word in text.split(maxsplit=LONGEST)]
    first = next(filter(None, words), "")
    return bool(first) and len(words) <= LONGEST and first not in OPENINGS and CONTRASTS.isdisjoint(words)


def combine(template: str, conceding: str, deciding: str) -> str:
    """The template with the two texts, in the case of a sentence if either text begins with a capital.

    >>> combine(TEMPLATES[1], "The cast is fine.", "It bored me!")
    'Although the cast is fine, it bored me!'
    """
    end = deciding[len(deciding.rstrip(ENDS)) :].strip() if template.endswith("{1}") else ""
    is_capitalised = conceding[:1].isupper() or deciding[:1].isupper()
    first, second = (lower_first(text.strip(ENDS)) for text in (conceding, deciding))
    text = template.format(first, second) + end
    if not is_capitalised:
        return text
    text = text.replace(". however", ". However")
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """The text with the first word in lower case, if that is a word of grammar and not "I"."""
    word = text.split(maxsplit=1)[0]
    if word != "I" and word.lower() in FUNCTION_WORDS and word.istitle():
        return word.lower() + text[len(word) :]
    return text
