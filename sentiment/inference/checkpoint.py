"""A fine-tuned classifier's folder, read without torch: labels, cleaning, tokenizer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sentiment.data.cleaning import CLEANINGS
from sentiment.exceptions import InputError, first_line, require
from sentiment.models.model_folder import find_model_folder, read_class_names, refuse_remote_code

# Upper bound, since the tokenizer reads a whole text before it truncates it.
CHARACTERS_PER_TOKEN = 100
# Embedding matrices are padded to a multiple of 128 rows at most; a larger gap means another vocabulary.
MAX_UNUSED_ROWS = 128
# What `sentiment export` writes into a model folder, by precision.
ONNX_FILES = {"fp32": Path("onnx/model.onnx"), "int8": Path("onnx/model_int8.onnx")}
# Shorter batches are padded to this length: for some models, the exporter proves its graph for 3 tokens or more only.
ONNX_MIN_TOKENS = 3


@dataclass(frozen=True)
class Checkpoint:
    """A classifier's folder, and the preprocessing it was trained with."""

    folder: Path
    labels: tuple[str, ...]
    cleaning: str
    max_seq_length: int
    pad_token_id: int
    tokenizer: Tokenizer

    def clean(self, text: str) -> str:
        """The text as cleaned in training; may be empty."""
        return CLEANINGS[self.cleaning](text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of raw texts, special tokens included, truncated to `max_seq_length`.

        Raises:
            InputError: as `encode_with_truncation`.
        """
        return self.encode_with_truncation(texts)[0]

    def encode_with_truncation(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Token ids of raw texts as `encode`, and which texts were truncated.

        Raises:
            InputError: a text holds a lone surrogate, which the tokenizer cannot read.
        """
        for number, text in enumerate(texts, start=1):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"text {number} holds a lone surrogate, not Unicode: pass it as UTF-8") from error
        limit = self.max_seq_length * CHARACTERS_PER_TOKEN
        cleaned = [self.clean(text) for text in texts]
        encodings = self.tokenizer.encode_batch_fast([text[:limit] for text in cleaned])
        is_longer = [len(text) > limit for text in cleaned]
        return [encoding.ids for encoding in encodings], [
            is_long or bool(encoding.overflowing) for is_long, encoding in zip(is_longer, encodings, strict=True)
        ]

    def encode_cleaned(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are cleaned already, as `encode`."""
        limit = self.max_seq_length * CHARACTERS_PER_TOKEN
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast([text[:limit] for text in texts])]


def load_checkpoint(path: str) -> Checkpoint:
    """The checkpoint in a model folder, or in the `model` folder of a run.

    Raises:
        InputError: no model, not a BERT, other labels, unknown preprocessing, or a tokenizer that is missing, damaged
            or of another vocabulary.
    """
    folder = find_model_folder(path)
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = config.get("model_type", "unknown")
    except (ValueError, AttributeError) as error:
        raise InputError(f"cannot read the model {folder}: {first_line(error)} in config.json") from error
    refuse_remote_code(str(folder), config)
    require(model_type == "bert", f"{folder} is a model of type {model_type}: only BERT models are supported")
    # transformers does not write default names.
    labels = read_class_names(str(folder), config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"})
    max_positions = config.get("max_position_embeddings", 512)
    defaults = {"cleaning": "light", "max_seq_length": min(128, max_positions)}  # of checkpoints from elsewhere
    preprocessing = defaults | (config.get("preprocessing") or {})
    cleaning, length = preprocessing["cleaning"], preprocessing["max_seq_length"]
    is_valid = cleaning in CLEANINGS and type(length) is int and 3 <= length <= max_positions  # [CLS], a token, [SEP]
    require(is_valid, f"{folder} has invalid preprocessing in config.json: {preprocessing}")
    tokenizer = load_tokenizer(folder, config.get("vocab_size", 0))
    tokenizer.enable_truncation(length)
    return Checkpoint(folder, labels, cleaning, length, config.get("pad_token_id") or 0, tokenizer)


def load_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """The fast tokenizer in a folder; raises InputError if it is missing, damaged or does not match the model."""
    path = folder / "tokenizer.json"
    require(path.is_file(), f"cannot read the tokenizer of {folder}: no tokenizer.json: save it as a fast tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exceptions
        raise InputError(f"cannot read the tokenizer of {folder}: {first_line(error)}") from error
    tokens = tokenizer.get_vocab_size()
    require(
        tokens <= vocab_size < tokens + MAX_UNUSED_ROWS,
        f"{folder}: its tokenizer has {tokens:,} tokens and its model {vocab_size:,}: the vocabularies do not match",
    )
    tokenizer.no_padding()
    return tokenizer
