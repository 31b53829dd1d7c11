"""Texts as token ids of a limited length: which part of a longer text is kept; imports no torch and no datasets."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import TypeVar

from tokenizers import Tokenizer

Part = TypeVar("Part", str, list[int])
# Upper bound, since the tokenizer reads a whole text before its tokens can be cut.
CHARACTERS_PER_TOKEN = 100


def encode_truncated(
    tokenizer: Tokenizer, texts: Sequence[str], max_seq_length: int, truncation: str
) -> tuple[list[list[int]], list[bool]]:
    """Token ids of each text, special tokens included, at most `max_seq_length`; and which texts were longer.

    The tokenizer must neither truncate nor pad by itself.
    """
    before, after = find_special_tokens(tokenizer)
    size = max_seq_length - len(before) - len(after)
    limit = max_seq_length * CHARACTERS_PER_TOKEN
    shortened = [text if len(text) <= limit else truncate(text, limit, truncation) for text in texts]
    encodings = tokenizer.encode_batch_fast(shortened, add_special_tokens=False)
    input_ids, is_longer = [], []
    for text, encoding in zip(texts, encodings, strict=True):
        ids = encoding.ids
        is_longer.append(len(ids) > size or len(text) > limit)
        input_ids.append([*before, *truncate(ids, size, truncation), *after])
    return input_ids, is_longer


def truncate(whole: Part, size: int, truncation: str) -> Part:
    """The first `size` characters or tokens (`head`), the last (`tail`), or a quarter first and the rest last.

    With 512 tokens, two of them special, `head_tail` keeps 128 and 382: the best of the three for long reviews in
    Sun et al. 2019 (arXiv:1905.05583), section 5.3.1.

    >>> truncate([1, 2, 3, 4, 5, 6], 4, "head_tail"), truncate("abcdef", 4, "tail")
    ([1, 4, 5, 6], 'cdef')
    """
    if len(whole) <= size:
        return whole
    first = {"head": size, "tail": 0, "head_tail": (size + 2) // 4}[truncation]
    return whole[:first] + whole[len(whole) - (size - first) :]


@lru_cache(maxsize=16)
def find_special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of the special tokens that the tokenizer adds before a text and after it.

    They are [CLS] and [SEP] for BERT, <s> and </s> for RoBERTa. Found once for a tokenizer: it must not change later.
    """
    tokens = map(tokenizer.id_to_token, range(tokenizer.get_vocab_size()))
    for text in chain(["a"], filter(None, tokens)):  # a small vocabulary may lack the letter
        encoding = tokenizer.encode(text)
        content = [place for place, is_special in enumerate(encoding.special_tokens_mask) if not is_special]
        if content:
            return encoding.ids[: content[0]], encoding.ids[content[-1] + 1 :]
    return [], []
