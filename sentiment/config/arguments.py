"""The options of a run: model and data as in transformers' example scripts, training as in `TrainingArguments`."""

import copy
import dataclasses
import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations

from sentiment.environment import PRECISIONS, choose_precision
from sentiment.exceptions import InputError, first_line, require

CLEANING = {
    "choices": ["light", "classic"],
    "help": "light: replace HTML tags by spaces, keep case and punctuation. classic: the lab report's cleaning, which "
    "deletes tags and punctuation and lowercases.",
}
SAMPLE = {"choices": ["first", "random"], "help": "Rows that --max_rows keeps: the first ones, or a random sample."}
DATA_DIR = {"help": "Folder with local copies of datasets, read instead of the Hub. Default: SENTIMENT_DATA_DIR."}
DATASET_REVISION = {"help": "Branch, tag or commit of a Hub dataset."}
MAX_SEQ_LENGTH = {"help": "Longer sequences are truncated to this many tokens, special tokens included."}
NUM_WORKERS = {"help": "Processes for cleaning and tokenizing. Default: one per 10,000 rows, up to the cores."}
SPLITS = ["stratified", "official", "grouped"]
SEED_RANGE = "an integer from 0 to 4294967295"
# Options of TrainingArguments that a run cannot honour, and why. Any value but the default is refused.
REFUSED = {
    "auto_find_batch_size": "the batch size is on record: lower --batch_size",
    "batch_eval_metrics": "metrics are computed over all rows at once",
    "dataloader_persistent_workers": "workers must learn the epoch, which masks and order depend on",
    "debug": "divergence is detected in every step already",
    "deepspeed": "its checkpoints cannot be verified and resumed exactly here; start several processes with torchrun",
    "enable_jit_checkpoint": "SIGTERM writes a checkpoint already",
    "eval_do_concat_batches": "metrics are computed over all rows at once",
    "fsdp": "its checkpoints cannot be verified and resumed exactly here; start several processes with torchrun",
    "fsdp_config": "--fsdp is not supported",
    "hub_always_push": "the model is uploaded once, when the run is finished",
    "ignore_data_skip": "a resumed run would train on other rows",
    "include_for_metrics": "metrics are computed from logits and labels",
    "label_names": "the label column is --label_column_name",
    "length_column_name": "lengths are computed by the tokenization",
    "liger_kernel_config": "--use_liger_kernel is not supported",
    "logging_nan_inf_filter": "a loss that is not finite ends the run",
    "optim_target_modules": "layer-wise optimizers have parameter groups of their own",
    "parallelism_config": "only data parallelism is supported: start several processes with torchrun",
    "prediction_loss_only": "the best checkpoint is chosen by a metric",
    "remove_unused_columns": "columns are selected by the tokenization",
    "restore_callback_states_from_checkpoint": "a resumed run could not stop early as it should",
    "save_only_model": "a checkpoint without optimizer state cannot be resumed",
    "use_liger_kernel": "the model has kernels of its own",
}
# Options of TrainingArguments whose default is another one here, and the only value supported.
CONSTANT_OPTIONS = {
    *("ddp_find_unused_parameters", "hub_strategy", "load_best_model_at_end", "logging_nan_inf_filter"),
    "restore_callback_states_from_checkpoint",
}


@dataclass
class ModelArguments:
    """The pretrained BERT."""

    model_name_or_path: str = field(
        default="google-bert/bert-base-uncased",
        metadata={"aliases": ["--model"], "help": "Hub id, local folder, or 'minilm' (embedded, needs no Hub)."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})


