"""What a model puts in the place of a masked word, for a reader to look at."""

import itertools
import random
import re
from collections.abc import Sequence

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from transformers import PreTrainedModel, PreTrainedTokenizerBase

WORDS_AROUND = (15, 8, 4, 2)  # on each side of the mask: enough to judge by, or as many as the model takes
PLAIN_WORD = re.compile(r"[A-Za-z]{4,}")


def mask_words(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, count: int = 20, seed: int = 0
) -> list[dict[str, str]]:
    """Excerpts of texts in which one telling word is masked: `text` with the mask in it, and the true `word`.

    A telling word has four letters at least, is no stop word, and is one token of the vocabulary. Texts are drawn by
    the seed, and give one excerpt each, of no more tokens than the model takes; those without such a word are passed
    over.
    """
    generator = random.Random(seed)
    excerpts: list[dict[str, str]] = []
    for text in generator.sample(texts, len(texts)):
        words = text.split()
        places = [place for place, word in enumerate(words) if is_telling(word, tokenizer)]
        if places:
            place = generator.choice(places)
            masked = [*words[:place], str(tokenizer.mask_token), *words[place + 1 :]]
            windows = (" ".join(masked[max(0, place - around) : place + 1 + around]) for around in WORDS_AROUND)
            fitting = (text for text in windows if len(tokenizer(text)["input_ids"]) <= tokenizer.model_max_length)
            excerpts.extend({"text": text, "word": words[place]} for text in itertools.islice(fitting, 1))
        if len(excerpts) == count:
            break
    return excerpts


def is_telling(word: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word says something and is one token, see `mask_words`."""
    if not PLAIN_WORD.fullmatch(word) or word.lower() in ENGLISH_STOP_WORDS:
        return False
    pieces = tokenizer.tokenize(word)
    return len(pieces) == 1 and pieces[0] != tokenizer.unk_token


@torch.inference_mode()
def fill_masks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], top_k: int = 3
) -> list[list[tuple[str, float]]]:
    """The likeliest words for the mask of each text with their probabilities, likeliest first."""
    was_training = model.training
    model.eval()
    answers = []
    for text in texts:
        encoded = tokenizer(text, return_tensors="pt")
        scores = model(encoded["input_ids"].to(model.device)).logits[0].float()
        at_mask = scores[encoded["input_ids"][0] == tokenizer.mask_token_id][0].softmax(-1)
        likeliest = at_mask.topk(top_k)
        words = tokenizer.convert_ids_to_tokens(likeliest.indices.tolist())
        answers.append(list(zip(words, likeliest.values.tolist(), strict=True)))
    model.train(was_training)
    return answers
