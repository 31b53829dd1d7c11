"""Masked words and a model's predictions for them, as examples in a report."""

import random
import re
from collections.abc import Sequence

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sentiment.data.words import SPACELESS, is_spaceless

CONTEXT_WORDS = (15, 8, 4, 2)  # on each side of the mask: the most that the model's length allows
MASK = "[MASK]"  # in excerpts, whatever token the model has for it
CONTENT_WORD = re.compile(r"[^\W\d_]{4,}")


def mask_words(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, count: int = 20, seed: int = 0
) -> list[dict[str, str]]:
    """Excerpts in which one content word is masked: `text` with [MASK] in it, and the true `word`.

    A content word has at least four letters, is no English stop word, and is a single token; in scripts without spaces,
    it is one character. Texts are drawn at random and give one excerpt each; those without a content word are skipped.
    """
    generator = random.Random(seed)
    found: list[dict[str, str]] = []
    for text in generator.sample(texts, len(texts)):
        separator = "" if is_spaceless([text]) else " "
        words = text.split() if separator else list(text)
        positions = [position for position, word in enumerate(words) if is_content_word(word, tokenizer)]
        if positions:
            position = generator.choice(positions)
            masked = [*words[:position], MASK, *words[position + 1 :]]
            excerpts = [separator.join(masked[max(0, position - size) : position + 1 + size]) for size in CONTEXT_WORDS]
            fitting = [text for text in excerpts if len(encode_masked(text, tokenizer)) <= tokenizer.model_max_length]
            found += [{"text": text, "word": words[position]} for text in fitting[:1]]
        if len(found) == count:
            break
    return found


def is_content_word(word: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word is one to mask, see `mask_words`."""
    is_word = CONTENT_WORD.fullmatch(word) or SPACELESS.fullmatch(word)
    if not is_word or word.lower() in ENGLISH_STOP_WORDS:
        return False
    tokens = tokenizer.tokenize(f" {word}")  # as within a text: RoBERTa has other tokens for its first word
    return len(tokens) == 1 and tokens[0] != tokenizer.unk_token


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