@dataclass
class DataArguments:
    """Labelled reviews: source, cleaning and splits."""

    dataset_name: str = field(
        default="sst2",
        metadata={
            "aliases": ["--dataset"],
            "help": "'sst2', 'imdb', 'snippets' (embedded, needs no Hub), a Hub id, a folder in the Hub's layout, or a "
            ".csv, .tsv, .jsonl or .parquet file with a text column and a label column.",
        },
    )
    dataset_revision: str | None = field(default=None, metadata=DATASET_REVISION)
    data_dir: str | None = field(default=None, metadata=DATA_DIR)
    text_column_names: str | None = field(
        default=None, metadata={"help": "Text columns, separated by commas. Default: text, sentence or review."}
    )
    label_column_name: str | None = field(default=None, metadata={"help": "Label column. Default: label."})
    split: str = field(
        default="stratified",
        metadata={
            "choices": SPLITS,
            "help": "stratified: published train and validation joined and split 8:1:1. official: published train for "
            "training, published validation for testing. grouped: 8:1:1, phrases in the split of the sentences that "
            "contain them.",
        },
    )
    split_seed: int | None = field(
        default=None, metadata={"help": "Seed of the split and of random samples. Default: --seed."}
    )
    max_rows: str = field(default="10000", metadata={"help": "Labelled rows used before splitting: a number or 'all'."})
    sample: str = field(default="first", metadata=SAMPLE)
    max_train_samples: int | None = field(
        default=None,
        metadata={
            "help": "Label budget: rows of the training split, sampled with its label shares. Validation and test "
            "splits stay whole. Default: all."
        },
    )
    cleaning: str = field(default="light", metadata=CLEANING)
    keep_duplicates: bool = field(
        default=False,
        metadata={"help": "Split every row by itself, as the lab report did: equal texts may land in two splits."},
    )
    max_seq_length: int = field(default=128, metadata=MAX_SEQ_LENGTH)
    preprocessing_num_workers: int | None = field(default=None, metadata=NUM_WORKERS)

    def __post_init__(self) -> None:
        """Raises InputError for values that no run can use."""
        self.max_rows = normalise_limit("max_rows", self.max_rows)
        require_at_least(self, 3, "max_seq_length")
        require_at_least(self, 1, "preprocessing_num_workers", "max_train_samples")
        require_seed(self, "split_seed")

    @property
    def row_limit(self) -> int | None:
        """`max_rows` as a number; None for all."""
        return parse_limit(self.max_rows)


@dataclass
class CorpusArguments:
    """Unlabelled reviews to adapt to, and the labelled ones whose test texts must not be among them."""

    dataset_name: list[str] = field(
        default_factory=lambda: ["imdb"],
        metadata={
            "aliases": ["--dataset"],
            "help": "One or more of 'imdb', 'sst2', 'snippets' (embedded, needs no Hub), Hub ids, folders, or files "
            "(.txt with one review per line, .csv, .tsv, .jsonl, .parquet). Labels are not read.",
        },
    )
    dataset_revision: str | None = field(default=None, metadata=DATASET_REVISION)
    data_dir: str | None = field(default=None, metadata=DATA_DIR)
    split: str = field(
        default="auto",
        metadata={
            "help": "Published split to read. auto: 'unsupervised' if the dataset has it (for 'snippets': all "
            "sentences), else all splits but validation and test."
        },
    )
    max_rows: str = field(default="10000", metadata={"help": "Reviews to read: a number or 'all'."})
    sample: str = field(default="first", metadata=SAMPLE)
    validation_split_percentage: int = field(
        default=20, metadata={"help": "Percentage of the reviews held out for validation."}
    )
    target_dataset: str = field(
        default="sst2",
        metadata={
            "help": "Labelled reviews of the fine-tuning to come: texts of their validation and test splits are "
            "removed from the training text. 'none' if there are none yet."
        },
    )
    target_split: str = field(
        default="stratified", metadata={"choices": SPLITS, "help": "--split of the fine-tuning to come."}
    )
    target_max_rows: str = field(default="10000", metadata={"help": "--max_rows of the fine-tuning to come."})
    target_sample: str = field(
        default="first", metadata={"choices": ["first", "random"], "help": "--sample of the fine-tuning to come."}
    )
    target_split_seed: int | None = field(
        default=None, metadata={"help": "--split_seed of the fine-tuning to come. Default: --seed."}
    )
    cleaning: str = field(default="light", metadata=CLEANING)
    max_seq_length: int = field(default=128, metadata=MAX_SEQ_LENGTH)
    long_texts: str = field(
        default="chunk",
        metadata={
            "choices": ["chunk", "truncate"],
            "help": "chunk: all of each review, in sequences of at most --max_seq_length tokens. truncate: its first "
            "sequence only, as in the lab report.",
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read reviews while training, for corpora larger than memory and disk cache; needs --max_steps. "
            "The order is random within --shuffle_buffer_size."
        },
    )
    shuffle_buffer_size: int = field(
        default=10_000, metadata={"help": "With --streaming: sequences in memory that the next one is drawn from."}
    )
    preprocessing_num_workers: int | None = field(default=None, metadata=NUM_WORKERS)

    def __post_init__(self) -> None:
        """Raises InputError for values that no run can use."""
        self.max_rows = normalise_limit("max_rows", self.max_rows)
        self.target_max_rows = normalise_limit("target_max_rows", self.target_max_rows)
        require_seed(self, "target_split_seed")
        require_at_least(self, 8, "max_seq_length")
        require_at_least(self, 1, "preprocessing_num_workers", "shuffle_buffer_size")
        percentage = self.validation_split_percentage
        require(1 <= percentage <= 50, f"--validation_split_percentage {percentage}: from 1 to 50")

    @property
    def row_limit(self) -> int | None:
        """`max_rows` as a number; None for all."""
        return parse_limit(self.max_rows)


