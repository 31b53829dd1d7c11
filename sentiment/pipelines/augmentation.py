"""Augmentation and regularisation of a fine-tuning, from its options: checked, built, and described for the report."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from sentiment.config.arguments import CorpusArguments, DataArguments, FinetuningArguments
from sentiment.data.augmentation import AUGMENTATIONS, Material, check_augmentations, check_names, compute_row_shares
from sentiment.data.augmentation.augmenter import Augmenter, choose_examples
from sentiment.data.corpus import (
    Corpus,
    collect_source_test_keys,
    compute_corpus_key,
    load_corpus,
    prepare_corpus,
)
from sentiment.data.finetuning_data import RunData
from sentiment.environment import is_main_process
from sentiment.exceptions import require
from sentiment.models.classifier import HEAD_DROPOUTS, SentimentClassifier
from sentiment.models.word_proposals import load_word_proposer
from sentiment.training.augmented_batches import POSITION, AugmentingCollator
from sentiment.training.batches import EpochTracker
from sentiment.training.class_weights import build_weighted_loss
from sentiment.training.regularization import Regularization

UNLABELLED = "unlabelled"  # what run.json calls the fingerprint of unlabelled reviews
# What configs call the dropout of an encoder.
ENCODER_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"),
    *("mlp_dropout", "embedding_dropout"),
)


def check_kinds(args: FinetuningArguments) -> None:
    """Raises InputError for unknown kinds of augmentation, and for consistency training without one that fits."""
    strengths = args.augmentation or {}
    assert isinstance(strengths, dict)
    check_names(strengths)
    words = [name for name, kind in AUGMENTATIONS.items() if kind.unit == "words"]
    require(
        not args.consistency_weight or not strengths.keys().isdisjoint(words),
        f"--consistency_weight: --augmentation needs one of {', '.join(words)}, which keep the sentiment of a text",
    )


def check_dropout(args: FinetuningArguments, model: SentimentClassifier) -> None:
    """Raises InputError for R-Drop of a model without dropout: its two passes would be equal."""
    rates = [getattr(model.config, name, 0) or 0 for name in (*ENCODER_DROPOUTS, *HEAD_DROPOUTS)]
    require(
        not args.rdrop_alpha or any(rates),
        "--rdrop_alpha: without dropout in this model, two passes are equal: pass --dropout 0.1 or another --model",
    )


def build_augmenter(
    args: FinetuningArguments,
    data_args: DataArguments,
    data: RunData,
    tokenizer: PreTrainedTokenizerBase,
    start: tuple[str, str | None],
) -> Augmenter | None:
    """The augmenter of the training rows; None without `--augmentation`.

    Args:
        args: the options of augmentation.
        data_args: those of the data.
        data: the splits, of which the training texts are read alone.
        tokenizer: of the model.
        start: path and revision of the model that training starts from, for `masked_lm`.

    Raises:
        InputError: kinds that these texts, classes or this model cannot have.
    """
    strengths = args.augmentation
    if not strengths:
        return None
    assert isinstance(strengths, dict)
    train = data.splits["train"]
    check_augmentations(
        strengths, args.augmented_share, data.audit["language"], train.features["label"].names, data_args.cleaning
    )
    propose = None
    if "masked_lm" in strengths:
        # Workers of a data loader cannot use a GPU that their parent has opened.
        device = torch.device("cpu") if args.dataloader_num_workers else args.device
        propose = load_word_proposer(start, tokenizer, data_args.max_seq_length, data_args.truncation, device)
    material = Material(train["text"][:], train["label"][:], data.audit["language"], propose)
    return Augmenter(strengths, args.augmented_share, material, data_args.cleaning, args.seed)


def build_training_rows(data: RunData, augmenter: Augmenter | None) -> Dataset:
    """The training rows of the Trainer, with their numbers if they are augmented."""
    rows: Dataset = data.tokenized["train"].select_columns(["input_ids", "labels", "length"])
    if augmenter is None:
        return rows
    numbers = Dataset.from_dict({POSITION: list(range(len(rows)))})
    return concatenate_datasets([rows, numbers], axis=1)


def build_collator(
    args: FinetuningArguments,
    data_args: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    augmenter: Augmenter | None,
    tracker: EpochTracker,
    unlabelled: Corpus | None,
) -> DataCollatorWithPadding | AugmentingCollator:
    """The collator of all batches, of which those of training are augmented."""
    if augmenter is None:
        return DataCollatorWithPadding(tokenizer)
    is_used = unlabelled is not None and args.consistency_weight  # else they are for self-training
    texts = unlabelled.splits["train"]["text"][:] if unlabelled is not None and is_used else ()
    return AugmentingCollator(
        tokenizer, augmenter, data_args.max_seq_length, data_args.truncation, tracker, texts, args.seed
    )


def build_regularization(
    args: FinetuningArguments, weights: Sequence[float] | None, num_classes: int, tokenizer: PreTrainedTokenizerBase
) -> Regularization | None:
    """The loss of R-Drop and consistency training; None without either."""
    if not args.rdrop_alpha and not args.consistency_weight:
        return None
    return Regularization(
        classification_loss=build_weighted_loss(weights or [1.0] * num_classes, args.label_smoothing_factor),
        rdrop_alpha=args.rdrop_alpha,
        consistency_weight=args.consistency_weight,
        temperature=args.consistency_temperature,
        threshold=args.consistency_threshold,
        pad_token_id=tokenizer.pad_token_id or 0,
    )


def load_unlabelled_reviews(
    args: FinetuningArguments, data_args: DataArguments, held_out_texts: Sequence[str], labelled_texts: Sequence[str]
) -> Corpus | None:
    """The reviews of `--unlabelled_dataset`, cleaned, without held-out texts; None without any.

    For `--self_training`, without labelled texts too.

    Args:
        args: names them.
        data_args: how texts are read and cleaned.
        held_out_texts: of the validation and test split of this run.
        labelled_texts: of its training split.
    """
    name = args.unlabelled_dataset
    if not name:
        return None
    is_own = name == data_args.dataset_name
    corpus_args = CorpusArguments(
        dataset_name=[name],
        data_dir=data_args.data_dir,
        text_column_names=data_args.text_column_names if is_own else None,
        text_column_delimiter=data_args.text_column_delimiter,
        encoding=data_args.encoding if is_own else None,
        dataset_revision=data_args.dataset_revision if is_own else None,
        max_rows="all",
        cleaning=data_args.cleaning,
        preprocessing_num_workers=data_args.preprocessing_num_workers,
        validation_split_percentage=1,
    )
    keys = collect_source_test_keys(corpus_args) | {compute_corpus_key(text) for text in held_out_texts}
    # Which consistency training may see without their labels; a teacher would label them again.
    labelled_keys = [compute_corpus_key(text) for text in labelled_texts] if args.self_training else []
    corpus = prepare_corpus(load_corpus(corpus_args), corpus_args, keys, args.seed, labelled_keys)
    if is_main_process():
        print(f"unlabelled reviews: {len(corpus.splits['train']):,} of {corpus.rows_read:,} read", file=sys.stderr)
    return corpus


def describe_augmentation(args: FinetuningArguments, augmenter: Augmenter, unlabelled: Corpus | None) -> dict[str, Any]:
    """The options of augmentation, the share of rows that each kind gets, and examples, for metrics.json."""
    assert isinstance(args.augmentation, dict)
    found = {
        "strengths": args.augmentation,
        "augmented_share": args.augmented_share,
        "units": {name: kind.unit for name, kind in augmenter.kinds.items()},
        "row_shares": compute_row_shares(args.augmentation, args.augmented_share),
        "examples": choose_examples(augmenter),
    }
    if unlabelled is None or not args.consistency_weight:
        return found
    return found | {"unlabelled_texts": len(unlabelled.splits["train"])}
