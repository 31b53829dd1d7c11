"""The data of a fine-tuning, from its options: loaded, cleaned, split, audited, tokenized."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import DataArguments
from sentiment.data.assignment import sample_training_rows
from sentiment.data.audit import audit_splits
from sentiment.data.columns import list_names
from sentiment.data.hub import find_revisions
from sentiment.data.labels import LabelOptions, parse_label_mapping, shorten
from sentiment.data.languages import choose_language
from sentiment.data.sources import list_columns, load_reviews
from sentiment.data.splits import SplitReviews, UnlabelledError, add_keys, split_reviews
from sentiment.data.suspicious_classes import describe_suspicious_classes
from sentiment.data.tokenization import tokenize_reviews
from sentiment.environment import is_main_process
from sentiment.exceptions import InputError

SHOWN_CLASSES = 10  # in a line
UNKNOWN_SHARE = 0.05  # of the tokens, above which a model is called unsuitable
FEW_ROWS = 10  # of a class in the test split, below which its scores say little
DROP_REASONS = {
    "empty": "without a text after cleaning",
    "unlabelled": "unlabelled",
    "left_out_by_mapping": "by --label_mapping",
    "over_max_rows": "beyond --max_rows",
    "both_labels": "of texts with several labels",
    "in_test": "of texts in another split",
    "in_several_splits": "of phrases of sentences in several splits",
}


@dataclass
class RunData:
    """Splits with texts, the same tokenized, the audit, a fingerprint of each split, and texts not to be trained on."""

    splits: DatasetDict
    tokenized: DatasetDict
    audit: dict[str, Any]
    fingerprints: dict[str, str]
    held_out_texts: list[str]


def prepare_data(
    data_args: DataArguments, seed: int, tokenizer: PreTrainedTokenizerBase, with_test: bool = True
) -> RunData:
    """The data of a run; its test split is neither tokenized nor audited nor returned unless `with_test`."""
    reviews = load_split_reviews(data_args, seed)
    held_out = list_held_out_texts(reviews.splits)
    if not with_test:
        del reviews.splits["test"]
    if is_main_process():
        print(describe_splits(reviews), file=sys.stderr)
    workers = data_args.preprocessing_num_workers
    tokenized = tokenize_reviews(reviews.splits, tokenizer, data_args.max_seq_length, workers, data_args.truncation)
    audit = audit_reviews(reviews, data_args, tokenizer)
    warnings = [describe_unknown_tokens(audit), describe_small_classes(audit)]
    for warning in (*describe_suspicious_classes(audit), *filter(None, warnings)):
        if is_main_process():
            print(f"warning: {warning}", file=sys.stderr)
    return RunData(reviews.splits, tokenized, audit, reviews.fingerprints, held_out)


def list_held_out_texts(splits: DatasetDict) -> list[str]:
    """The texts of the validation and test split, which no model may be adapted to."""
    return [text for name in ("validation", "test") for text in splits[name]["text"][:]]


def describe_unknown_tokens(audit: dict[str, Any]) -> str:
    """That the model does not know the script or language of the training texts; empty if it knows most tokens."""
    share = audit["splits"]["train"]["share_unknown"]
    advice = "choose one for their language, such as a multilingual one"
    return f"{share:.0%} of the tokens are unknown to this model: {advice}" if share > UNKNOWN_SHARE else ""


def describe_small_classes(audit: dict[str, Any]) -> str:
    """That classes have few test rows; empty if all have enough."""
    labels = audit["splits"].get("test", {"labels": {}})["labels"]
    counts = {name: count for name, count in labels.items() if name != "unlabelled"}
    few = [f"{count} of {name!r}" for name, count in counts.items() if count < FEW_ROWS]
    return f"few test rows: {shorten(', '.join(few))}; the scores of these classes say little" if few else ""


def describe_splits(reviews: SplitReviews) -> str:
    """Rows by split, classes with their training rows, and rows left out by reason, in one line.

    The reasons are those of `SplitReviews.dropped`.
    """
    train = reviews.splits["train"]
    counts = np.bincount(train["label"][:], minlength=len(train.features["label"].names))
    classes = [f"{name} ({count:,})" for name, count in zip(train.features["label"].names, counts, strict=True)]
    shown = [*classes[:SHOWN_CLASSES], *(["..."] if len(classes) > SHOWN_CLASSES else [])]
    rows = ", ".join(f"{len(part):,} {name}" for name, part in reviews.splits.items())
    left_out = ", ".join(f"{count:,} {DROP_REASONS.get(reason, reason)}" for reason, count in reviews.dropped.items())
    joined = f" of published {' and '.join(reviews.published)}" if len(reviews.published) > 1 else ""
    method = f"{reviews.method}{joined if reviews.method != 'official' else ''}"
    method += f"; not used: {', '.join(reviews.unused)}" if reviews.unused else ""
    line = f"rows: {rows} (split {method}); {len(classes)} classes: {', '.join(shown)}"
    return f"{line}; left out: {left_out}" if left_out else line


def load_published_reviews(data_args: DataArguments) -> DatasetDict:
    """The splits of the dataset as they were published."""
    return load_reviews(
        data_args.dataset_name,
        data_args.data_dir,
        files=data_args.files,
        text_column_names=data_args.text_column_names,
        label_column_name=data_args.label_column_name,
        text_column_delimiter=data_args.text_column_delimiter,
        encoding=data_args.encoding,
        labels=LabelOptions(parse_label_mapping(data_args.label_mapping), data_args.unlabelled_value),
        revision=data_args.dataset_revision,
    )


def load_split_reviews(data_args: DataArguments, seed: int) -> SplitReviews:
    """The reviews of `split_reviews`; of its training rows, `seed` samples `max_train_samples`."""
    try:
        reviews = split_reviews(load_published_reviews(data_args), data_args, seed)
    except UnlabelledError as error:
        columns = list_columns(
            data_args.dataset_name, data_args.data_dir, data_args.encoding, data_args.dataset_revision
        )
        raise InputError(
            f"{data_args.dataset_name}: {error}: name the label column with --label_column_name; found columns: "
            f"{list_names(columns)}"
        ) from None
    if data_args.max_train_samples is not None:
        reviews.splits["train"] = sample_training_rows(reviews.splits["train"], data_args.max_train_samples, seed)
    return reviews


def audit_reviews(reviews: SplitReviews, args: DataArguments, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The audit of a run's splits, with the options that made them."""
    language = choose_language(args.language, reviews.splits["train"]["text"])
    options = {"cleaning": args.cleaning, "split": reviews.method, "keep_duplicates": args.keep_duplicates}
    options |= {"language": language}
    counts = audit_splits(reviews.splits, tokenizer, args.max_seq_length)
    revisions = find_revisions(*reviews.splits.values())
    return options | counts | {"dropped": reviews.dropped, "dataset_revisions": revisions}


def audit_published(data_args: DataArguments, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The audit of all rows of a dataset as published, cleaned but not split again."""
    published, workers = load_published_reviews(data_args), data_args.preprocessing_num_workers
    splits = {name: add_keys(part, data_args.cleaning, workers) for name, part in published.items()}
    return {"cleaning": data_args.cleaning} | audit_splits(DatasetDict(splits), tokenizer, data_args.max_seq_length)
