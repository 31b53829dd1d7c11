"""Where a classifier errs: error rates by slice of the texts, and its most confident errors."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from sentiment.evaluation.metrics import compute_share_interval

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


def compute_slices(
    texts: Sequence[str], labels: Sequence[int], predicted: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    """Rows, errors, error rate and its 95% interval for all texts, then for each of `SLICES`, in their order.

    A slice without rows stays in the list, with None for the rate and the interval.
    """
    wrong = [label != guess for label, guess in zip(labels, predicted, strict=True)]
    described = list(zip(describe_texts(texts, tokenizer), wrong, strict=True))
    slices = [_summarize_slice("all texts", wrong)]
    for name, belongs in SLICES.items():
        slices.append(_summarize_slice(name, (is_wrong for text, is_wrong in described if belongs(text))))
    return slices


def _summarize_slice(name: str, wrong: Iterable[bool]) -> dict[str, Any]:
    outcomes = list(wrong)
    rows, errors = len(outcomes), sum(outcomes)
    return {
        "name": name,
        "rows": rows,
        "errors": errors,
        "error_rate": errors / rows if rows else None,
        "error_rate_ci95": compute_share_interval(errors, rows) if rows else None,
    }


def most_confident_errors(
    texts: Sequence[str],
    labels: Sequence[int],
    predicted: Sequence[int],
    probabilities: Sequence[float],
    limit: int = 20,
) -> list[dict[str, Any]]:
    """The misclassified texts that the model was surest of, at most `limit`, surest first, then by row.

    `probabilities` are those of positive; `confidence` is the probability of the predicted label.

    >>> most_confident_errors(["fine", "dull"], [1, 0], [1, 1], [0.9, 0.75])
    [{'row': 1, 'text': 'dull', 'label': 0, 'predicted': 1, 'confidence': 0.75}]
    """
    errors: list[dict[str, Any]] = [
        {
            "row": row,
            "text": text,
            "label": int(label),
            "predicted": int(guess),
            "confidence": float(probability if guess == 1 else 1.0 - probability),
        }
        for row, (text, label, guess, probability) in enumerate(
            zip(texts, labels, predicted, probabilities, strict=True)
        )
        if label != guess
    ]
    return sorted(errors, key=lambda error: (-error["confidence"], error["row"]))[:limit]
