"""Which texts are part of which others, as whole words, found by hashing spans."""

from collections import defaultdict
from collections.abc import Iterable, Iterator


class SpanIndex:
    """Phrases, prepared to be found inside longer texts.

    A phrase of n words is filed under its first 2**k words, the longest such prefix; shorter prefixes are filed as
    markers. A text is then searched from each of its words by doubling prefixes, and given up at the
    first prefix that no phrase starts with, so that the cost grows with the length of the text and not with its square.
    Prefixes are kept as hashes to save memory; every hit is checked against the phrases themselves.
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

    def find_in(self, text: str) -> Iterator[str]:
        """The phrases that the text contains, once for each place; the whole text counts as a part of itself.

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
                    # Near the end of the text a slice comes out short, and is then another phrase than the one meant.
                    if start + length <= len(words) and span in self.phrases:
                        yield span
                prefix *= 2


def find_containers(texts: list[str]) -> dict[str, set[int]]:
    """For each text that is part of a longer one: the positions of the texts that contain it and are part of no other.

    Texts must be distinct. A text that is missing from the answer is part of no other.

    >>> find_containers(["a fine film", "fine", "fine film", "one fine day"]) == {"fine": {0, 3}, "fine film": {0}}
    True
    """
    index = SpanIndex(texts)
    parts = [set(index.find_in(text)) - {text} for text in texts]
    contained = set().union(*parts) if parts else set()
    containers: dict[str, set[int]] = defaultdict(set)
    for position, text in enumerate(texts):
        if text not in contained:
            for part in parts[position]:
                containers[part].add(position)
    return dict(containers)
