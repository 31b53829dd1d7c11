"""A fine-tuned classifier's folder, read without torch: labels, cleaning, tokenizer."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sentiment.config.data_arguments import TRUNCATIONS
from sentiment.data.cleaning import CLEANINGS
from sentiment.data.truncation import encode_truncated
from sentiment.exceptions import InputError, first_line, require
from sentiment.models.model_folder import (
    check_task,
    count_positions,
    find_model_folder,
    read_class_names,
    refuse_remote_code,
)

logger = logging.getLogger(__name__)
# Embedding matrices are padded to a multiple of 128 rows, or have 0.4% to spare (mDeBERTa); a larger gap means another
# vocabulary.
MAX_UNUSED_ROWS = 128
MAX_UNUSED_SHARE = 0.01
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
    truncation: str
    pad_token_id: int
    temperature: float  # by which logits are divided, see `fit_temperature`
    tokenizer: Tokenizer

    def clean(self, text: str) -> str:
        """The text as cleaned in training; may be empty."""
        return CLEANINGS[self.cleaning](text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of raw texts, special tokens included, truncated to `max_seq_length` as in training.

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
        cleaned = [self.clean(text) for text in texts]
        return encode_truncated(self.tokenizer, cleaned, self.max_seq_length, self.truncation)

    def encode_cleaned(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are cleaned already, as `encode`."""
        return encode_truncated(self.tokenizer, texts, self.max_seq_length, self.truncation)[0]


def load_checkpoint(path: str) -> Checkpoint:
    """The checkpoint in a model folder, or in the `model` folder of a run.

    Raises:
        InputError: no model, no classifier of texts, unknown preprocessing, or a tokenizer that is missing, damaged or
            of another vocabulary.
    """
    folder = find_model_folder(path)
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        check_task(str(folder), config)
    except InputError:
        raise
    except (ValueError, AttributeError) as error:
        raise InputError(f"cannot read the model {folder}: {first_line(error)} in config.json") from error
    refuse_remote_code(str(folder), config)
    # transformers does not write default names.
    labels = read_class_names(str(folder), config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"})
    max_positions = count_positions(config)
    preprocessing: dict[str, Any] = config.get("preprocessing") or read_plain_preprocessing(folder, max_positions)
    cleaning, length = preprocessing.get("cleaning", ""), preprocessing.get("max_seq_length", 0)
    truncation = preprocessing.get("truncation", "head")  # not in checkpoints of earlier versions
    is_valid = cleaning in CLEANINGS and type(length) is int and 3 <= length <= max_positions  # [CLS], a token, [SEP]
    is_valid = is_valid and truncation in TRUNCATIONS
    require(is_valid, f"{folder} has invalid preprocessing in config.json: {preprocessing}")
    temperature = read_temperature(str(folder), config)
    tokenizer = load_tokenizer(folder, config.get("vocab_size", 0))
    pad_token_id = config.get("pad_token_id") or 0
    return Checkpoint(folder, labels, cleaning, length, truncation, pad_token_id, temperature, tokenizer)


def read_temperature(where: str, config: Mapping[str, Any]) -> float:
    """The temperature in a config, 1.0 if there is none; raises InputError if it is not a positive number."""
    calibration = config.get("calibration") or {}
    temperature = calibration.get("temperature", 1.0) if isinstance(calibration, dict) else None
    is_valid = isinstance(temperature, (int, float)) and 0 < temperature < math.inf
    require(is_valid, f"{where} has an invalid calibration in config.json: {calibration}")
    return float(temperature or 1.0)


def read_plain_preprocessing(folder: Path, max_positions: int) -> dict[str, Any]:
    """The preprocessing of a model that was not trained here: none, and truncation as its own tokenizer does it."""
    path = folder / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        length = min(int(settings.get("model_max_length") or max_positions), max_positions)
        truncation = "tail" if settings.get("truncation_side") == "left" else "head"
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read the tokenizer of {folder}: {first_line(error)} in {path.name}") from error
    logger.warning(
        "%s was not trained here: texts are not cleaned, and their %s %d tokens are read",
        *(folder, "last" if truncation == "tail" else "first", length),
    )
    return {"cleaning": "none", "max_seq_length": length, "truncation": truncation}


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
        tokens <= vocab_size < tokens + max(MAX_UNUSED_ROWS, MAX_UNUSED_SHARE * vocab_size),
        f"{folder}: its tokenizer has {tokens:,} tokens and its model {vocab_size:,}: the vocabularies do not match",
    )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
