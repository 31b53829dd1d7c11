"""Cleaning of texts, and the key that equal texts share; all in linear time."""

import html
import re
import string
import unicodedata
from collections.abc import Callable

# `[^<>]*` stops at the next bracket, so that "<<<<..." costs linear time; `<.*?>` is quadratic.
ANY_TAG = re.compile(r"<[^<>]*>")
# A tag starts with a letter, a slash or an exclamation mark: "I <3 this and 5 > 4" has none.
HTML_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
# The semicolon is required: html.unescape alone reads "R&notes" as "R¬es".
CHARACTER_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
PUNCTUATION = re.compile(r"[^\w\s]|_")
INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # categories of control, format and space characters
DELETE_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_classic(text: str) -> str:
    """The lab report's cleaning: delete tags and punctuation, lowercase, normalise white space.

    Deletion joins words, which is why it is not the default.

    >>> clean_classic("Good<br />bad, it's street-smart!")
    'goodbad its streetsmart'
    """
    text = ANY_TAG.sub("", text)
    if text.isascii() and text.isprintable():  # no control characters, which PUNCTUATION matches too
        text = text.translate(DELETE_ASCII_PUNCTUATION)  # three times as fast
    else:
        text = PUNCTUATION.sub(keep_mark, text)
    return " ".join(text.lower().split())


def keep_mark(match: re.Match[str]) -> str:
    """The character if it is a part of a letter, such as a vowel sign of Hindi or Thai or a combining accent, else "".

    Variation selectors are marks of symbols such as emoji.
    """
    is_mark = unicodedata.category(match[0]) in ("Mn", "Mc") and not "\ufe00" <= match[0] <= "\ufe0f"
    return match[0] if is_mark else ""


def clean_light(text: str) -> str:
    """Replace tags by spaces, decode character references and normalise white space.

    Case and punctuation stay: they carry sentiment, and the tokenizer knows what its vocabulary can use.

    >>> clean_light("Good<br />bad,&nbsp;it&#39;s  street-smart! I <3 it &amp; 5 > 4")
    "Good bad, it's street-smart! I <3 it & 5 > 4"
    """
    decoded = CHARACTER_REFERENCE.sub(lambda match: html.unescape(match[0]), HTML_TAG.sub(" ", text))
    return " ".join(decoded.split())


def is_blank(text: str) -> bool:
    """Whether the text has nothing but white space, control and format characters, such as zero-width ones.

    >>> is_blank(" \u200b\ufeff"), is_blank(":)")
    (True, False)
    """
    return all(unicodedata.category(character) in INVISIBLE for character in text)


# "none" leaves texts as they are, as for models that were not trained here.
CLEANINGS: dict[str, Callable[[str], str]] = {"light": clean_light, "classic": clean_classic, "none": str}


def compute_text_key(text: str) -> str:
    """The normalised text by which rows are compared, whatever the cleaning: without case, punctuation and tags.

    A text of punctuation alone (":-)") is its own key, and "" is that of a blank one. An accent is the same as one
    character or as a combining mark.

    >>> compute_text_key("A FINE film .") == compute_text_key("a fine film")
    True
    >>> compute_text_key("कि") == compute_text_key("का"), compute_text_key("\u00e9") == compute_text_key("e\u0301")
    (False, True)
    """
    light = clean_light(text)
    return unicodedata.normalize("NFC", clean_classic(text) or ("" if is_blank(light) else light))
