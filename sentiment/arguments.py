"""The options of every run, and how a YAML file and flags become them."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from sentiment.exceptions import InputError


@dataclass
class ModelArguments:
    """Which BERT to start from."""

    model: str = field(
        default="google-bert/bert-base-uncased",
        metadata={"help": "Hub id, a local folder, or 'minilm' (embedded: needs no Hub)."},
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout between the pooler and the linear head."})

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        require(0 <= self.dropout < 1, f"--dropout {self.dropout}: a probability, from 0 to below 1")


@dataclass
class DataArguments:
    """Which labelled reviews to use, and how to clean and split them."""

    dataset: str = field(
        default="sst2",
        metadata={
            "help": "'sst2', 'imdb', 'snippets' (embedded: needs no Hub), a Hub id, a folder in the Hub's layout, "
            "or a .csv, .tsv, .jsonl or .parquet file with a text column and a label column."
        },
    )
    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder with local copies, used in place of the Hub. Default: SENTIMENT_DATA_DIR."},
    )
    split: str = field(
        default="stratified",
        metadata={
            "choices": ["stratified", "official", "grouped"],
            "help": "stratified: published train and validation joined and dealt 8:1:1. official: train on published "
            "train, test on published validation. grouped: 8:1:1, phrases with the sentences that contain them.",
        },
    )
    max_rows: str = field(
        default="10000", metadata={"help": "Labelled rows to use before splitting: a number, or 'all'."}
    )
    sample: str = field(
        default="first",
        metadata={
            "choices": ["first", "random"],
            "help": "Which rows --max_rows takes: the first ones or random.",
        },
    )
    cleaning: str = field(
        default="light",
        metadata={
            "choices": ["light", "classic"],
            "help": "light: tags become spaces, punctuation and case stay. classic: the lab report's, which deletes "
            "tags and punctuation and lowers case.",
        },
    )
    keep_duplicates: bool = field(
        default=False,
        metadata={"help": "Deal every row by itself, as the lab report did: equal texts may then be on two sides."},
    )
    max_length: int = field(default=128, metadata={"help": "Tokens a text is cut at, special tokens included."})
    num_proc: int | None = field(
        default=None, metadata={"help": "Processes that clean and tokenize. Default: by the number of rows."}
    )

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        self.max_rows = str(self.max_rows).lower().replace("_", "").replace(",", "")
        if self.max_rows != "all" and not (self.max_rows.isdecimal() and int(self.max_rows) > 0):
            raise InputError(f"--max_rows {self.max_rows}: pass a positive number or 'all'")
        require(self.max_length >= 3, f"--max_length {self.max_length}: at least 3 (two are special tokens)")
        require(self.num_proc is None or self.num_proc >= 1, f"--num_proc {self.num_proc}: at least 1")

    @property
    def row_limit(self) -> int | None:
        """`max_rows` as a number; None for all."""
        return None if self.max_rows == "all" else int(self.max_rows)


@dataclass
class FinetuningArguments:
    """How to fine-tune, and where to write."""

    output_dir: str = field(default="outputs/e2e", metadata={"help": "Where the run's folder is written."})
    lr: float = field(default=5e-5, metadata={"help": "Peak learning rate of BERT."})
    head_lr: float | None = field(default=None, metadata={"help": "Peak rate of the linear head. Default: --lr."})
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor on the rate from each layer to the one below; 1.0 turns it off."},
    )
    batch_size: int = field(default=128, metadata={"help": "Rows a step, over all processes together."})
    num_train_epochs: int = field(default=20, metadata={"help": "Epochs at most."})
    early_stopping_patience: int = field(
        default=3,
        metadata={"help": "Epochs in a row without better validation accuracy or loss before stopping."},
    )
    warmup_ratio: float = field(default=0.06, metadata={"help": "Share of all steps in which the rate rises."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay, on matrices only."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "choices": ["group_by_length", "random", "sequential"],
            "help": "group_by_length: batches of like lengths in random order, which saves padding. random or "
            "sequential: rows in random order or in that of the data.",
        },
    )
    precision: str = field(
        default="auto",
        metadata={
            "choices": ["auto", "fp16", "bf16", "fp32"],
            "help": "auto: fp16 on CUDA, bf16 on a CPU with units for it, else fp32.",
        },
    )
    seed: int = field(default=42, metadata={"help": "Of the split, the head's first weights, order and dropout."})
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in --output_dir."})
    overwrite: bool = field(default=False, metadata={"help": "Train again where --output_dir holds another run."})

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        for name in ("lr", "layer_decay", "max_grad_norm"):
            require(0 < getattr(self, name) < math.inf, f"--{name} {getattr(self, name)}: must be above 0 and finite")
        require(
            self.head_lr is None or 0 < self.head_lr < math.inf, f"--head_lr {self.head_lr}: must be above 0 and finite"
        )
        require(
            self.layer_decay <= 1,
            f"--layer_decay {self.layer_decay}: at most 1 (rates fall towards the embeddings)",
        )
        require(
            0 <= self.warmup_ratio < 1,
            f"--warmup_ratio {self.warmup_ratio}: a share of the steps, from 0 to below 1",
        )
        require(0 <= self.weight_decay < math.inf, f"--weight_decay {self.weight_decay}: must be 0 or more, and finite")
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: from 0 to 4294967295")
        for name in ("batch_size", "num_train_epochs", "early_stopping_patience"):
            require(getattr(self, name) >= 1, f"--{name} {getattr(self, name)}: at least 1")
        require(
            not (self.resume and self.overwrite),
            "--resume and --overwrite contradict each other: pass one of them",
        )


def require(condition: bool, message: str) -> None:
    """Raises InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def parse_arguments(
    argument_classes: Sequence[Any],
    argv: Sequence[str] | None = None,
    defaults: dict[str, Any] | None = None,
    **parser_options: Any,
) -> tuple[Any, ...]:
    """One instance of each dataclass: a flag beats the YAML file, the YAML file beats the default.

    Args:
        argument_classes: dataclasses with distinct field names.
        argv: the words after the program's name: at most one `run.yaml` in front, then flags.
        defaults: values that replace the dataclasses' own.
        parser_options: given to the parser (`prog`, `description`).

    Raises:
        InputError: an unknown option, or a YAML file that is missing or malformed or has a key that is no option.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(
        list(argument_classes), allow_abbrev=False, usage="%(prog)s [run.yaml] [--flags]", **parser_options
    )
    parser.set_defaults(**(defaults or {}))
    if words and words[0].endswith((".yaml", ".yml")):
        known = {option.name for arguments in argument_classes for option in fields(arguments)}
        words = read_yaml_flags(Path(words[0]), known) + words[1:]
    *parsed, unknown = parser.parse_args_into_dataclasses(
        words, look_for_args_file=False, return_remaining_strings=True
    )
    require(not unknown, f"unknown option '{' '.join(unknown)}': see --help; a run.yaml stands before all flags")
    return tuple(parsed)


def read_yaml_flags(path: Path, known: set[str]) -> list[str]:
    """The file's keys and values as flags, so that one parser converts and checks both.

    Raises:
        InputError: see `parse_arguments`.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one 'key: value' a line")
    flags = []
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{path}: unknown key '{key}'; the keys are {', '.join(sorted(known))}")
        if isinstance(value, (dict, list)):
            raise InputError(f"{path}: '{key}' must be a single value")
        if value is not None:
            flags += [f"--{key}={value}"]
    return flags
