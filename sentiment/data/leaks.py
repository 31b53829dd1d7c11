"""Texts that contain each other as whole words, found by hashing word spans, and near-duplicates."""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from sentiment.data.cleaning import compute_text_key

FEWEST_WORDS = 4  # of a text that is part of another one by no chance
SHINGLE_LENGTH, NEAR_DUPLICATE = 5, 0.8  # characters; share of the shingles of either text that both have


class SpanIndex:
    """An index that finds phrases inside longer texts, in time linear in the length of the text.

    A phrase is stored under the hash of its longest prefix of 2**k words, with its shorter such prefixes as markers: a
    search from each word of a text tries prefixes of doubling length, up to the first that no phrase starts with.
    """

    def __init__(self, phrases: Iterable[str]):
        self.phrases = {phrase for phrase in phrases if phrase}
        self._lengths: dict[int, set[int]] = defaultdict(set)
        for phrase in self.phrases:
            words = phrase.split()
            prefix = 1
            while prefix * 2 <= len(words):
                self._lengths[hash(" ".join(words[:prefix]))]
                prefix *= 2
            self._lengths[hash(" ".join(words[:prefix]))].add(len(words))

    def __reduce__(self) -> tuple[Any, ...]:
        """Build it anew in another process, where hashes are others."""
        return SpanIndex, (self.phrases,)

    def find_in(self, text: str) -> Iterator[str]:
        """Yield the phrases that the text contains, itself included, once per occurrence.

        >>> sorted(SpanIndex(["a fine film", "fine", "film of"]).find_in("a fine film"))
        ['a fine film', 'fine']
        """
        words = text.split()
        for start in range(len(words)):
            prefix = 1
            while start + prefix <= len(words):
                lengths = self._lengths.get(hash(" ".join(words[start : start + prefix])))
                if lengths is None:
                    break
                for length in lengths:
                    span = " ".join(words[start : start + length])
                    # A slice past the end of the text is shorter than `length` and may be another phrase.
                    if start + length <= len(words) and span in self.phrases:
                        yield span
                prefix *= 2


class OverlapIndex:
    """Texts, and whether another one is a part of one of them or holds one, as whole words.

    Only texts of `FEWEST_WORDS` words or more are compared: "a good film" is a part of many reviews by chance. In
    scripts without spaces between words, where a text is one word, nothing overlaps. Texts are normalised
    (`compute_text_key`).
    """

    def __init__(self, texts: Iterable[str]):
        long_texts = sorted({text for text in texts if len(text.split()) >= FEWEST_WORDS})
        self._index = SpanIndex(long_texts)
        self._joined = "\n".join(f" {text} " for text in long_texts)
        hashes = (found for text in long_texts for found in hash_windows(text))
        self._windows = np.unique(np.fromiter(hashes, dtype=np.uint32))

    def overlaps(self, text: str) -> bool:
        """Whether the text is a part of one of the texts, holds one, or is one.

        >>> index = OverlapIndex(["it is a fine film , I think", "one fine day"])
        >>> [index.overlaps(text) for text in ("a fine film ,", "a fine film", "so it is a fine film , I think", "it")]
        [True, False, True, False]
        """
        return any(self._index.find_in(text)) or self._is_part(text)

    def _is_part(self, text: str) -> bool:
        """Whether a text holds this one; looked for only if the texts hold each fourth window of it."""
        is_long = False
        for found in hash_windows(text, step=FEWEST_WORDS):
            place, is_long = np.searchsorted(self._windows, np.uint32(found)), True  # an int would cast all windows
            if place == len(self._windows) or self._windows[place] != found:
                return False
        return is_long and f" {text} " in self._joined


def hash_windows(text: str, step: int = 1) -> Iterator[int]:
    """The CRC-32 of each run of `FEWEST_WORDS` words, starting at every `step`-th word; none of a shorter text."""
    words = text.split()
    for start in range(0, len(words) - FEWEST_WORDS + 1, step):
        yield zlib.crc32(" ".join(words[start : start + FEWEST_WORDS]).encode())


def find_containers(texts: Sequence[str]) -> dict[str, set[int]]:
    """Map each text that is part of another to the indices of the maximal texts that contain it.

    A maximal text is contained in no other text. `texts` must be distinct.

    >>> find_containers(["a fine film", "fine", "fine film", "one fine day"]) == {"fine": {0, 3}, "fine film": {0}}
    True
    """
    index = SpanIndex(texts)
    parts = [set(index.find_in(text)) - {text} for text in texts]
    contained = set().union(*parts)
    containers: dict[str, set[int]] = defaultdict(set)
    for position, text in enumerate(texts):
        if text not in contained:
            for part in parts[position]:
                containers[part].add(position)
    return dict(containers)


