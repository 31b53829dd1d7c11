"""Options of model and data, named as in transformers' run_classification.py and run_mlm.py."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sentiment.exceptions import require

LAB_DATASETS = ("sst2", "imdb", "stanfordnlp/sst2", "stanfordnlp/imdb")
LAB_ROWS = 10_000
DEFAULT_DATASET = "sst2"
PRESETS = ["auto", "lab"]
SPLITS = ["auto", "stratified", "official", "grouped"]
SAMPLES = ["first", "random"]
TRUNCATIONS = ["head", "tail", "head_tail"]
BINARY_METRICS = ("precision", "recall", "f1")  # of two classes only
# Metrics that can choose a checkpoint and decide a comparison.
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", *BINARY_METRICS)
LANGUAGE_CODE = "[A-Za-z]{2,3}(-[A-Za-z0-9]+)*"
NEGATIVE_MAPPING = re.compile(r"-\d[^=]*=")
SEED_RANGE = "an integer from 0 to 4294967295"


def option(default: Any, text: str, *aliases: str, choices: list[str] | None = None) -> Any:
    """A dataclass field with its help, as `HfArgumentParser` reads it; a list as default is copied."""
    metadata: dict[str, Any] = {"help": text, "aliases": list(aliases)} | ({"choices": choices} if choices else {})
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ModelArguments:
    """The pretrained encoder."""

    model_name_or_path: str = option(
        "google-bert/bert-base-uncased",
        "Hub id, local folder, or 'minilm' (embedded, needs no Hub).",
        "--model",
    )
    model_revision: str | None = option(None, "Branch, tag or commit of a Hub model.")


@dataclass
class SourceArguments:
    """Options that labelled and unlabelled reviews share."""

    dataset_revision: str | None = option(None, "Branch, tag or commit of a Hub dataset.")
    data_dir: str | None = option(
        None, "Folder with local copies of datasets, read instead of the Hub. Default: SENTIMENT_DATA_DIR."
    )
    text_column_names: str | None = option(
        None, "Text columns, separated by commas. Default: text, sentence or review."
    )
    text_column_delimiter: str = option(" ", "What joins the texts of several text columns.")
    encoding: str | None = option(None, "Encoding of text files, such as cp1252. Default: UTF-8, or UTF-16 if marked.")
    max_rows: str = option("auto", "Rows used, before splitting: a number or 'all'. auto: by the data, see --preset.")
    sample: str = option("first", "Rows that --max_rows keeps: the first ones, or a random sample.", choices=SAMPLES)
    cleaning: str = option(
        "light",
        "light: replace HTML tags by spaces, keep case and punctuation. classic: the lab report's cleaning, which "
        "deletes tags and punctuation and lowercases. none: texts as they are.",
        choices=["light", "classic", "none"],
    )
    max_seq_length: int = option(
        128, "Longer sequences are truncated to this many tokens, special tokens included.", "--max_length"
    )
    preset: str = option(
        "auto",
        "Defaults of options that are not given. lab: those of the lab report, the first 10,000 rows, batches of 128, "
        "20 epochs. auto: these for sst2 and imdb; on other data all rows, and batch size and epochs by the number of "
        "training rows (see the user guide).",
        choices=PRESETS,
    )
    preprocessing_num_workers: int | None = option(
        None, "Processes for cleaning and tokenizing. Default: one per 10,000 rows, up to the cores."
    )

    def __post_init__(self) -> None:
        """Raises InputError for values that no run can use."""
        check_choices(self)
        self.max_rows = normalise_limit("max_rows", self.max_rows, ("all", "auto"))
        require_at_least(self, 1, "preprocessing_num_workers")

    @property
    def row_limit(self) -> int | None:
        """`max_rows` as a number; None for all."""
        if self.max_rows == "auto":
            return LAB_ROWS if self.has_lab_values else None
        return None if self.max_rows == "all" else int(self.max_rows)

    @property
    def has_lab_values(self) -> bool:
        """Whether options that are not given have the values of the lab report."""
        names: str | list[str] = getattr(self, "dataset_name")  # noqa: B009 - a field of the subclasses
        return self.preset == "lab" or all(
            name in LAB_DATASETS for name in ([names] if isinstance(names, str) else names)
        )


@dataclass
class DataArguments(SourceArguments):
    """Labelled reviews: source, cleaning and splits."""

    dataset_name: str = option(
        DEFAULT_DATASET,
        "'sst2', 'imdb', 'snippets' (embedded, needs no Hub), a Hub id, a folder in the Hub's layout, or a .csv, .tsv, "
        ".jsonl or .parquet file with a text column and a label column.",
        "--dataset",
    )
    train_file: str | None = option(None, "File with training rows, an alternative to --dataset.")
    validation_file: str | None = option(
        None, "With --train_file and --test_file: file with validation rows. Default: a part of train."
    )
    test_file: str | None = option(None, "With --train_file: file with test rows. Default: a part of train.")
    label_column_name: str | None = option(None, "Label column. Default: label.")
    label_mapping: dict | str | None = option(  # type: ignore[type-arg]
        None,
        "Classes of the label values, such as 1=negative,2=negative,3=null,4=positive,5=positive; null leaves rows "
        "out. In a run.yaml, a mapping. Default: each label is a class.",
    )
    unlabelled_value: str | None = option(None, "Label value of unlabelled rows, such as -1, beside empty ones.")
    truncation: str = option(
        "head",
        "What is kept of a text longer than --max_seq_length. head: its first tokens. tail: its last. head_tail: a "
        "quarter from the start, the rest from the end.",
        choices=TRUNCATIONS,
    )
    language: str = option(
        "auto",
        "Language of the reviews, such as en, de or zh, on which the error analysis depends: word lists, and whether "
        "spaces separate words. auto: found from the texts; und where that fails.",
    )
    split: str = option(
        "auto",
        "stratified: published train and validation joined and split 8:1:1. official: published splits as they are; "
        "without a labelled test split, validation is for testing. grouped: 8:1:1, phrases in the split of the "
        "sentences that contain them. auto: official for data of your own with a labelled test split, else stratified.",
        choices=SPLITS,
    )
    split_seed: int | None = option(None, "Seed of the split and of random samples. Default: --seed.")
    max_train_samples: int | None = option(
        None,
        "Label budget: rows of the training split, sampled with its label shares. Validation and test splits stay "
        "whole. Default: all.",
    )
    keep_duplicates: bool = option(
        False, "Split every row by itself, as the lab report did: equal texts may land in two splits."
    )

    def __post_init__(self) -> None:
        """Raises InputError for values that no run can use."""
        super().__post_init__()
        if self.files:
            require(bool(self.train_file), "--validation_file and --test_file: pass --train_file too")
            is_free = self.dataset_name in (DEFAULT_DATASET, self.train_file)
            require(is_free, f"--dataset {self.dataset_name} and --train_file contradict each other: pass one of them")
            self.dataset_name = str(self.train_file)
            require(bool(self.test_file) or not self.validation_file, "--validation_file: pass --test_file too")
            uses_own_splits = self.split in ("auto", "official") and self.preset == "auto"
            require(
                uses_own_splits or not self.test_file, "--test_file: without --split and --preset, which split train"
            )
        require_language(self.language)
        require_at_least(self, 3, "max_seq_length")
        require_at_least(self, 1, "max_train_samples")
        require_seed(self, "split_seed")

    @property
    def files(self) -> dict[str, str]:
        """The file of each split of `--train_file`, `--validation_file` and `--test_file` that is given."""
        names = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        return {split: name for split, name in names.items() if name}


@dataclass
class CorpusArguments(SourceArguments):
    """Unlabelled reviews to adapt to, and the labelled ones whose test texts must not be among them."""

    dataset_name: list[str] = option(
        ["imdb"],
        "One or more of 'imdb', 'sst2', 'snippets' (embedded, needs no Hub), Hub ids, folders, or files (.txt with one "
        "review per line, .csv, .tsv, .jsonl, .parquet). Labels are not read.",
        "--dataset",
    )
    split: str = option(
        "auto",
        "Published split to read. auto: 'unsupervised' if the dataset has it (for 'snippets': all sentences), else all "
        "splits but validation and test.",
    )
    validation_split_percentage: int = option(20, "Percentage of the reviews held out for validation.")
    target_dataset: str = option(
        "auto",
        "Labelled reviews of the fine-tuning to come: texts of their validation and test splits are removed from the "
        "training text. 'none' if there are none yet. auto: sst2 for imdb and sst2, else --dataset itself, "
        "which then needs labels.",
    )
    target_train_file: str | None = option(None, "--train_file of the fine-tuning to come.")
    target_validation_file: str | None = option(None, "--validation_file of the fine-tuning to come.")
    target_test_file: str | None = option(None, "--test_file of the fine-tuning to come.")
    target_split: str = option("auto", "--split of the fine-tuning to come.", choices=SPLITS)
    target_max_rows: str = option("auto", "--max_rows of the fine-tuning to come.")
    target_sample: str = option("first", "--sample of the fine-tuning to come.", choices=SAMPLES)
    target_split_seed: int | None = option(None, "--split_seed of the fine-tuning to come. Default: --seed.")
    target_max_train_samples: int | None = option(
        None,
        "--max_train_samples of the fine-tuning to come: no other labels are read. With the same --seed, they are the "
        "same rows. Default: all.",
    )
    target_dataset_revision: str | None = option(None, "--dataset_revision of the fine-tuning to come.")
    target_text_column_names: str | None = option(None, "--text_column_names of the fine-tuning to come.")
    target_label_column_name: str | None = option(None, "--label_column_name of the fine-tuning to come.")
    target_label_mapping: dict | str | None = option(  # type: ignore[type-arg]
        None, "--label_mapping of the fine-tuning to come."
    )
    target_encoding: str | None = option(None, "--encoding of the fine-tuning to come.")
    target_unlabelled_value: str | None = option(None, "--unlabelled_value of the fine-tuning to come.")
    language: str = option(
        "auto",
        "Language of the reviews, such as en, de or zh: some objectives have English word lists. auto: found from the "
        "texts.",
    )
    long_texts: str = option(
        "chunk",
        "chunk: all of each review, in sequences of at most --max_seq_length tokens. truncate: its first sequence "
        "only, as in the lab report.",
        choices=["chunk", "truncate"],
    )
    streaming: bool = option(
        False,
        "Read reviews while training, for corpora larger than memory and disk cache; needs --max_steps. The order is "
        "random within --shuffle_buffer_size.",
    )
    shuffle_buffer_size: int = option(10_000, "With --streaming: sequences in memory that the next one is drawn from.")

    def __post_init__(self) -> None:
        """Raises InputError for values that no run can use."""
        super().__post_init__()
        require_language(self.language)
        self.target_max_rows = normalise_limit("target_max_rows", self.target_max_rows, ("all", "auto"))
        require_seed(self, "target_split_seed")
        require_at_least(self, 8, "max_seq_length")
        require_at_least(self, 1, "shuffle_buffer_size", "target_max_train_samples")
        percentage = self.validation_split_percentage
        require(1 <= percentage <= 50, f"--validation_split_percentage {percentage}: from 1 to 50")


def require_language(language: str) -> None:
    """Raises InputError for what is no code of a language, nor auto."""
    is_code = language == "auto" or re.fullmatch(LANGUAGE_CODE, language) is not None
    require(is_code, f"--language {language}: pass a code such as en, de or zh, or auto")


def join_negative_values(words: Sequence[str]) -> list[str]:
    """The words of a command line, with a mapping such as `-1=negative` joined to its option: it is no option itself.

    >>> join_negative_values(["--label_mapping", "-1=bad,1=good", "--seed", "1"])
    ['--label_mapping=-1=bad,1=good', '--seed', '1']
    """
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].endswith("label_mapping") and NEGATIVE_MAPPING.match(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def check_metric(metric: str, class_names: Sequence[str]) -> None:
    """Raises InputError for an unknown metric, and for one of two classes where there are more."""
    require(metric in (*METRICS, "loss"), f"--metric {metric}: choose from {', '.join(METRICS)}")
    require(
        metric not in BINARY_METRICS or len(class_names) == 2,
        f"--metric {metric}: of two classes only, and there are {len(class_names)}: pass macro_f1",
    )


def check_choices(arguments: Any) -> None:
    """Raises InputError if an option with choices has another value."""
    for one in fields(arguments):
        value, choices = getattr(arguments, one.name), one.metadata.get("choices")
        require(
            not choices or value is None or value in choices,
            f"--{one.name} {value}: choose from {', '.join(choices or [])}",
        )


def require_at_least(arguments: Any, smallest: int, *names: str) -> None:
    """Raises InputError if one of these options is set and smaller."""
    for name in names:
        value = getattr(arguments, name)
        require(value is None or value >= smallest, f"--{name} {value}: at least {smallest}")


def require_seed(arguments: Any, *names: str) -> None:
    """Raises InputError if one of these options is set and no seed."""
    for name in names:
        value = getattr(arguments, name)
        require(value is None or 0 <= value < 2**32, f"--{name} {value}: {SEED_RANGE}")


def normalise_limit(name: str, value: object, words: Sequence[str] = ("all",)) -> str:
    """A number of rows, or one of these words, in its plain form; raises InputError if it is neither.

    >>> normalise_limit("max_rows", "10_000")
    '10000'
    """
    plain = str(value).lower().replace("_", "").replace(",", "")
    is_known = plain in words or (plain.isdecimal() and int(plain) > 0)
    require(is_known, f"--{name} {plain}: pass a positive number or 'all'")
    return plain
