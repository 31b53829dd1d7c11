"""From the options of an adaptation to its texts: loaded, cleaned, freed of test texts, dealt, cut into blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
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
from sentiment.data.splits import compute_fingerprint
from sentiment.data.streaming import stream_corpus, stream_splits
from sentiment.data.tokenization import compare_long_text_modes, tokenize_long_texts
from sentiment.exceptions import InputError

# Of a stream, how many usable reviews are held out for validation.
STREAM_VALIDATION_ROWS = 1000
# How many held-out texts are kept as text, for masks that a reader may look at.
READABLE_TEXTS = 200


@dataclass
class AdaptationData:
    """The texts of an adaptation as token ids, and what is recorded of them.

    `held_out_texts` are some of the validation reviews as text. `text_keys` holds the hashes of all training texts
    (`hash_keys`); None for a stream, whose texts nobody has counted.
    """

    train: Dataset | IterableDataset
    validation: Dataset
    audit: dict[str, Any]
    fingerprints: dict[str, str]
    held_out_texts: list[str]
    text_keys: np.ndarray | None


def load_training_corpus(corpus_args: CorpusArguments, seed: int) -> Corpus:
    """The unlabelled reviews, cleaned and dealt to train and validation, without any text that is tested on."""
    return prepare_corpus(
        load_corpus(corpus_args.dataset_name, corpus_args.data_dir, corpus_args.split),
        max_rows=corpus_args.row_limit,
        sample=corpus_args.sample,
        cleaning=corpus_args.cleaning,
        seed=seed,
        held_out_keys=collect_held_out_keys(corpus_args, seed),
        validation_share=corpus_args.validation_split_percentage / 100,
        num_proc=corpus_args.preprocessing_num_workers,
    )


def collect_held_out_keys(corpus_args: CorpusArguments, seed: int) -> set[str]:
    """Keys of the texts that no adaptation may read.

    These are the validation and test splits of the fine-tuning to come, dealt as that will deal them, and the labelled
    test splits that the corpus's own datasets were published with.
    """
    forbidden: set[str] = set()
    for dataset in corpus_args.dataset_name:
        forbidden |= collect_published_test_keys(stream_splits(dataset, corpus_args.data_dir))
    if corpus_args.target_dataset != "none":
        target = DataArguments(
            dataset_name=corpus_args.target_dataset,
            data_dir=corpus_args.data_dir,
            split=corpus_args.target_split,
            max_rows=corpus_args.target_max_rows,
            sample=corpus_args.target_sample,
            split_seed=corpus_args.target_split_seed,
            cleaning=corpus_args.cleaning,
            preprocessing_num_workers=corpus_args.preprocessing_num_workers,
        )
        try:
            splits = load_split_reviews(target, seed).splits
        except InputError as error:
            raise InputError(
                f"{error} (to keep its test texts out of the corpus, {corpus_args.target_dataset} is read: name other "
                "labelled reviews with --target_dataset, or 'none')"
            ) from error
        forbidden.update(compute_corpus_key(text) for name in ("validation", "test") for text in splits[name]["text"])
    return forbidden


def prepare_adaptation_data(
    corpus_args: CorpusArguments, args: AdaptationArguments, tokenizer: PreTrainedTokenizerBase
) -> AdaptationData:
    """The texts of an adaptation, as the options say."""
    how = {name: getattr(corpus_args, name) for name in ("cleaning", "max_seq_length", "long_texts")}
    if corpus_args.streaming:
        stream, held_out = stream_corpus(
            corpus_args.dataset_name,
            corpus_args.data_dir,
            corpus_args.split,
            tokenizer,
            max_seq_length=corpus_args.max_seq_length,
            long_texts=corpus_args.long_texts,
            cleaning=corpus_args.cleaning,
            held_out_keys=collect_held_out_keys(corpus_args, args.seed),
            seed=args.seed,
            buffer_size=corpus_args.shuffle_buffer_size,
            validation_rows=STREAM_VALIDATION_ROWS,
        )
        held_out_texts = tokenizer.batch_decode(held_out["input_ids"][:READABLE_TEXTS], skip_special_tokens=True)
        fingerprints = {"validation": compute_fingerprint(held_out, ["input_ids"])}
        return AdaptationData(stream, held_out, how | {"streaming": True}, fingerprints, held_out_texts, None)
    corpus = load_training_corpus(corpus_args, args.seed)
    tokenized = tokenize_long_texts(
        corpus.splits,
        tokenizer,
        corpus_args.max_seq_length,
        corpus_args.long_texts,
        corpus_args.preprocessing_num_workers,
    )
    counts = {
        "rows": {"read": corpus.rows_read} | {name: len(part) for name, part in corpus.splits.items()},
        "dropped": corpus.dropped,
        "texts": {name: len(part) for name, part in tokenized.items()},
        "tokens": {name: int(np.sum(part["length"][:])) for name, part in tokenized.items()},
        "long_text_modes": compare_long_text_modes(
            corpus.splits["train"],
            tokenizer,
            corpus_args.max_seq_length,
            args.global_batch_size,
            corpus_args.preprocessing_num_workers,
        ),
    }
    return AdaptationData(
        train=tokenized["train"],
        validation=tokenized["validation"],
        audit=how | counts,
        fingerprints=fingerprint_corpus(corpus),
        held_out_texts=corpus.splits["validation"]["text"][:READABLE_TEXTS],
        text_keys=hash_keys(corpus.splits["train"]["key"][:]),
    )


def compute_fingerprints(corpus_args: CorpusArguments, args: AdaptationArguments) -> dict[str, str]:
    """The fingerprints of the texts as they are now; none of a stream, which would have to be read for them."""
    return {} if corpus_args.streaming else fingerprint_corpus(load_training_corpus(corpus_args, args.seed))


def fingerprint_corpus(corpus: Corpus) -> dict[str, str]:
    """The fingerprint of each split (`compute_fingerprint`), by its texts alone."""
    return {name: compute_fingerprint(part, ["text"]) for name, part in corpus.splits.items()}
