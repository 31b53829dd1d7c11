"""Where classifiers err: slices of the texts, error rates, confident errors, and what another model fixes or breaks."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerBase

from sentiment.data.labels import PROBABILITY_PREFIX
from sentiment.data.languages import has_spaces, is_english
from sentiment.evaluation.intervals import compute_proportion_interval, number_clusters

Predictions = Mapping[str, Sequence[Any]]  # columns of a run's predictions.parquet
ALL_TEXTS = "all texts"
# Some words have lost the apostrophe of "n't", which some cleanings delete; SST-2 itself has "nt".
NEGATION = re.compile(
    "no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|hardly|barely|scarcely|rarely|seldom|.*n't|nt|"
    "aint|arent|cant|couldnt|didnt|doesnt|dont|hadnt|hasnt|havent|isnt|mustnt|neednt|shouldnt|wasnt|werent|wont|wouldnt"
)
CONTRAST = re.compile(
    "but|although|though|tho|albeit|however|yet|despite|while|whilst|whereas|nevertheless|nonetheless|notwithstanding|"
    "except|instead|unless"
)
# Letters, digits and inner apostrophes: "doesn't" is one word, "street-smart" two.
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class TextFeatures:
    """The lower-case words of a text, its length, and whether the tokenizer splits a word of it."""

    words: frozenset[str]
    length: int
    has_split_word: bool


Slices = Mapping[str, Callable[[TextFeatures], bool]]
# The five lengths partition the texts; the other slices overlap with them and each other.
WORD_LENGTHS: Slices = {
    "1 word": lambda text: text.length <= 1,
    "2-5 words": lambda text: 2 <= text.length <= 5,
    "6-10 words": lambda text: 6 <= text.length <= 10,
    "11-20 words": lambda text: 11 <= text.length <= 20,
    "over 20 words": lambda text: text.length > 20,
}
CHARACTER_LENGTHS: Slices = {  # a word has about two
    "1-2 characters": lambda text: text.length <= 2,
    "3-10 characters": lambda text: 3 <= text.length <= 10,
    "11-20 characters": lambda text: 11 <= text.length <= 20,
    "21-40 characters": lambda text: 21 <= text.length <= 40,
    "over 40 characters": lambda text: text.length > 40,
}
ENGLISH_SLICES: Slices = {
    "negation (not, never, n't, ...)": lambda text: any(map(NEGATION.fullmatch, text.words)),
    "contrast (but, although, despite, ...)": lambda text: any(map(CONTRAST.fullmatch, text.words)),
}
SUBWORD_SLICES: Slices = {
    "a word split into subwords": lambda text: text.has_split_word,
    "no word split into subwords": lambda text: not text.has_split_word,
}


def list_slices(language: str) -> Slices:
    """The slices of texts in a language: lengths in words and words split into subwords, or lengths in characters
    where words are not separated by spaces; negation and contrast for English only.

    >>> list(list_slices("zh"))[:2], len(list_slices("de")), len(list_slices("en"))
    (['1-2 characters', '3-10 characters'], 7, 9)
    """
    if not has_spaces(language):
        return CHARACTER_LENGTHS
    return {**WORD_LENGTHS, **(ENGLISH_SLICES if is_english(language) else {}), **SUBWORD_SLICES}


def extract_features(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, language: str = "en"
) -> list[TextFeatures]:
    """The features of each text that the slices depend on; needs a fast tokenizer."""
    if not texts:
        return []
    # Nothing is truncated and no warning about length is due: these ids are not for a model.
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)
    return [
        TextFeatures(
            words=frozenset(WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))),
            length=count_words(text) if has_spaces(language) else sum(map(str.isalnum, text)),
            # Subwords of one word are adjacent and have the same word id.
            has_split_word=any(one == other for one, other in pairwise(encoded.word_ids(row))),
        )
        for row, text in enumerate(texts)
    ]


def count_words(text: str) -> int:
    """What stands between spaces and has a letter or digit: SST-2's free-standing commas do not count.

    >>> count_words("a street-smart film , but long .")
    5
    """
    return sum(any(map(str.isalnum, part)) for part in text.split())


def assign_slices(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, language: str = "en"
) -> dict[str, np.ndarray]:
    """A boolean mask of shape (texts,) for "all texts" and for each of `list_slices`, in their order."""
    features, slices = extract_features(texts, tokenizer, language), list_slices(language)
    masks = {name: np.array([belongs(text) for text in features], dtype=bool) for name, belongs in slices.items()}
    return {ALL_TEXTS: np.ones(len(texts), dtype=bool)} | masks


def compute_slice_metrics(
    predictions: Predictions,
    tokenizer: PreTrainedTokenizerBase,
    clusters: ArrayLike | None = None,
    language: str = "en",
) -> list[dict[str, Any]]:
    """Rows, errors and their rate (None if empty) for all texts and each of `list_slices`."""
    wrong = np.not_equal(predictions["label"], predictions["predicted"])
    ids = number_clusters(clusters, len(wrong))
    return [
        {"name": name, "rows": int(mask.sum()), "errors": int(wrong[mask].sum())}
        | {
            "error_rate": float(wrong[mask].mean()) if mask.any() else None,
            "error_rate_ci95": compute_proportion_interval(wrong[mask], ids[mask]) if mask.any() else None,
        }
        for name, mask in assign_slices(predictions["text"], tokenizer, language).items()
    ]


def find_most_confident_errors(predictions: Predictions, limit: int = 20) -> list[dict[str, Any]]:
    """The misclassified texts with the highest probability of the predicted label."""
    columns = ("row", "text", "label", "predicted", "score")
    errors = [
        {"row": row, "text": text, "label": label, "predicted": answer, "confidence": score}
        for row, text, label, answer, score in zip(*(predictions[name] for name in columns), strict=True)
        if label != answer
    ]
    return sorted(errors, key=lambda error: (-error["confidence"], error["row"]))[:limit]


def count_fixes_and_regressions(
    slices: Mapping[str, np.ndarray], correct_a: ArrayLike, correct_b: ArrayLike
) -> list[dict[str, Any]]:
    """Rows, errors of A and B, and fixes and regressions of B in each slice of `assign_slices`."""
    first, second = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    flags = {"errors_a": ~first, "errors_b": ~second, "fixes": ~first & second, "regressions": first & ~second}
    counts = []
    for name, mask in slices.items():
        found = {key: int((mask & flag).sum()) for key, flag in flags.items()}
        net = found["fixes"] - found["regressions"]
        counts.append({"name": name, "rows": int(mask.sum()), **found, "net": net})
    return counts


def find_most_confident_flips(
    predictions_a: Predictions, predictions_b: Predictions, limit: int = 10
) -> dict[str, list[dict[str, Any]]]:
    """The fixes and regressions of B, for the same rows, whose probabilities of the true label differ most."""
    flips: dict[str, list[dict[str, Any]]] = {"fixes": [], "regressions": []}
    classes = [name for name in predictions_a if name.startswith(PROBABILITY_PREFIX)]
    columns = [predictions_a[name] for name in ("row", "text", "label", "predicted")]
    for place, (row, text, label, answer_a) in enumerate(zip(*columns, strict=True)):
        answer_b = predictions_b["predicted"][place]
        if (answer_a == label) != (answer_b == label):
            flip = {"row": row, "text": text, "label": label}
            flip |= {"probability_a": predictions_a[classes[label]][place]}
            flip |= {"probability_b": predictions_b[classes[label]][place]}
            flips["fixes" if answer_b == label else "regressions"].append(flip)
    for found in flips.values():
        found.sort(key=lambda flip: (-abs(flip["probability_b"] - flip["probability_a"]), flip["row"]))
    return {kind: found[:limit] for kind, found in flips.items()}
