"""The texts of an adaptation, from its options: loaded, cleaned, kept apart from test texts, tokenized."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, DataArguments
from sentiment.config.data_arguments import LAB_DATASETS
from sentiment.data.corpus import (
    Corpus,
    collect_source_test_keys,
    compute_corpus_key,
    hash_keys,
    load_corpus,
    prepare_corpus,
)
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.hub import find_revisions
from sentiment.data.splits import compute_fingerprint
from sentiment.data.streaming import EndlessDataset, stream_corpus
from sentiment.data.tokenization import compare_long_text_modes, tokenize_long_texts
from sentiment.environment import is_main_process
from sentiment.exceptions import InputError, require

STREAM_VALIDATION_ROWS = 1000
CORPUS_REASONS = {
    "empty": "empty",
    "duplicates": "duplicates",
    "in_test": "validation or test texts",
    "overlaps": "that are part of one or hold one",
    "labelled": "labelled texts",
    "over_max_rows": "beyond --max_rows",
}
READABLE_TEXTS = 200  # held-out texts that are kept as text, for the examples of the report
# Of the fine-tuning to come; named target_* in adaptations.
TARGET_OPTIONS = (
    *("split", "max_rows", "sample", "split_seed"),
    *("text_column_names", "label_column_name", "label_mapping", "unlabelled_value", "encoding"),
    *("dataset_revision", "train_file", "validation_file", "test_file"),
)
BUDGET_OPTION = "max_train_samples"  # one more; in studies, that of each fine-tuning
# Those that --dataset has itself: their values where it is the labelled dataset too.
OWN_OPTIONS = ("text_column_names", "encoding", "dataset_revision")
SHARED_OPTIONS = ("preset", "data_dir", "cleaning", "preprocessing_num_workers", "text_column_delimiter")


@dataclass
class AdaptationData:
    """Tokenized texts; some validation texts as they were; hashes of all training texts, None for a stream."""

    train: Dataset | EndlessDataset
    validation: Dataset
    audit: dict[str, Any]
    fingerprints: dict[str, str]
    held_out_texts: list[str]
    text_keys: np.ndarray | None


def load_training_corpus(args: CorpusArguments, seed: int) -> Corpus:
    """The unlabelled reviews, cleaned, without test texts, split into train and validation."""
    return prepare_corpus(load_corpus(args), args, collect_held_out_keys(args, seed), seed)


def collect_held_out_keys(args: CorpusArguments, seed: int) -> set[str]:
    """Keys of validation and test texts: those that the datasets publish, and those of the fine-tuning to come."""
    held_out = collect_source_test_keys(args)
    target = load_target_splits(args, seed)
    if target is not None:
        held_out.update(compute_corpus_key(text) for name in ("validation", "test") for text in target[name]["text"])
    return held_out


def load_target_splits(args: CorpusArguments, seed: int) -> DatasetDict | None:
    """The splits of the fine-tuning to come, with its label budget; None if there is none yet."""
    target = build_target_arguments(args)
    if target is None:
        return None
    try:
        return load_split_reviews(target, seed).splits
    except InputError as error:
        own = OWN_OPTIONS if args.target_dataset == "auto" else ()  # those of the reviews themselves
        names = "|".join(name for name in (*TARGET_OPTIONS, BUDGET_OPTION) if name not in own)
        raise InputError(
            re.sub(rf"--({names})\b", r"--target_\1", str(error))
            + f" ({target.dataset_name} is read to keep its test texts out of the corpus: name other labelled reviews "
            "with --target_dataset, or 'none')"
        ) from error


def build_target_arguments(args: CorpusArguments) -> DataArguments | None:
    """The data of the fine-tuning to come; None if there is none yet.

    Raises:
        InputError: it is not named, and the reviews are several datasets of one's own.
    """
    options = {name: getattr(args, f"target_{name}") for name in (*TARGET_OPTIONS, BUDGET_OPTION)}
    options |= {name: getattr(args, name) for name in SHARED_OPTIONS}
    if args.target_dataset == "none":
        return None
    if args.target_dataset != "auto":
        options["dataset_name"] = args.target_dataset
    elif not args.target_train_file and any(name not in LAB_DATASETS for name in args.dataset_name):
        require(
            len(args.dataset_name) == 1 and not args.streaming and Path(args.dataset_name[0]).suffix != ".txt",
            "name the labelled reviews of the fine-tuning to come with --target_dataset, so that texts of their "
            "validation and test splits are left out, or pass --target_dataset none",
        )
        options["dataset_name"] = args.dataset_name[0]
        options |= {name: getattr(args, name) for name in OWN_OPTIONS if options[name] is None}
    return DataArguments(**options)


def describe_corpus(corpus: Corpus) -> str:
    """Rows by split, and rows left out by reason, in one line."""
    rows = ", ".join(f"{len(part):,} {name}" for name, part in corpus.splits.items())
    left_out = ", ".join(f"{count:,} {CORPUS_REASONS[reason]}" for reason, count in corpus.dropped.items() if count)
    return f"reviews: {corpus.rows_read:,} read, {rows}{f'; left out: {left_out}' if left_out else ''}"


def prepare_adaptation_data(
    corpus_args: CorpusArguments,
    args: AdaptationArguments,
    tokenizer: PreTrainedTokenizerBase,
    keep_texts: bool = False,
) -> AdaptationData:
    """The texts of an adaptation, in memory or streamed; with `keep_texts`, as text too, beside their tokens."""
    options = {name: getattr(corpus_args, name) for name in ("cleaning", "max_seq_length", "long_texts")}
    max_seq_length, workers = corpus_args.max_seq_length, corpus_args.preprocessing_num_workers
    if corpus_args.streaming:
        held_out_keys = collect_held_out_keys(corpus_args, args.seed)
        stream, held_out = stream_corpus(
            corpus_args, tokenizer, held_out_keys, args.seed, STREAM_VALIDATION_ROWS, keep_texts
        )
        return AdaptationData(
            train=EndlessDataset(stream),
            validation=held_out,
            audit=options | {"streaming": True},
            fingerprints={"validation": compute_fingerprint(held_out, ["input_ids"])},
            held_out_texts=tokenizer.batch_decode(held_out["input_ids"][:READABLE_TEXTS], skip_special_tokens=True),
            text_keys=None,
        )
    corpus = load_training_corpus(corpus_args, args.seed)
    texts = corpus.splits
    if is_main_process():
        print(describe_corpus(corpus), file=sys.stderr)
    tokenized = tokenize_long_texts(texts, tokenizer, max_seq_length, corpus_args.long_texts, workers, keep_texts)
    audit = {
        "rows": {"read": corpus.rows_read} | {name: len(part) for name, part in texts.items()},
        "dropped": corpus.dropped,
        "texts": {name: len(part) for name, part in tokenized.items()},
        "tokens": {name: int(np.sum(part["length"][:])) for name, part in tokenized.items()},
        "long_text_modes": compare_long_text_modes(
            texts["train"], tokenizer, max_seq_length, args.global_batch_size or 1, workers
        ),
        "dataset_revisions": find_revisions(*texts.values()),
    }
    return AdaptationData(
        train=tokenized["train"],
        validation=tokenized["validation"],
        audit=options | audit,
        fingerprints=corpus.fingerprints,
        held_out_texts=texts["validation"]["text"][:READABLE_TEXTS],
        text_keys=hash_keys(texts["train"]["key"][:]),
    )
