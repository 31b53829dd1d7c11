"""Words of texts in any language: which scripts have no spaces, and whether texts are in English."""

import re
from collections.abc import Sequence

# Thai, Lao, Tibetan, Myanmar, Khmer; Japanese kana and Bopomofo; Chinese characters and their rarer forms.
SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)
# Frequent English words; a fifth or more of the words of English reviews.
ENGLISH_WORDS = frozenset(
    ("the", "and", "to", "it", "that", "this", "with", "but", "are", "not")
    + ("you", "have", "by", "from", "its", "they", "very", "good", "movie", "than")
)
FEWEST_ENGLISH_WORDS = 0.08  # share of all words


def is_spaceless(texts: Sequence[str]) -> bool:
    """Whether most letters are of scripts that are written without spaces between words.

    >>> is_spaceless(["电影很好看", "ok"]), is_spaceless(["a film of 张艺谋"])
    (True, False)
    """
    joined = "".join(texts)
    return 2 * len(SPACELESS.findall(joined)) > sum(map(str.isalpha, joined))


def is_english(texts: Sequence[str]) -> bool:
    """Whether texts are in English, by the share of frequent English words among their words.

    >>> is_english(["The plot is thin, but it is funny."]), is_english(["Der Film ist gut, aber viel zu lang."])
    (True, False)
    """
    words = [word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())]
    return sum(word in ENGLISH_WORDS for word in words) > FEWEST_ENGLISH_WORDS * len(words)
