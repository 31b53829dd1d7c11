"""The texts of an adaptation, from its options: loaded, cleaned, kept apart from test texts, tokenized."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, DataArguments
from sentiment.data.corpus import (
    Corpus,
    collect_published_test_keys,
    compute_corpus_key,
    hash_keys,
    load_corpus,
    prepare_corpus,
)
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.hub import find_revisions
from sentiment.data.sources import load_reviews
from sentiment.data.splits import compute_fingerprint
from sentiment.data.streaming import EndlessDataset, stream_corpus
from sentiment.data.tokenization import compare_long_text_modes, tokenize_long_texts
from sentiment.exceptions import InputError

STREAM_VALIDATION_ROWS = 1000
READABLE_TEXTS = 200  # held-out texts that are kept as text, for the examples of filled masks


@dataclass
class AdaptationData:
    """The texts of an adaptation as token ids, and what is recorded of them.

    `held_out_texts` are some of the validation reviews as text. `text_keys` are the hashes of all training texts
    (`hash_keys`); None for a stream.
    """

    train: Dataset | EndlessDataset
    validation: Dataset
    audit: dict[str, Any]
    fingerprints: dict[str, str]
    held_out_texts: list[str]
    text_keys: np.ndarray | None


def load_training_corpus(corpus_args: CorpusArguments, seed: int) -> Corpus:
    """The unlabelled reviews, cleaned, without test texts, split into train and validation."""
    args = corpus_args
    corpus = load_corpus(args.dataset_name, args.data_dir, args.split, args.dataset_revision)
    return prepare_corpus(corpus, args, collect_held_out_keys(args, seed), seed)


def collect_held_out_keys(corpus_args: CorpusArguments, seed: int) -> set[str]:
    """Keys of the texts that no adaptation may read.

    These are the validation and test splits of the fine-tuning to come, split as it will split them, and the published
    validation and test splits of the corpus's own datasets.
    """
    held_out: set[str] = set()
    for name in corpus_args.dataset_name:
        revision = corpus_args.dataset_revision
        published = load_reviews(name, corpus_args.data_dir, with_labels=False, revision=revision, streaming=True)
        held_out |= collect_published_test_keys(published)
    if corpus_args.target_dataset != "none":
        target = DataArguments(
            dataset_name=corpus_args.target_dataset,
            data_dir=corpus_args.data_dir,
            split=corpus_args.target_split,
            max_rows=corpus_args.target_max_rows,
            sample=corpus_args.target_sample,
            split_seed=corpus_args.target_split_seed,
            text_column_names=corpus_args.target_text_column_names,
            label_column_name=corpus_args.target_label_column_name,
            cleaning=corpus_args.cleaning,
            preprocessing_num_workers=corpus_args.preprocessing_num_workers,
        )
        try:
            splits = load_split_reviews(target, seed).splits
        except InputError as error:
            raise InputError(
                f"{error} ({corpus_args.target_dataset} is read to keep its test texts out of the corpus: name other "
                "labelled reviews with --target_dataset, or 'none')"
            ) from error
        held_out.update(compute_corpus_key(text) for name in ("validation", "test") for text in splits[name]["text"])
    return held_out


def prepare_adaptation_data(
    corpus_args: CorpusArguments, args: AdaptationArguments, tokenizer: PreTrainedTokenizerBase
) -> AdaptationData:
    """The texts of an adaptation."""
    options = {name: getattr(corpus_args, name) for name in ("cleaning", "max_seq_length", "long_texts")}
    max_seq_length, workers = corpus_args.max_seq_length, corpus_args.preprocessing_num_workers
    if corpus_args.streaming:
        held_out_keys = collect_held_out_keys(corpus_args, args.seed)
        stream, held_out = stream_corpus(corpus_args, tokenizer, held_out_keys, args.seed, STREAM_VALIDATION_ROWS)
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
    tokenized = tokenize_long_texts(texts, tokenizer, max_seq_length, corpus_args.long_texts, workers)
    audit = {
        "rows": {"read": corpus.rows_read} | {name: len(part) for name, part in texts.items()},
        "dropped": corpus.dropped,
        "texts": {name: len(part) for name, part in tokenized.items()},
        "tokens": {name: int(np.sum(part["length"][:])) for name, part in tokenized.items()},
        "long_text_modes": compare_long_text_modes(
            texts["train"], tokenizer, max_seq_length, args.global_batch_size, workers
        ),
        "dataset_revisions": find_revisions(*texts.values()),
    }
    return AdaptationData(
        train=tokenized["train"],
        validation=tokenized["validation"],
        audit=options | audit,
        fingerprints=fingerprint_corpus(corpus),
        held_out_texts=texts["validation"]["text"][:READABLE_TEXTS],
        text_keys=hash_keys(texts["train"]["key"][:]),
    )


def compute_fingerprints(corpus_args: CorpusArguments, args: AdaptationArguments) -> dict[str, str]:
    """The fingerprints of the texts as they are now; none of a stream, which would have to be read for them."""
    return {} if corpus_args.streaming else fingerprint_corpus(load_training_corpus(corpus_args, args.seed))


def fingerprint_corpus(corpus: Corpus) -> dict[str, str]:
    """The fingerprint of the texts of each split (`compute_fingerprint`)."""
    return {name: compute_fingerprint(part, ["text"]) for name, part in corpus.splits.items()}
