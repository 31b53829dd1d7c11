"""Token ids of texts, each word split into pieces once."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

from tokenizers import models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

# What BERT's pre-tokenizer takes apart in ASCII: runs of letters and digits, and each other sign by itself.
WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]")
# In other texts the normalizer has more to do than to put them into lower case.
PRINTABLE_ASCII = re.compile(r"[ -~]*")
MOST_WORDS = 1 << 20


class TextEncoder:
    """Token ids of texts without special tokens, as the tokenizer itself gives them.

    A corpus has few distinct words (36,000 in 6,000 reviews), and to normalize a text and split it anew takes the
    tokenizer of BERT eight times as long as to find its words and look them up. Texts that are not printable ASCII or
    hold a special token's name, and all texts of other tokenizers, are left to the tokenizer.

    `special` are the ids of the two tokens that stand before and after each text. Pickles without the words that it has seen, so that `datasets` finds a map's result whatever was encoded before.
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
        self.words = WordPieces(backend.model)

    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, uncut."""
        found = [self.look_up(text) for text in texts]
        others = [position for position, ids in enumerate(found) if ids is None]
        if others:
            # verbose=False: texts that are longer than the model takes are no reason for a warning, they are cut next.
            encodings = self.tokenizer(
                [texts[position] for position in others],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            for position, ids in zip(others, encodings["input_ids"], strict=True):
                found[position] = ids
        return found  # type: ignore[return-value]  # None is left nowhere

    def look_up(self, text: str) -> list[int] | None:
        """The ids of a text's words; None where that might not be what the tokenizer gives."""
        if not self.looks_words_up or not PRINTABLE_ASCII.fullmatch(text) or any(name in text for name in self.names):
            return None
        words = WORD.findall(text.lower() if self.lower_case else text)
        return list(chain.from_iterable(map(self.words.__getitem__, words)))


class WordPieces(dict[str, list[int]]):
    """The ids of a word's pieces, by the word, split when it is first asked for."""

    def __init__(self, model: models.Model) -> None:
        super().__init__()
        self.model = model

    def __missing__(self, word: str) -> list[int]:
        ids = [piece.id for piece in self.model.tokenize(word)]
        if len(self) < MOST_WORDS:
            self[word] = ids
        return ids
