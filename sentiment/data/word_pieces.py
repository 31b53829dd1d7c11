"""Token ids of texts, each word split into pieces once."""

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from tokenizers import models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

# What BERT's pre-tokenizer takes apart in ASCII: runs of letters and digits, and each other sign by itself.
WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]")
# In others the normalizer has more to do than to put them into lower case.
PRINTABLE_ASCII = re.compile(r"[ -~]*")
MOST_WORDS = 1 << 20


class TextEncoder:
    """Token ids of texts without special tokens, as the tokenizer itself gives them.

    A corpus has few distinct words (36,000 in 6,000 reviews), and to normalize a text and split it anew takes BERT's
    tokenizer eight times as long as to find its words and look them up. What stands between spaces and is not
    printable ASCII goes to the tokenizer the first time, and so do, each time, texts that hold the name of a special
    token, and all texts of other tokenizers than BERT's.

    `special` are the ids of the two tokens that stand before and after each text. Pickles without the words that it has
    seen, so that `datasets` finds a map's result whatever was encoded before.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        backend = tokenizer.backend_tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self.looks_words_up = (
            isinstance(backend.normalizer, normalizers.BertNormalizer)
            and backend.normalizer.clean_text
            and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
            and isinstance(backend.model, models.WordPiece)
            and not any(token.normalized or token.lstrip or token.rstrip for token in added)
        )
        self.lower_case = self.looks_words_up and backend.normalizer.lowercase
        self.names = [token.content for token in added]
        self.words = Memory(lambda word: [piece.id for piece in backend.model.tokenize(word)])
        self.others = Memory(lambda chunk: self.tokenize([chunk])[0])

    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, uncut."""
        if not self.looks_words_up:
            return self.tokenize(texts)
        return [self.encode_text(text) for text in texts]

    def encode_text(self, text: str) -> list[int]:
        """The ids of one text, by its words."""
        if any(name in text for name in self.names):
            return self.tokenize([text])[0]
        if PRINTABLE_ASCII.fullmatch(text):
            return self.look_up(text)
        parts = (
            self.look_up(part) if PRINTABLE_ASCII.fullmatch(part) else self.others[part] for part in text.split(" ")
        )
        return list(chain.from_iterable(parts))

    def look_up(self, text: str) -> list[int]:
        """The ids of a printable ASCII text."""
        words = WORD.findall(text.lower() if self.lower_case else text)
        return list(chain.from_iterable(map(self.words.__getitem__, words)))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, by the tokenizer."""
        # verbose=False: texts that are longer than the model takes are no reason for a warning, they are cut next.
        encodings = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encodings["input_ids"]
        return ids


class Memory(dict[str, list[int]]):
    """What a function gives for a word, worked out when it is first asked for."""

    def __init__(self, function: Callable[[str], list[int]]) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, word: str) -> list[int]:
        ids = self.function(word)
        if len(self) < MOST_WORDS:
            self[word] = ids
        return ids
