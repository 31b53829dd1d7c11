"""The options of every run."""

import math
from dataclasses import dataclass, field

from sentiment.exceptions import require

CLEANING = {
    "choices": ["light", "classic"],
    "help": "light: tags become spaces, punctuation and case stay. classic: the lab report's, which deletes tags and "
    "punctuation and lowers case.",
}
SAMPLE = {"choices": ["first", "random"], "help": "Which rows --max_rows takes: the first ones or random."}
DATA_DIR = {"help": "Folder with local copies, used in place of the Hub. Default: SENTIMENT_DATA_DIR."}
MAX_LENGTH = {"help": "Tokens a text is cut at, special tokens included."}
NUM_PROC = {"help": "Processes that clean and tokenize. Default: by the number of rows."}
SEEDS = "from 0 to 4294967295"


@dataclass
class ModelArguments:
    """Which BERT to start from."""

    model_name_or_path: str = field(
        default="google-bert/bert-base-uncased",
        metadata={"aliases": ["--model"], "help": "Hub id, a local folder, or 'minilm' (embedded: needs no Hub)."},
    )


@dataclass
class DataArguments:
    """Which labelled reviews to use, and how to clean and split them."""

    dataset_name: str = field(
        default="sst2",
        metadata={
            "aliases": ["--dataset"],
            "help": "'sst2', 'imdb', 'snippets' (embedded: needs no Hub), a Hub id, a folder in the Hub's layout, "
            "or a .csv, .tsv, .jsonl or .parquet file with a text column and a label column.",
        },
    )
    data_dir: str | None = field(default=None, metadata=DATA_DIR)
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
    sample: str = field(default="first", metadata=SAMPLE)
    split_seed: int | None = field(
        default=None,
        metadata={"help": "Seed of the split and of a random sample, where runs of several seeds are to share one."},
    )
    max_train_samples: int | None = field(
        default=None,
        metadata={
            "help": "Label budget: as many rows of the training split, drawn at random with its label shares. "
            "Validation and test stay whole. Default: all."
        },
    )
    cleaning: str = field(default="light", metadata=CLEANING)
    keep_duplicates: bool = field(
        default=False,
        metadata={"help": "Deal every row by itself, as the lab report did: equal texts may then be on two sides."},
    )
    max_seq_length: int = field(default=128, metadata=MAX_LENGTH)
    preprocessing_num_workers: int | None = field(default=None, metadata=NUM_PROC)

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        self.max_rows = normalise_limit("max_rows", self.max_rows)
        require(
            self.max_seq_length >= 3, f"--max_seq_length {self.max_seq_length}: at least 3 (two are special tokens)"
        )
        for name in ("preprocessing_num_workers", "max_train_samples"):
            require(at_least(1, getattr(self, name)), f"--{name} {getattr(self, name)}: at least 1")
        require(self.split_seed is None or 0 <= self.split_seed < 2**32, f"--split_seed {self.split_seed}: {SEEDS}")

    @property
    def row_limit(self) -> int | None:
        """`max_rows` as a number; None for all."""
        return parse_limit(self.max_rows)