def assign_clusters(texts: Sequence[str]) -> np.ndarray:
    """Cluster id of each row for a cluster bootstrap, shape (rows,), numbered from 0 by first occurrence.

    Rows of equal normalised text (`compute_text_key`) share a cluster. A text that is part of others joins the
    shortest maximal text that contains it (`find_containers`; the first of equal length), of which it is the largest
    part. So a phrase is resampled with the sentence it was cut from, and a cluster holds one maximal text.

    Connected components would be wrong: a common word links unrelated sentences. In SST-2's stratified test split (all
    rows, seed 42: 6,822) they give 3,582 clusters, one of them of 1,013 rows; this definition 4,225 of at most 8.

    >>> assign_clusters(["A fine film!", "fine", "one fine long day", "a fine film", "dull"]).tolist()
    [0, 0, 1, 0, 2]
    """
    keys = [compute_text_key(text) for text in texts]
    distinct = list(dict.fromkeys(keys))
    heads = {text: text for text in distinct}
    for text, positions in find_containers(distinct).items():
        heads[text] = distinct[min(positions, key=lambda position: (len(distinct[position].split()), position))]
    ids: dict[str, int] = {}
    return np.array([ids.setdefault(heads[key], len(ids)) for key in keys], dtype=int)


class NearDuplicates:
    """Texts, and whether a new one is nearly one of them: `NEAR_DUPLICATE` of their shingles are common.

    The resemblance of Broder 1997 ("On the resemblance and containment of documents"), computed exactly, on spans of
    characters of the normalised texts without spaces, so that it works in any script.
    """

    def __init__(self) -> None:
        self.shingles: list[set[str]] = []

    def add(self, text: str) -> bool:
        """Whether the text is nearly one of those before; adds it if it is not.

        >>> texts = NearDuplicates()
        >>> [texts.add(text) for text in ("I loved each scene, and the end.", "Dull.", "loved each scene and the end")]
        [False, False, True]
        """
        found = list_shingles(text)
        if any(is_near(found, other) for other in self.shingles):
            return True
        self.shingles.append(found)
        return False


def list_shingles(text: str) -> set[str]:
    """The spans of `SHINGLE_LENGTH` characters of the normalised text without spaces."""
    key = compute_text_key(text).replace(" ", "")
    return {key[start : start + SHINGLE_LENGTH] for start in range(max(1, len(key) - SHINGLE_LENGTH + 1))}


def is_near(shingles: set[str], others: set[str]) -> bool:
    """Whether two texts, by their shingles, are near-duplicates."""
    return len(shingles & others) >= NEAR_DUPLICATE * len(shingles | others)


def find_near_duplicates(texts: Sequence[str], places: Sequence[int]) -> dict[int, list[int]]:
    """For those of some places in `texts` that have any, the places of their near-duplicates, equal texts included.

    Two sets that have `NEAR_DUPLICATE` of their shingles in common share one of the first few in any fixed order
    (prefix filtering, Chaudhuri, Ganti & Kaushik 2006), so that only texts with such a one are compared.

    >>> find_near_duplicates(["I loved each scene, and the end.", "Dull.", "loved each scene and the end"], [0, 1])
    {0: [2]}
    """
    chosen = {place: list_shingles(texts[place]) for place in places}
    index: dict[str, list[int]] = defaultdict(list)
    for place, shingles in chosen.items():
        for shingle in choose_prefix(shingles):
            index[shingle].append(place)
    found: dict[int, list[int]] = defaultdict(list)
    for other, text in enumerate(texts):
        shingles = list_shingles(text)
        candidates = {place for shingle in choose_prefix(shingles) for place in index.get(shingle, ())}
        for place in sorted(candidates - {other}):
            if is_near(chosen[place], shingles):
                found[place].append(other)
    return dict(found)


def choose_prefix(shingles: set[str]) -> list[str]:
    """The first of the shingles in a fixed order, one more than a near-duplicate may lack."""
    return sorted(shingles, key=hash)[: len(shingles) - math.ceil(NEAR_DUPLICATE * len(shingles)) + 1]
