"""Words that a masked language model finds probable in a text."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sentiment.data.tokenization import get_backend
from sentiment.data.truncation import encode_truncated, find_special_tokens, truncate
from sentiment.exceptions import require
from sentiment.models.masked_lm import SparseMaskedLM, load_masked_lm

CANDIDATES = 10
WORD_STARTS = ("Ġ", "▁")  # before the first token of a word, in BPE and Unigram vocabularies
Proposals = list[tuple[str, float]]  # words with their probabilities, most probable first


class WordProposer:
    """Proposes words for places of a text.

    Each text is computed by itself and in fp32: in a batch, rounding would depend on its batch-mates.

    Args:
        model: a masked language model.
        tokenizer: of the model.
        max_seq_length: tokens of the longest sequence, special tokens included.
        truncation: what training keeps of longer texts; only there are words proposed.
    """

    def __init__(
        self, model: SparseMaskedLM, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, truncation: str = "head"
    ):
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._max_seq_length, self._truncation = max_seq_length, truncation
        tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        self._marks_starts = any(token.startswith(WORD_STARTS) for token in tokens)
        self._special = set(tokenizer.all_special_tokens)
        self._words = [self.read_word(token) for token in tokens]

    def read_word(self, token: str) -> str:
        """The word that a token alone is; "" for parts of words, marks and special tokens."""
        if token in self._special or token.startswith("##"):
            return ""
        if self._marks_starts and not token.startswith(WORD_STARTS):
            return ""
        word = token.lstrip("".join(WORD_STARTS))
        return word if word.isalpha() else ""

    @torch.inference_mode()
    def __call__(self, text: str, places: Sequence[tuple[int, int]]) -> list[Proposals]:
        """For each place, its start and end, the words among the 10 most probable tokens; all are masked at once.

        None for places that truncation leaves out, nor in a text that has the model's mask token itself.
        """
        mask = str(self._tokenizer.mask_token)
        if mask in text:
            return [[] for _ in places]
        pieces, end = [], 0
        for start, stop in places:
            pieces += [text[end:start], mask]
            end = stop
        backend = get_backend(self._tokenizer)
        masked = "".join([*pieces, text[end:]])
        (ids,), _ = encode_truncated(backend, [masked], self._max_seq_length, self._truncation)
        input_ids = torch.tensor([ids], device=self._model.device)
        positions = (input_ids[0] == self._tokenizer.mask_token_id).nonzero()[:, 0]
        found: list[Proposals] = [[] for _ in places]
        numbers = self.find_kept(positions.tolist(), len(places))
        if numbers:
            logits = self._model(input_ids).logits[0, positions].float()
            for number, proposals in zip(numbers, self.read(logits), strict=True):
                found[number] = proposals
        return found

    def find_kept(self, positions: Sequence[int], count: int) -> list[int]:
        """Which of `count` masks are those at these positions of a sequence: the first ones, and the last ones."""
        before, after = find_special_tokens(get_backend(self._tokenizer))
        size = self._max_seq_length - len(before) - len(after)
        # Of a text that is one token too long, the tokens that truncation keeps of its start.
        kept = truncate(list(range(size + 1)), size, self._truncation)
        first = next((place for place, token in enumerate(kept) if token != place), size)
        heads = sum(position < len(before) + first for position in positions) if len(positions) < count else count
        return [*range(min(heads, len(positions))), *range(count - max(0, len(positions) - heads), count)]

    def read(self, logits: torch.Tensor) -> list[Proposals]:
        """The words of each row of logits (masks, vocabulary)."""
        top = logits.softmax(-1).topk(min(CANDIDATES, logits.shape[-1]))
        return [
            [(self._words[token], value) for token, value in zip(tokens, values, strict=True) if self.is_word(token)]
            for tokens, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]

    def is_word(self, token: int) -> bool:
        """Whether a token is a word; a vocabulary may be padded beyond the tokenizer's."""
        return token < len(self._words) and self._words[token] != ""


def load_word_proposer(
    start: tuple[str, str | None],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    truncation: str,
    device: torch.device | str,
) -> WordProposer:
    """Proposals of the masked language model at a path and revision; raises InputError if it has no MLM head."""
    model_path, revision = start
    require(tokenizer.mask_token is not None, f"--augmentation masked_lm: {model_path} has no mask token")
    model, is_new = load_masked_lm(model_path, revision=revision)
    require(
        not is_new,
        f"--augmentation masked_lm: {model_path} has no masked-language-model head: start from an adapted model "
        "(train_mlm.py), or leave masked_lm out",
    )
    nn.Module.to(model, device)
    return WordProposer(model, tokenizer, max_seq_length, truncation)
