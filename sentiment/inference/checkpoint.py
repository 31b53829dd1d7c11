"""What a model folder says of its classifier, read without torch: labels, cleaning, tokenizer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sentiment.data.cleaning import CLEANINGS
from sentiment.data.labels import LABEL_NAMES
from sentiment.exceptions import InputError, first_line, require
from sentiment.models.model_folder import find_model_folder, refuse_remote_code

# Characters a token can cover at most, generously: the tokenizer reads all of a text before it cuts it.
CHARACTERS_PER_TOKEN = 100
# A vocabulary is padded to a multiple of this at most; a model with more rows was trained with another one.
MAX_SPARE_ROWS = 128
# What `sentiment export` writes into a model folder, by precision.
ONNX_FILES = {"fp32": Path("onnx/model.onnx"), "int8": Path("onnx/model_int8.onnx")}
# Shorter batches are padded to it: of some models, the exporter can prove its graph from here on only.
ONNX_LEAST_TOKENS = 3


@dataclass(frozen=True)
class Checkpoint:
    """A fine-tuned classifier's folder, and how raw texts become its token ids."""

    folder: Path
    cleaning: str
    max_seq_length: int
    pad_token_id: int
    tokenizer: Tokenizer

    def clean(self, text: str) -> str:
        """The text as the model sees it; empty where cleaning leaves nothing."""
        return CLEANINGS[self.cleaning](text)

    def tokenize(self, cleaned: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned texts, special tokens included, cut at `max_seq_length`."""
        limit = self.max_seq_length * CHARACTERS_PER_TOKEN
        encodings = self.tokenizer.encode_batch_fast([text[:limit] for text in cleaned])
        return [encoding.ids for encoding in encodings]

    def prepare(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of raw texts.

        Raises:
            InputError: a text holds half of a surrogate pair, which the tokenizer cannot read.
        """
        for number, text in enumerate(texts, start=1):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"text {number} holds a lone surrogate, not Unicode: pass it as UTF-8") from error
        return self.tokenize([self.clean(text) for text in texts])


def read_checkpoint(path: str) -> Checkpoint:
    """The checkpoint in a model folder, or in the `model` folder of a run.

    Raises:
        InputError: there is none, or it is not a classifier of ours: no BERT, other labels, an unknown cleaning, or a
            tokenizer that is missing, damaged or of another vocabulary.
    """
    folder = find_model_folder(path)
    config = read_config(folder)
    check_labels(folder, config)
    positions = config.get("max_position_embeddings", 512)
    # A checkpoint from elsewhere does not say how its texts were prepared.
    preprocessing = {"cleaning": "light", "max_seq_length": min(128, positions)} | (config.get("preprocessing") or {})
    cleaning, max_seq_length = preprocessing["cleaning"], preprocessing["max_seq_length"]
    # Two special tokens, and a word.
    is_possible = type(max_seq_length) is int and 3 <= max_seq_length <= positions
    if cleaning not in CLEANINGS or not is_possible:
        raise InputError(f"{folder} says that its texts were prepared by {preprocessing}, which cannot be")
    tokenizer = load_tokenizer(folder)
    words, rows = tokenizer.get_vocab_size(), config.get("vocab_size", 0)
    require(
        words <= rows < words + MAX_SPARE_ROWS,
        f"{folder}: its tokenizer has {words:,} words and its model {rows:,}: they do not belong together",
    )
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_seq_length)
    return Checkpoint(folder, cleaning, max_seq_length, config.get("pad_token_id") or 0, tokenizer)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder.

    Raises:
        InputError: it is damaged, or not a BERT's.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type", "unknown")
    except (ValueError, AttributeError) as error:
        raise InputError(f"cannot read the model {folder}: {first_line(error)} in config.json") from error
    refuse_remote_code(str(folder), config)
    require(kind == "bert", f"{folder} is a model of type {kind}: only BERT models can be used here")
    return config


def check_labels(folder: Path, config: dict[str, Any]) -> None:
    """Refuses a model whose labels are not ours.

    Raises:
        InputError: it has more or fewer than 2, or calls them by other names.
    """
    # transformers writes no names for two labels that were given none.
    id2label = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    require(len(id2label) == len(LABEL_NAMES), f"{folder} has {len(id2label)} labels: a sentiment classifier has 2")
    names = tuple(str(id2label.get(str(label))).lower() for label in range(len(LABEL_NAMES)))
    require(
        names in (LABEL_NAMES, ("label_0", "label_1")),
        f"{folder} calls its labels {names[0]} and {names[1]}: label 0 must be negative, 1 positive",
    )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder, as the Rust library has it.

    Raises:
        InputError: its file is missing or damaged.
    """
    path = folder / "tokenizer.json"
    require(path.is_file(), f"cannot read the tokenizer of {folder}: no tokenizer.json: save it as a fast tokenizer")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise InputError(f"cannot read the tokenizer of {folder}: {first_line(error)}") from error