@dataclass
class RunArguments:
    """How to train, and where to write: what fine-tuning and adaptation share."""

    output_dir: str = field(default="outputs/run", metadata={"help": "Where the run's folder is written."})
    learning_rate: float = field(default=5e-5, metadata={"aliases": ["--lr"], "help": "Peak learning rate of BERT."})
    head_lr: float | None = field(default=None, metadata={"help": "Peak learning rate of the head. Default: --lr."})
    batch_size: int = field(default=128, metadata={"help": "Texts a step, over all processes together."})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Pieces that a step's texts are trained on in, one after the other: saves memory."}
    )
    num_train_epochs: int = field(default=20, metadata={"help": "Epochs at most."})
    warmup_steps: float = field(
        default=0.06, metadata={"help": "Warm-up of the learning rate: a ratio of all steps (below 1)."}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay, on matrices only."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "choices": ["group_by_length", "random", "sequential"],
            "help": "group_by_length: batches of like lengths, which saves padding. random or "
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
    save_minutes: float = field(
        default=10.0,
        metadata={"help": "Minutes between checkpoints at most. One is written after each evaluation in any case."},
    )
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in --output_dir."})
    overwrite: bool = field(default=False, metadata={"help": "Train again where --output_dir holds another run."})

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        for name in ("learning_rate", "head_lr", "max_grad_norm"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"--{name} {value}: must be above 0 and finite")
        require(
            0 <= self.warmup_steps < 1,
            f"--warmup_steps {self.warmup_steps}: a share of the steps, from 0 to below 1",
        )
        require(0 <= self.weight_decay < math.inf, f"--weight_decay {self.weight_decay}: must be 0 or more, and finite")
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: {SEEDS}")
        for name in ("batch_size", "gradient_accumulation_steps", "num_train_epochs"):
            require(getattr(self, name) >= 1, f"--{name} {getattr(self, name)}: at least 1")
        require(self.save_minutes >= 0, f"--save_minutes {self.save_minutes}: 0 or more")
        require(
            not (self.resume and self.overwrite),
            "--resume and --overwrite contradict each other: pass one of them",
        )


@dataclass
class FinetuningArguments(RunArguments):
    """How to fine-tune, and where to write."""

    output_dir: str = field(default="outputs/e2e", metadata={"help": "Where the run's folder is written."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout between the pooler and the linear head."})
    adversarial_epsilon: float = field(
        default=0.0,
        metadata={
            "help": "Adversarial training: each batch a second time, with the word embeddings moved this far along "
            "their gradient. About twice the time; 0 turns it off."
        },
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor on the rate from each layer to the one below; 1.0 turns it off."},
    )
    early_stopping_patience: int = field(
        default=3,
        metadata={"help": "Epochs in a row without better validation accuracy or loss before stopping."},
    )

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        super().__post_init__()
        require(0 <= self.dropout < 1, f"--dropout {self.dropout}: a probability, from 0 to below 1")
        epsilon = self.adversarial_epsilon
        require(0 <= epsilon < math.inf, f"--adversarial_epsilon {epsilon}: must be 0 or more, and finite")
        decay, patience = self.layer_decay, self.early_stopping_patience
        require(0 < decay <= 1, f"--layer_decay {decay}: above 0, and at most 1 (rates fall towards the embeddings)")
        require(patience >= 1, f"--early_stopping_patience {patience}: at least 1")


@dataclass
class CorpusArguments:
    """Which unlabelled reviews to adapt to, and which labelled ones must not be among them."""

    dataset_name: list[str] = field(
        default_factory=lambda: ["imdb"],
        metadata={
            "aliases": ["--dataset"],
            "help": "One or more of 'imdb', 'sst2', 'snippets' (embedded: needs no Hub), Hub ids, folders, or files "
            "(.txt with one review a line, .csv, .tsv, .jsonl, .parquet). Labels are not read.",
        },
    )
    data_dir: str | None = field(default=None, metadata=DATA_DIR)
    split: str = field(
        default="auto",
        metadata={
            "help": "Published split to read. auto: 'unsupervised' where a dataset has it (of 'snippets': all "
            "sentences), else all but its validation and test splits."
        },
    )
    max_rows: str = field(default="10000", metadata={"help": "Reviews to read: a number, or 'all'."})
    sample: str = field(default="first", metadata=SAMPLE)
    validation_split_percentage: int = field(
        default=20, metadata={"help": "Percentage of the reviews held out for validation."}
    )
    target_dataset: str = field(
        default="sst2",
        metadata={
            "help": "The labelled reviews that the model is for: no text of their validation or test split may be in "
            "the training text. 'none' where there are none yet."
        },
    )
    target_split: str = field(
        default="stratified",
        metadata={"choices": ["stratified", "official", "grouped"], "help": "--split of the fine-tuning to come."},
    )
    target_max_rows: str = field(default="10000", metadata={"help": "--max_rows of the fine-tuning to come."})
    target_sample: str = field(
        default="first", metadata={"choices": ["first", "random"], "help": "--sample of the fine-tuning to come."}
    )
    target_split_seed: int | None = field(
        default=None, metadata={"help": "--split_seed of the fine-tuning to come. Default: --seed."}
    )
    cleaning: str = field(default="light", metadata=CLEANING)
    max_seq_length: int = field(default=128, metadata=MAX_LENGTH)
    long_texts: str = field(
        default="chunk",
        metadata={
            "choices": ["chunk", "truncate"],
            "help": "chunk: all of each review, in chunks of --max_seq_length tokens. truncate: its first chunk, as in "
            "the lab report.",
        },
    )
    preprocessing_num_workers: int | None = field(default=None, metadata=NUM_PROC)

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        self.max_rows = normalise_limit("max_rows", self.max_rows)
        self.target_max_rows = normalise_limit("target_max_rows", self.target_max_rows)
        seed = self.target_split_seed
        require(seed is None or 0 <= seed < 2**32, f"--target_split_seed {seed}: {SEEDS}")
        require(
            self.max_seq_length >= 8, f"--max_seq_length {self.max_seq_length}: at least 8 (two are special tokens)"
        )
        require(
            at_least(1, self.preprocessing_num_workers),
            f"--preprocessing_num_workers {self.preprocessing_num_workers}: at least 1",
        )
        require(
            1 <= self.validation_split_percentage <= 50,
            f"--validation_split_percentage {self.validation_split_percentage}: from 1 to 50",
        )

    @property
    def row_limit(self) -> int | None:
        """`max_rows` as a number; None for all."""
        return parse_limit(self.max_rows)


@dataclass
class AdaptationArguments(RunArguments):
    """How to adapt, and where to write."""

    output_dir: str = field(default="outputs/mlm", metadata={"help": "Where the run's folder is written."})
    batch_size: int = field(default=32, metadata={"help": "Texts a step, over all processes together."})
    num_train_epochs: int = field(default=3, metadata={"help": "Epochs."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the tokens that are to be predicted."})
    head_warmup_ratio: float = field(
        default=0.1,
        metadata={
            "help": "Where the checkpoint brings no head for masked tokens: share of the steps in which only the "
            "fresh head learns."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the reviews as they are needed, for corpora larger than memory and disk cache: all of them, "
            "in an order that is random within --shuffle_buffer_size, for --max_steps."
        },
    )
    max_steps: int | None = field(
        default=None, metadata={"help": "Steps to train, in place of --num_train_epochs; a stream needs it."}
    )
    shuffle_buffer_size: int = field(
        default=10_000, metadata={"help": "With --streaming: texts in memory that the next one is drawn from."}
    )

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        super().__post_init__()
        for name, limit in (("mlm_probability", 0.9), ("head_warmup_ratio", 0.9)):
            require(0 <= getattr(self, name) <= limit, f"--{name} {getattr(self, name)}: from 0 to {limit}")
        require(self.mlm_probability > 0, "--mlm_probability 0: without masked tokens there is nothing to learn")
        require(at_least(1, self.max_steps), f"--max_steps {self.max_steps}: at least 1")
        require(self.shuffle_buffer_size >= 1, f"--shuffle_buffer_size {self.shuffle_buffer_size}: at least 1")
        require(
            self.max_steps is not None or not self.streaming,
            "--streaming needs --max_steps: how many epochs a stream has is not known before its end",
        )


def at_least(smallest: int, value: int | None) -> bool:
    """Whether the value is left out or large enough."""
    return value is None or value >= smallest


def normalise_limit(name: str, value: object) -> str:
    """A number of rows, or `all`, in its plain form.

    >>> normalise_limit("max_rows", "10_000")
    '10000'

    Raises:
        InputError: it is neither.
    """
    plain = str(value).lower().replace("_", "").replace(",", "")
    is_number = plain.isdecimal() and int(plain) > 0
    require(plain == "all" or is_number, f"--{name} {plain}: pass a positive number or 'all'")
    return plain


def parse_limit(limit: str) -> int | None:
    """The number of rows; None for `all`."""
    return None if limit == "all" else int(limit)
