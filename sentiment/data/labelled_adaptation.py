"""Labelled rows in an adaptation: those that it is trained on, and those of the probe that judges it."""

import sys
from dataclasses import dataclass

import numpy as np
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments, CorpusArguments
from sentiment.data.adaptation_data import READABLE_TEXTS, AdaptationData, build_target_arguments, load_target_splits
from sentiment.data.assignment import limit_rows, sample_training_rows
from sentiment.data.corpus import compute_corpus_key, hash_keys
from sentiment.data.hub import find_revisions
from sentiment.data.splits import compute_fingerprint
from sentiment.data.tokenization import tokenize_batch, tokenize_reviews
from sentiment.environment import is_main_process
from sentiment.exceptions import InputError, require

PROBE_SAMPLES = 100  # labels that the probe reads by default: the smallest budget of a study
MAX_PROBE_SAMPLES, PROBE_VALIDATION_ROWS = 2_000, 1_000
FEWEST_HELD_OUT = 2  # of each class: a text without another one of its class has no loss


@dataclass(frozen=True)
class ProbeData:
    """Token ids and labels that the probe is fitted on and scored on."""

    train_ids: list[list[int]]
    train_labels: np.ndarray
    validation_ids: list[list[int]]
    validation_labels: np.ndarray

    def describe(self) -> dict[str, int]:
        """The number of rows of each."""
        return {"train_rows": len(self.train_labels), "validation_rows": len(self.validation_labels)}


def load_probe_data(
    corpus_args: CorpusArguments, args: AdaptationArguments, tokenizer: PreTrainedTokenizerBase
) -> ProbeData | None:
    """Rows of the training split of `--target_dataset`, and up to 1,000 of its validation split.

    None without a labelled dataset, or with `--probe_samples 0`. The training rows are those of a fine-tuning with the
    same seed and `--max_train_samples`, or a part of them. If they lack a class, there is no probe either, unless
    `--probe_samples` asks for it: then InputError is raised.
    """
    if args.probe_samples == "0":
        return None
    splits = load_target_splits(corpus_args, args.seed)
    if splits is None:
        return None
    budget = args.probe_samples or corpus_args.target_max_train_samples or PROBE_SAMPLES
    rows = min(len(splits["train"]), MAX_PROBE_SAMPLES if budget == "all" else min(int(budget), MAX_PROBE_SAMPLES))
    try:
        sample = sample_training_rows(splits["train"], rows, args.seed)
    except InputError as error:
        problem = f"--probe_samples {rows}: {str(error).partition(': ')[2]}; pass more, or 0 for no probe"
        if args.probe_samples or args.metric_for_best_model == "probe_accuracy":
            raise InputError(problem) from error
        if is_main_process():
            print(f"no probe: {problem}", file=sys.stderr)
        return None
    parts = {
        "train": sample,
        "validation": limit_rows(splits["validation"], PROBE_VALIDATION_ROWS, "random", args.seed),
    }
    ids = {
        name: tokenize_batch({"text": part["text"][:]}, tokenizer, corpus_args.max_seq_length)["input_ids"]
        for name, part in parts.items()
    }
    labels = {name: np.asarray(part["label"][:]) for name, part in parts.items()}
    return ProbeData(ids["train"], labels["train"], ids["validation"], labels["validation"])


def load_labelled_splits(corpus_args: CorpusArguments, args: AdaptationArguments) -> DatasetDict:
    """The training split of `--target_dataset`, in rows to train on and held-out ones.

    Its validation and test splits are not among them. Raises InputError if there is none, or a class has too few rows.
    """
    splits = load_target_splits(corpus_args, args.seed)
    require(splits is not None, f"--objective {args.objective} needs labelled reviews: name them with --target_dataset")
    assert splits is not None
    train = splits["train"]
    held_out = choose_held_out(
        np.asarray(train["label"][:]),
        train.features["label"].names,
        corpus_args.validation_split_percentage / 100,
        args.seed,
    )
    chosen = {"train": np.setdiff1d(np.arange(len(train)), held_out), "validation": held_out}
    return DatasetDict({name: train.select(places) for name, places in chosen.items()})


def choose_held_out(labels: np.ndarray, class_names: list[str], share: float, seed: int) -> np.ndarray:
    """The places of a share of the rows of each class, at least two, drawn at random; sorted."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    held_out = []
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        require(
            len(own) >= 2 * FEWEST_HELD_OUT,
            f"--target_dataset has {len(own)} training rows of {class_names[label]!r}, and {2 * FEWEST_HELD_OUT} are "
            "needed: raise --target_max_train_samples",
        )
        count = max(FEWEST_HELD_OUT, round(share * len(own)))
        held_out.append(own[: min(count, len(own) - FEWEST_HELD_OUT)])
    return np.sort(np.concatenate(held_out))


def prepare_labelled_data(
    corpus_args: CorpusArguments, args: AdaptationArguments, tokenizer: PreTrainedTokenizerBase
) -> AdaptationData:
    """The rows of `load_labelled_splits`, truncated as a fine-tuning does, with `labels`."""
    splits = load_labelled_splits(corpus_args, args)
    target = build_target_arguments(corpus_args)
    assert target is not None
    train = splits["train"]
    names = train.features["label"].names
    counts = np.bincount(train["label"][:], minlength=len(names)).tolist()
    if is_main_process():
        rows = ", ".join(f"{len(part):,} {name}" for name, part in splits.items())
        print(f"labelled reviews of the training split of {target.dataset_name}: {rows}", file=sys.stderr)
    length, workers = corpus_args.max_seq_length, corpus_args.preprocessing_num_workers
    tokenized = tokenize_reviews(splits, tokenizer, length, workers).remove_columns(["row"])
    sizes = {name: len(part) for name, part in splits.items()}
    return AdaptationData(
        train=tokenized["train"],
        validation=tokenized["validation"],
        audit={
            "cleaning": corpus_args.cleaning,
            "max_seq_length": length,
            "long_texts": "truncate",
            "rows": {"read": len(train) + len(splits["validation"])} | sizes,
            "labels": dict(zip(names, counts, strict=True)),
            "dropped": {},
            "texts": sizes,
            "tokens": {name: int(np.sum(part["length"][:])) for name, part in tokenized.items()},
            "dataset_revisions": find_revisions(*splits.values()),
        },
        fingerprints=compute_fingerprints(splits),
        held_out_texts=splits["validation"]["text"][:READABLE_TEXTS],
        text_keys=hash_keys(map(compute_corpus_key, train["text"][:])),
    )


def compute_fingerprints(splits: DatasetDict) -> dict[str, str]:
    """The fingerprint of each split (`compute_fingerprint`)."""
    return {name: compute_fingerprint(part) for name, part in splits.items()}
