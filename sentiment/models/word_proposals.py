"""Words that a masked language model finds probable in a text."""

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sentiment.data.tokenization import get_backend
from sentiment.data.truncation import find_special_tokens
from sentiment.exceptions import require
from sentiment.models.masked_lm import SparseMaskedLM, load_masked_lm

CANDIDATES = 10
CONTEXT = 400  # characters on each side of the word: more context changes little and costs time
WORD_STARTS = ("Ġ", "▁")  # before the first token of a word, in BPE and Unigram vocabularies


class WordProposer:
    """Proposes words for a place of a text: `proposer(text, (start, end))`.

    Each text is computed by itself and in fp32: in a batch, rounding would depend on its batch-mates.
    """

    def __init__(self, model: SparseMaskedLM, tokenizer: PreTrainedTokenizerBase):
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._backend = get_backend(tokenizer)
        self._special = find_special_tokens(self._backend)
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._marks_starts = any(str(token).startswith(WORD_STARTS) for token in tokens)
        self._words = [self.read_word(str(token)) for token in tokens]

    def read_word(self, token: str) -> str:
        """The word that a token alone is; "" for parts of words, marks and special tokens."""
        if token in self._tokenizer.all_special_tokens or token.startswith("##"):
            return ""
        if self._marks_starts and not token.startswith(WORD_STARTS):
            return ""
        word = token.lstrip("".join(WORD_STARTS))
        return word if word.isalpha() else ""

    @torch.inference_mode()
    def __call__(self, text: str, place: tuple[int, int]) -> list[tuple[str, float]]:
        """The most probable words for a place, with their probabilities, most probable first; at most 10."""
        start, end = place
        before, after = self._special
        masked = f"{text[max(0, start - CONTEXT) : start]}{self._tokenizer.mask_token}{text[end : end + CONTEXT]}"
        ids = get_backend(self._tokenizer).encode(masked, add_special_tokens=False).ids
        mask = self._tokenizer.mask_token_id
        if mask not in ids:
            return []
        size = self._tokenizer.model_max_length - len(before) - len(after)
        first = max(0, min(ids.index(mask) - size // 2, len(ids) - size))  # the mask stays within the window
        input_ids = torch.tensor([[*before, *ids[first : first + size], *after]], device=self._model.device)
        logits = self._model(input_ids).logits[0].float()
        top = logits[(input_ids[0] == mask).nonzero()[0, 0]].softmax(-1).topk(min(CANDIDATES, len(self._words)))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return [
            (self._words[token], value) for token, value in pairs if token < len(self._words) and self._words[token]
        ]


def load_word_proposer(
    model_path: str, revision: str | None, tokenizer: PreTrainedTokenizerBase, device: torch.device | str
) -> WordProposer:
    """Proposals of the masked language model that a folder or Hub id holds; raises InputError if it has no MLM head."""
    require(tokenizer.mask_token is not None, f"--augmentation masked_lm: {model_path} has no mask token")
    model, is_new = load_masked_lm(model_path, revision=revision)
    require(
        not is_new,
        f"--augmentation masked_lm: {model_path} has no masked-language-model head: start from an adapted model "
        "(train_mlm.py), or leave masked_lm out",
    )
    nn.Module.to(model, device)
    return WordProposer(model, tokenizer)
