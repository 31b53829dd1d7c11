"""Masked words and a model's predictions for them, as examples in a report."""

import itertools
import random
import unicodedata
from collections.abc import Sequence

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sentiment.data.languages import SPACELESS, find_words

CONTEXT_WORDS = (15, 8, 4, 2)  # on each side of the mask: the most that the model's length allows
MASK = "[MASK]"  # in excerpts, whatever token the model has for it
SHORTEST_WORD = 4  # letters


def mask_words(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, count: int = 20, seed: int = 0
) -> list[dict[str, str]]:
    """Excerpts in which one content word is masked: `text` with [MASK] in it, and the true `word`.

    A content word is a single token: a word between spaces that has at least four letters and is no English stop word,
    or characters of a script without spaces. Texts are drawn at random and give one excerpt each; texts without a
    content word are skipped. Needs a fast tokenizer.
    """
    generator = random.Random(seed)
    found: list[dict[str, str]] = []
    for text in generator.sample(texts, len(texts)):
        spans = find_content_words(text, tokenizer)
        if spans:
            start, end = generator.choice(spans)
            excerpts = (mask_span(text, start, end, size) for size in CONTEXT_WORDS)
            fitting = (text for text in excerpts if len(encode_masked(text, tokenizer)) <= tokenizer.model_max_length)
            found += [{"text": excerpt, "word": text[start:end]} for excerpt in itertools.islice(fitting, 1)]
        if len(found) == count:
            break
    return found


def find_content_words(text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    """Start and end of each word to mask, see `mask_words`."""
    encoded = tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False)
    tokens = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    # The tokens of some tokenizers begin with the space before them.
    spans = [
        (end - len(text[start:end].lstrip()), end) for token, (start, end) in tokens if token != tokenizer.unk_token_id
    ]
    return [(start, end) for start, end in spans if is_content_word(text, start, end)]


def is_content_word(text: str, start: int, end: int) -> bool:
    """Whether the token between these places is a word to mask, see `mask_words`."""
    word, before, after = text[start:end], text[max(0, start - 1) : start], text[end : end + 1]
    categories = [unicodedata.category(character)[0] for character in word]
    if not word or categories[0] != "L" or not {*categories} <= {"L", "M"}:  # letters and their combining marks
        return False
    if all(map(SPACELESS.match, word)):
        return not after or unicodedata.category(after)[0] != "M"
    return not f"{before}{after}".strip() and len(word) >= SHORTEST_WORD and word.lower() not in ENGLISH_STOP_WORDS


def mask_span(text: str, start: int, end: int, size: int) -> str:
    """The text with [MASK] in place of the span, and `size` words on each side, in one line."""
    words = find_words(text)
    first = [place for place, _ in words if place < start][-size:]
    last = [place for _, place in words if place > end][:size]
    masked = text[first[0] if first else start : start] + MASK + text[end : last[-1] if last else end]
    return " ".join(masked.split())


def encode_masked(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of an excerpt, with the tokenizer's own mask token."""
    input_ids: list[int] = tokenizer(text.replace(MASK, str(tokenizer.mask_token)))["input_ids"]
    return input_ids


def show_token(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A token as text, without the mark of a space before it; a token that is only that mark as it is."""
    return str(tokenizer.decode([token])).strip() or str(tokenizer.convert_ids_to_tokens(token))


@torch.inference_mode()
def fill_masks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], top_k: int = 3
) -> list[list[tuple[str, float]]]:
    """The top k tokens for the mask of each text with their probabilities, most probable first."""
    was_training = model.training
    model.eval()
    predictions = []
    for text in texts:
        input_ids = torch.tensor([encode_masked(text, tokenizer)])
        logits = model(input_ids.to(model.device)).logits[0].float()
        top = logits[input_ids[0] == tokenizer.mask_token_id][0].softmax(-1).topk(top_k)
        words = [show_token(token, tokenizer) for token in top.indices.tolist()]
        predictions.append(list(zip(words, top.values.tolist(), strict=True)))
    model.train(was_training)
    return predictions
