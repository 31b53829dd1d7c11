"""Cleaning: from a raw text to the one that the tokenizer sees, in linear time."""

import html
import re
import string
from collections.abc import Callable

# `[^<>]*` cannot run past the next bracket, so that "<<<<..." costs linear time where `<.*?>` costs quadratic.
ANY_TAG = re.compile(r"<[^<>]*>")
# A tag starts with a letter, a slash or an exclamation mark: "I <3 this and 5 > 4" holds none.
HTML_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
# The semicolon is required: html.unescape alone reads "R&notes" as "R¬es".
CHARACTER_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
PUNCTUATION = re.compile(r"[^\w\s]|_")
NO_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def fold_white_space(text: str) -> str:
    """The text with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def clean_classic(text: str) -> str:
    """The lab report's cleaning: tags and punctuation deleted, lower case, white space folded.

    Deleting glues words together, which is why it is not the default.

    >>> clean_classic("Good<br />bad, it's street-smart!")
    'goodbad its streetsmart'
    """
    return fold_white_space(delete_punctuation(ANY_TAG.sub("", text)).lower())


def delete_punctuation(text: str) -> str:
    """The text without what is neither a letter nor a digit nor white space.

    >>> delete_punctuation("it's_good"), delete_punctuation("ça va…")
    ('itsgood', 'ça va')
    """
    if text.isascii() and text.isprintable():  # control characters are no letters either
        return text.translate(NO_ASCII_PUNCTUATION)  # the same in a third of the time
    return PUNCTUATION.sub("", text)


def clean_light(text: str) -> str:
    """The text with tags as spaces, character references decoded and white space folded.

    Case and punctuation stay: they carry sentiment, and the tokenizer knows what its vocabulary can use.

    >>> clean_light("Good<br />bad,&nbsp;it&#39;s  street-smart! I <3 it &amp; 5 > 4")
    "Good bad, it's street-smart! I <3 it & 5 > 4"
    """
    decoded = CHARACTER_REFERENCE.sub(lambda match: html.unescape(match[0]), HTML_TAG.sub(" ", text))
    return fold_white_space(decoded)


CLEANINGS: dict[str, Callable[[str], str]] = {"light": clean_light, "classic": clean_classic}


def compute_text_key(text: str) -> str:
    """What two texts share when they are the same text for splitting and auditing.

    The classic form, whatever cleaning a run uses: texts that differ in case, punctuation or spacing only must not
    stand on two sides, and runs with different cleaning get the same rows. A text of punctuation alone
    (":-)") is its own key.

    >>> compute_text_key("A FINE film .") == compute_text_key("a fine film")
    True
    """
    return clean_classic(text) or clean_light(text)
