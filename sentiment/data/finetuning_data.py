"""From the options of a run to its data: loaded, cleaned, split, audited, tokenized."""

from dataclasses import dataclass
from typing import Any

from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import DataArguments
from sentiment.data.assignment import sample_training_rows
from sentiment.data.audit import audit_splits
from sentiment.data.sources import load_reviews
from sentiment.data.splits import SplitReviews, add_keys, compute_fingerprint, split_reviews
from sentiment.data.tokenization import tokenize_reviews


@dataclass
class RunData:
    """The data of a run: splits with texts, the same tokenized, the audit, and a fingerprint of each split."""

    splits: DatasetDict
    tokenized: DatasetDict
    audit: dict[str, Any]
    fingerprints: dict[str, str]


def prepare_data(data_args: DataArguments, seed: int, tokenizer: PreTrainedTokenizerBase) -> RunData:
    """Labelled reviews, split, audited and tokenized as the options say."""
    reviews = load_split_reviews(data_args, seed)
    return RunData(
        splits=reviews.splits,
        tokenized=tokenize_reviews(
            reviews.splits, tokenizer, data_args.max_seq_length, data_args.preprocessing_num_workers
        ),
        audit=audit_reviews(reviews, data_args, tokenizer),
        fingerprints=compute_fingerprints(reviews.splits),
    )


def compute_fingerprints(splits: DatasetDict) -> dict[str, str]:
    """The fingerprint of each split (`compute_fingerprint`)."""
    return {name: compute_fingerprint(part) for name, part in splits.items()}


def load_split_reviews(data_args: DataArguments, seed: int) -> SplitReviews:
    """The labelled reviews, cleaned and split as the options say.

    The training split is cut to the label budget by `seed`; the split itself is by `split_seed` where that is given.
    """
    reviews = split_reviews(
        load_reviews(data_args.dataset_name, data_args.data_dir),
        split=data_args.split,
        max_rows=data_args.row_limit,
        sample=data_args.sample,
        seed=seed if data_args.split_seed is None else data_args.split_seed,
        cleaning=data_args.cleaning,
        keep_duplicates=data_args.keep_duplicates,
        num_proc=data_args.preprocessing_num_workers,
    )
    if data_args.max_train_samples is not None:
        reviews.splits["train"] = sample_training_rows(reviews.splits["train"], data_args.max_train_samples, seed)
    return reviews


def audit_reviews(
    reviews: SplitReviews, data_args: DataArguments, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The audit of a run's splits, with how they came about."""
    how = {name: getattr(data_args, name) for name in ("cleaning", "split", "keep_duplicates")}
    counts = audit_splits(reviews.splits, tokenizer, data_args.max_seq_length)
    return how | counts | {"dropped": reviews.dropped}


def audit_published(data_args: DataArguments, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The audit of a dataset as it was published: every row of every split, cleaned but not dealt."""
    published = load_reviews(data_args.dataset_name, data_args.data_dir)
    splits = DatasetDict(
        {
            name: add_keys(part, data_args.cleaning, data_args.preprocessing_num_workers)
            for name, part in published.items()
        }
    )
    return {"cleaning": data_args.cleaning} | audit_splits(splits, tokenizer, data_args.max_seq_length)
