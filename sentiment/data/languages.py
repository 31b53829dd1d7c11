"""The language of texts, as far as their characters tell it, and the words of texts in any language."""

import re
import unicodedata
from collections.abc import Sequence

# Characters of scripts that are written without spaces between words, by the language that is most often written in
# them; Japanese before Chinese, whose characters it uses too.
SCRIPTS = {
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "bo": "\u0f00-\u0fff",
    "my": "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",
    "km": "\u1780-\u17ff\u19e0-\u19ff",
    "ja": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f",
    "zh": "\u3005-\u3007\u3100-\u312f\u31a0-\u31ef\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}
SPACELESS = re.compile(f"[{''.join(SCRIPTS.values())}]")
SPACELESS_LANGUAGES = (*SCRIPTS, "dz", "wuu", "yue")
SPACED_WORD = re.compile(r"[^\W\d_]+")
# Of the most frequent English words, those that other languages lack: "is" and "of" are Dutch too, "to" is Polish.
ENGLISH_WORDS = frozenset(
    [
        "the",
        "and",
        "it",
        "that",
        "this",
        "with",
        "but",
        "not",
        "you",
        "are",
        "they",
        "from",
        "his",
        "its",
        "which",
        "who",
    ]
)
ENGLISH_SHARE = 0.07  # of all words: 10% in English tweets, 15 to 18% in reviews and articles
SCRIPT_SHARE = 0.1  # of the characters without spaces; Japanese has over a third of kana
SAMPLED_TEXTS, SAMPLED_CHARACTERS = 1000, 1000
UNDETERMINED = "und"  # ISO 639


def choose_language(option: str, texts: Sequence[str]) -> str:
    """The language that `--language` names, or for `auto` the one of the texts."""
    return find_language(texts[:SAMPLED_TEXTS]) if option == "auto" else option.lower()


def find_language(texts: Sequence[str]) -> str:
    """`en`, a language without spaces between words, or `und` for any other.

    Texts are English if `ENGLISH_SHARE` of their words are among `ENGLISH_WORDS`. Their language has no spaces if more
    than half of the words are characters of `SCRIPTS`.

    >>> [find_language([text]) for text in ("这部电影很好看", "this film is not that good", "ein guter Film")]
    ['zh', 'en', 'und']
    """
    text = "\n".join(text[:SAMPLED_CHARACTERS] for text in texts)
    spaceless = SPACELESS.findall(text)
    words = SPACED_WORD.findall(SPACELESS.sub(" ", text).lower())
    if len(spaceless) > len(words):
        joined = "".join(spaceless)
        shares = {name: len(re.findall(f"[{script}]", joined)) / len(joined) for name, script in SCRIPTS.items()}
        return next(name for name, share in shares.items() if share > SCRIPT_SHARE)
    english = sum(word in ENGLISH_WORDS for word in words)
    return "en" if english and english >= ENGLISH_SHARE * len(words) else UNDETERMINED


def is_english(language: str) -> bool:
    """Whether a language code is that of English.

    >>> is_english("en-GB"), is_english("zh")
    (True, False)
    """
    return language.partition("-")[0] == "en"


def has_spaces(language: str) -> bool:
    """Whether words are separated by spaces in a language.

    >>> has_spaces("de"), has_spaces("zh-tw")
    (True, False)
    """
    return language.partition("-")[0] not in SPACELESS_LANGUAGES


def find_words(text: str, max_words: int | None = None, max_characters: int = 1) -> list[tuple[int, int]]:
    """Start and end of each word: what stands between white space, or a character of a script without spaces.

    If these are over `max_words`, up to `max_characters` characters in a row are one word.

    >>> [text[start:end] for text in ["so-so, but", "电影很好看。very"] for start, end in find_words(text)]
    ['so-so,', 'but', '电', '影', '很', '好', '看。', 'very']
    """
    pieces = [find_starts(piece) for piece in re.finditer(r"\S+", text)]
    size = 1
    while max_words and size < max_characters and sum(-(-len(starts) // size) for starts, _ in pieces) > max_words:
        size += 1
    words = []
    for starts, end in pieces:
        kept = starts[::size]
        words += list(zip(kept, [*kept[1:], end], strict=True))
    return words


def find_starts(piece: re.Match[str]) -> tuple[list[int], int]:
    """Where the words of a piece of text without white space start, and where the piece ends.

    Punctuation, combining marks and invisible characters belong to the character before them.
    """
    starts, is_spaceless = [piece.start()], False
    for place, character in enumerate(piece[0], start=piece.start()):
        if unicodedata.category(character)[0] in "MPC" or unicodedata.category(character) == "Sk":
            continue
        was_spaceless, is_spaceless = is_spaceless, SPACELESS.match(character) is not None
        if place > piece.start() and (is_spaceless or was_spaceless):
            starts.append(place)
    return starts, piece.end()