@dataclass
class RunArguments(TrainingArguments):
    """`TrainingArguments` with this project's defaults, and the options that fine-tuning and adaptation add to them."""

    output_dir: str = field(default="outputs/run", metadata={"help": "Folder of the run."})
    learning_rate: float = field(default=5e-5, metadata={"aliases": ["--lr"], "help": "Peak learning rate of BERT."})
    head_lr: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the head. Default: --learning_rate."}
    )
    batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Global batch size, over all processes and accumulation steps; an alternative to "
            "--per_device_train_batch_size. Default: 128 (train_mlm.py: 32)."
        },
    )
    per_device_train_batch_size: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Batch size per device and accumulation step. Default: from --batch_size."}
    )
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Batch size per device in evaluation."})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Micro-batches per optimizer step: less memory, same step."}
    )
    num_train_epochs: float = field(default=20, metadata={"help": "Maximum number of epochs."})
    warmup_steps: float = field(
        default=0.06, metadata={"help": "Warm-up of the learning rate: steps, or a ratio of all steps if below 1."}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay, of matrices only."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Maximum gradient norm, for clipping."})
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "choices": ["group_by_length", "random", "sequential"],
            "help": "group_by_length: batches of similar lengths in random order, which saves padding.",
        },
    )
    precision: str = field(
        default="auto",
        metadata={
            "choices": list(PRECISIONS),
            "help": "auto: fp16 on CUDA, bf16 on a CPU with units for it, else fp32. --fp16 and --bf16 work too.",
        },
    )
    seed: int = field(default=42, metadata={"help": "Seed of the split, new weights, order of rows and dropout."})
    eval_strategy: str = field(
        default="epoch", metadata={"choices": ["epoch", "steps"], "help": "When to evaluate; checkpoints follow it."}
    )
    save_strategy: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "When to save a checkpoint. Default: after each evaluation."}
    )
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log the training loss."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Newest checkpoints to keep, besides the best one of each."}
    )
    save_minutes: float = field(
        default=10.0, metadata={"help": "Maximum minutes between two checkpoints, besides those after evaluations."}
    )
    resume: bool = field(
        default=False, metadata={"help": "Resume from the newest intact checkpoint in --output_dir, if there is one."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Train again if --output_dir holds another run."})
    hub_strategy: str = field(
        default="end", metadata={"help": "With --push_to_hub: the model is uploaded when the run is finished (end)."}
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory in data loaders. Default: on CUDA."}
    )
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Restore the best checkpoint at the end."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Passed to DDP."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Not supported: NaN ends the run."})
    restore_callback_states_from_checkpoint: bool = field(default=True, metadata={"help": "Always on."})

    def __post_init__(self) -> None:
        """Checks the options, and completes them as transformers does.

        Raises:
            InputError: a value that no run can use, or an option that cannot be honoured.
        """
        defaults = {option.name: get_default(option) for option in dataclasses.fields(self)}
        for name, reason in REFUSED.items():
            value = getattr(self, name)
            require(
                value == defaults[name] or value in (None, [], {}),
                f"--{name} {value} is not supported: {reason}",
            )
        self.check_values()
        if str(self.resume_from_checkpoint).lower() in ("true", "false", "none", ""):  # as Trainer.train accepts it
            self.resume = self.resume or str(self.resume_from_checkpoint).lower() == "true"
            self.resume_from_checkpoint = None
        self.resume = self.resume or self.resume_from_checkpoint is not None
        self.save_strategy = self.save_strategy or self.eval_strategy
        if self.eval_strategy == "steps" and self.eval_steps and self.save_steps == defaults["save_steps"]:
            self.save_steps = self.eval_steps
        if self.num_train_epochs == int(self.num_train_epochs):
            self.num_train_epochs = int(self.num_train_epochs)
        # Streams are read by each process, which keeps its own rows: batches of unequal shapes cannot be dispatched.
        self.accelerator_config = self.accelerator_config or {"dispatch_batches": False}
        has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        self.use_cpu = self.use_cpu or not has_gpu
        os.environ.pop("ACCELERATE_MIXED_PRECISION", None)  # a launcher's default must not override --precision
        given = None if self.report_to == "none" else self.report_to
        try:
            super().__post_init__()
        except (ValueError, ImportError, TypeError, NotImplementedError) as error:
            raise InputError(first_line(error)) from error
        missing = [name for name in self.report_to or [] if name not in get_available_reporting_integrations()]
        require(not missing, f"--report_to {given}: {', '.join(missing)} is not installed")
        require(self.n_gpu <= 1, f"{self.n_gpu} GPUs and one process: start it with `accelerate launch` (all GPUs), or "
                "set CUDA_VISIBLE_DEVICES=0 (one)")  # fmt: skip
        pieces = self.world_size * self.gradient_accumulation_steps
        require(
            not self.batch_size or self.batch_size % pieces == 0,
            f"--batch_size {self.batch_size}: not divisible by {self.world_size} processes x "
            f"{self.gradient_accumulation_steps} accumulation steps",
        )

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        for name in ("learning_rate", "head_lr", "max_grad_norm"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"--{name} {value}: must be above 0 and finite")
        require(0 <= self.warmup_steps < math.inf, f"--warmup_steps {self.warmup_steps}: a ratio below 1, or steps")
        require(0 <= self.weight_decay < math.inf, f"--weight_decay {self.weight_decay}: must be 0 or more, and finite")
        require(0 < self.num_train_epochs < math.inf, f"--num_train_epochs {self.num_train_epochs}: must be above 0")
        require(self.save_minutes >= 0, f"--save_minutes {self.save_minutes}: 0 or more")
        require(self.max_steps == -1 or self.max_steps >= 1, f"--max_steps {self.max_steps}: at least 1")
        require_seed(self, "seed", "data_seed")
        require_at_least(self, 1, "batch_size", "per_device_train_batch_size", "per_device_eval_batch_size")
        require_at_least(self, 1, "gradient_accumulation_steps", "save_total_limit")
        for first, second in (("resume", "overwrite"), ("batch_size", "per_device_train_batch_size")):
            require(
                not (getattr(self, first) and getattr(self, second)),
                f"--{first} and --{second} contradict each other: pass one of them",
            )
        flags = [name for name in ("fp16", "bf16") if getattr(self, name)]
        formats = {*flags, self.precision} - {"auto"}
        require(len(formats) <= 1, f"{' and '.join(sorted(formats))} are both requested: pass one number format")
        choose_precision(self.requested_precision)
        counting = self.include_num_input_tokens_seen
        require(counting in ("no", False), f"--include_num_input_tokens_seen {counting}: tokens are counted already")
        require(str(self.eval_strategy) != "no", "--eval_strategy no: the best checkpoint is chosen by evaluation")
        require(
            self.load_best_model_at_end, "--load_best_model_at_end False: the best checkpoint is what a run reports"
        )
        require(self.hub_strategy == "end", f"--hub_strategy {self.hub_strategy}: only 'end' is supported")
        require(not self.torch_compile, "--torch_compile is not supported: the kernels for CPUs cannot be traced")

    @property
    def default_batch_size(self) -> int:
        """The global batch size if no option sets it."""
        return 128

    @property
    def global_batch_size(self) -> int:
        """Rows per optimizer step, over all processes and accumulation steps."""
        if self.per_device_train_batch_size:
            return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps
        return self.batch_size or self.default_batch_size

    @property
    def requested_precision(self) -> str:
        """`precision`, or the one of `--fp16` and `--bf16` that is set."""
        return "fp16" if self.fp16 else "bf16" if self.bf16 else self.precision

    def build_trainer_arguments(self, **changes: Any) -> TrainingArguments:
        """A copy for the Trainer: checkpoints in a folder of their own, batch size per device, no uploads."""
        args = copy.copy(self)
        args.output_dir = str(Path(self.output_dir) / "checkpoints")
        args.per_device_train_batch_size = self.global_batch_size // (
            self.world_size * self.gradient_accumulation_steps
        )
        precision = choose_precision(self.requested_precision)
        args.fp16, args.bf16 = precision == "fp16", precision == "bf16"
        args.mixed_precision = "no" if precision == "fp32" else precision
        args.push_to_hub = False  # the pipeline uploads the finished model, with its model card
        args.save_total_limit = None  # rotation waits for the manifest (ManifestCallback)
        args.remove_unused_columns = False
        for name, value in changes.items():
            setattr(args, name, value)
        return args


@dataclass
class FinetuningArguments(RunArguments):
    """Options of fine-tuning."""

    output_dir: str = field(default="outputs/e2e", metadata={"help": "Folder of the run."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout between the pooler and the linear head."})
    adversarial_epsilon: float = field(
        default=0.0,
        metadata={
            "help": "Adversarial training (FGM): a second pass with embeddings perturbed by this norm along the loss "
            "gradient. About twice the time; 0 turns it off."
        },
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Layer-wise learning-rate decay, from each layer to the one below; 1.0: off."}
    )
    early_stopping_patience: int = field(
        default=3,
        metadata={"help": "Evaluations without a better metric or validation loss before training stops."},
    )
    metric_for_best_model: str = field(
        default="accuracy",
        metadata={
            "choices": ["accuracy", "precision", "recall", "f1", "macro_f1", "loss"],
            "help": "Validation metric that chooses the best checkpoint and early stopping.",
        },
    )

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        super().check_values()
        require(0 <= self.dropout < 1, f"--dropout {self.dropout}: a probability, from 0 to below 1")
        epsilon, decay = self.adversarial_epsilon, self.layer_decay
        require(0 <= epsilon < math.inf, f"--adversarial_epsilon {epsilon}: must be 0 or more, and finite")
        require(0 < decay <= 1, f"--layer_decay {decay}: above 0, and at most 1 (rates fall towards the embeddings)")
        require_at_least(self, 1, "early_stopping_patience")


@dataclass
class AdaptationArguments(RunArguments):
    """Options of adaptation."""

    output_dir: str = field(default="outputs/mlm", metadata={"help": "Folder of the run."})
    num_train_epochs: float = field(default=3, metadata={"help": "Number of epochs."})
    objective: str = field(
        default="mlm", metadata={"choices": ["mlm"], "help": "What to train for. mlm: masked language modelling."}
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to mask and predict."})
    head_warmup_ratio: float = field(
        default=0.1,
        metadata={
            "help": "If the checkpoint has no masked-language-model head: share of steps that train only a new head."
        },
    )
    metric_for_best_model: str = field(
        default="loss", metadata={"choices": ["loss"], "help": "The best checkpoint has the lowest validation loss."}
    )
    logging_strategy: str = field(
        default="steps", metadata={"help": "When to log the training loss. Default: 200 times a run."}
    )

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        super().check_values()
        for name in ("mlm_probability", "head_warmup_ratio"):
            require(0 <= getattr(self, name) <= 0.9, f"--{name} {getattr(self, name)}: from 0 to 0.9")
        require(self.mlm_probability > 0, "--mlm_probability 0: without masked tokens there is nothing to learn")
        require(not self.label_smoothing_factor, "--label_smoothing_factor is for fine-tuning only")

    @property
    def default_batch_size(self) -> int:
        """The global batch size if no option sets it."""
        return 32


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


def get_default(option: dataclasses.Field[Any]) -> Any:
    """The default value of a dataclass field."""
    return option.default if option.default_factory is dataclasses.MISSING else option.default_factory()


def is_own_option(arguments: Any, name: str) -> bool:
    """Whether an option is declared in this module, and not inherited from `TrainingArguments` as it is."""
    classes = (arguments if isinstance(arguments, type) else type(arguments)).__mro__
    owner = next(kind for kind in classes if name in inspect.get_annotations(kind))
    return owner is not TrainingArguments


@cache
def build_defaults(arguments_class: Callable[[], Any]) -> Any:
    """An instance with every option at its default."""
    return arguments_class()


def collect_options(*arguments: Any) -> dict[str, Any]:
    """The options of a run as run.json records them: all of ours, and those of transformers that are not defaults."""
    options: dict[str, Any] = {}
    for part in arguments:
        defaults: Any = build_defaults(cast(Callable[[], Any], type(part)))
        for option in dataclasses.fields(part):
            value = getattr(part, option.name)
            if is_own_option(part, option.name) or value != getattr(defaults, option.name):
                options[option.name] = value.value if isinstance(value, Enum) else value
        if isinstance(part, RunArguments):
            options["batch_size"] = part.global_batch_size
            options["precision"] = part.requested_precision
    unrecorded = {"hub_token", "per_device_train_batch_size", "fp16", "bf16"}  # a secret, and what others imply
    return {name: value for name, value in options.items() if name not in unrecorded | CONSTANT_OPTIONS}


def list_changed_options(*arguments: Any) -> dict[str, Any]:
    """Those of `collect_options` that differ from the defaults."""
    defaults = collect_options(*(build_defaults(cast(Callable[[], Any], type(part))) for part in arguments))
    return {name: value for name, value in collect_options(*arguments).items() if defaults.get(name) != value}
