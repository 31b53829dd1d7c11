"""Augmentation of training texts: one module a kind, and one entry in the table of kinds."""

from collections.abc import Mapping, Sequence

from sentiment.data.augmentation.base import Augmentation, Example, Material
from sentiment.data.augmentation.contrast import ContrastTemplates
from sentiment.data.augmentation.punctuation import PunctuationInsertion
from sentiment.data.augmentation.sentiment_swap import SentimentSwap
from sentiment.data.augmentation.typos import TypingErrors
from sentiment.data.augmentation.word_changes import SynonymInsertion, SynonymReplacement, WordDeletion, WordSwap
from sentiment.data.augmentation.word_proposals import MaskedWordReplacement
from sentiment.data.labels import has_polarity
from sentiment.data.languages import is_english
from sentiment.exceptions import require, suggest_name

__all__ = ["AUGMENTATIONS", "Augmentation", "Example", "Material", "check_augmentations"]

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "synonym": SynonymReplacement,
    "insert": SynonymInsertion,
    "delete": WordDeletion,
    "swap": WordSwap,
    "punctuation": PunctuationInsertion,
    "typo": TypingErrors,
    "masked_lm": MaskedWordReplacement,
    "contrast": ContrastTemplates,
    "sentiment_swap": SentimentSwap,
}


def check_names(strengths: Mapping[str, float]) -> None:
    """Raises InputError for a kind that does not exist."""
    for name in strengths:
        way_out = suggest_name(name, AUGMENTATIONS) or f"; choose from {', '.join(AUGMENTATIONS)}"
        require(name in AUGMENTATIONS, f"--augmentation: unknown kind '{name}'{way_out}")


def check_augmentations(
    strengths: Mapping[str, float], augmented_share: float, language: str, class_names: Sequence[str], cleaning: str
) -> None:
    """Raises InputError for kinds that these texts or classes cannot have, or if more rows are asked for than exist."""
    check_names(strengths)
    for name in strengths:
        kind, option = AUGMENTATIONS[name], f"--augmentation {name}"
        require(
            not kind.is_english or is_english(language),
            f"{option}: its word lists are English, and the texts are of language '{language}': pass --language en if "
            "they are English, or choose from "
            + ", ".join(other for other, one in AUGMENTATIONS.items() if not one.is_english),
        )
        require(
            not kind.needs_polarity or has_polarity(class_names),
            f"{option}: for the classes negative and positive only, and these are {', '.join(class_names)}",
        )
        require(
            not kind.needs_punctuation or cleaning != "classic",
            f"{option}: --cleaning classic takes punctuation away: pass --cleaning light",
        )
    rows = compute_row_shares(strengths, augmented_share)
    require(
        sum(rows.values()) <= 1 + 1e-9,
        f"--augmentation: {sum(rows.values()):.0%} of the rows would be augmented: lower --augmented_share or the "
        "strengths of " + " and ".join(name for name in rows if AUGMENTATIONS[name].unit == "rows"),
    )


def compute_row_shares(strengths: Mapping[str, float], augmented_share: float) -> dict[str, float]:
    """The share of an epoch's rows that gets each kind: its strength, or an equal part of `augmented_share`.

    >>> compute_row_shares({"synonym": 0.1, "typo": 0.05, "contrast": 0.2}, 0.5)
    {'synonym': 0.25, 'typo': 0.25, 'contrast': 0.2}
    """
    words = [name for name in strengths if AUGMENTATIONS[name].unit == "words"]
    return {name: augmented_share / len(words) if name in words else strength for name, strength in strengths.items()}
