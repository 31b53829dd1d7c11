"""Self-training: a model labels unlabelled reviews, and the start model is trained once more with the confident ones.

Shi et al. 2023 (arXiv:2305.13002) compare it with adaptation, which is mostly better.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import DataArguments, FinetuningArguments
from sentiment.data.corpus import Corpus
from sentiment.data.finetuning_data import RunData
from sentiment.data.tokenization import tokenize_reviews
from sentiment.environment import is_main_process
from sentiment.evaluation.abstention import choose_threshold
from sentiment.inference.backends import predict_probabilities
from sentiment.models.classifier import load_trained_classifier
from sentiment.storage import read_json

TEACHER_FOLDER = "teacher"  # in the folder of the run
POOL_FACTOR = 5  # reviews that the teacher labels, at most, for one that is added
NO_ROW = -1  # the row number of a review that is of no labelled file
# Of a run, replaced in that of its teacher.
TEACHER_OPTIONS: dict[str, Any] = {
    "self_training": False,
    "baselines": False,
    "keep_checkpoints": False,
    "push_to_hub": False,
    "resume_from_checkpoint": None,
}


def build_teacher_options(args: FinetuningArguments, options: dict[str, Any]) -> dict[str, Any]:
    """The options of the first model, from those of a run; unlabelled reviews are for consistency training only."""
    return (
        options
        | TEACHER_OPTIONS
        | {
            "output_dir": str(Path(args.output_dir) / TEACHER_FOLDER),
            "resume": not args.overwrite,
            "overwrite": args.overwrite,
            "unlabelled_dataset": args.unlabelled_dataset if args.consistency_weight else None,
        }
    )


def label_reviews(
    args: FinetuningArguments,
    data_args: DataArguments,
    data: RunData,
    unlabelled: Corpus,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Dataset, dict[str, Any]]:
    """Unlabelled reviews with the teacher's labels, as rows of the training split, and how they were chosen.

    Those are candidates whose score is at least the lowest above which the teacher's answers on the validation split
    reach `self_training_accuracy`, which is 0 if all of its answers do. Of them, as many of each class are drawn as its
    share of the labelled training rows allows, up to `self_training_rows` in all. No review is added if no threshold
    reaches that accuracy.
    """
    start, teacher = time.perf_counter(), Path(args.output_dir) / TEACHER_FOLDER
    model = load_trained_classifier(str(teacher / "model"), args.device)
    generator = np.random.default_rng(args.seed)
    texts = unlabelled.splits["train"]["text"]
    drawn = np.sort(generator.permutation(len(texts))[: POOL_FACTOR * args.self_training_rows])
    train = data.splits["train"]
    rows = {"text": [texts[int(place)] for place in drawn], "label": [0] * len(drawn), "row": [NO_ROW] * len(drawn)}
    pool = Dataset.from_dict(rows, features=train.select_columns(list(rows)).features)
    tokenized = tokenize(pool, tokenizer, data_args)
    validation = data.tokenized["validation"]
    pad = tokenizer.pad_token_id
    checked = predict_probabilities(model, validation["input_ids"][:], pad)
    correct = checked.argmax(axis=1) == np.asarray(validation["labels"][:])
    threshold = choose_threshold(checked.max(axis=1), correct, args.self_training_accuracy)
    if correct.mean() >= args.self_training_accuracy:
        threshold = 0.0
    answers = predict_probabilities(model, tokenized["input_ids"][:], pad)
    predicted, confident = answers.argmax(axis=1), answers.max(axis=1) >= (2.0 if threshold is None else threshold)
    shares = np.bincount(train["label"][:], minlength=answers.shape[1]) / len(train)
    counts = share_out(np.bincount(predicted[confident], minlength=len(shares)), shares, args.self_training_rows)
    chosen = [
        generator.choice(np.flatnonzero(confident & (predicted == label)), count, replace=False)
        for label, count in enumerate(counts)
    ]
    places = np.sort(np.concatenate(chosen)).astype(int)
    kept = {"text": pool[places]["text"], "label": predicted[places].tolist(), "row": [NO_ROW] * len(places)}
    summary = {
        "threshold": threshold,
        "labelled_by_teacher": len(pool),
        "confident": int(confident.sum()),
        "added": dict(zip(train.features["label"].names, map(int, counts), strict=True)),
        "seconds": read_json(teacher / "metrics.json")["resources"]["train_seconds"] + time.perf_counter() - start,
    }
    print_added(summary)
    return Dataset.from_dict(kept, features=pool.features), summary


def tokenize(rows: Dataset, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments) -> Dataset:
    """Rows tokenized as those of the other splits."""
    splits = DatasetDict({"train": rows})
    workers = data_args.preprocessing_num_workers
    return tokenize_reviews(splits, tokenizer, data_args.max_seq_length, workers, data_args.truncation)["train"]


def share_out(available: np.ndarray, shares: np.ndarray, limit: int) -> np.ndarray:
    """How many of each class, in proportion to the shares: as many as there are, and at most `limit` in all.

    >>> share_out(np.array([100, 10]), np.array([0.5, 0.5]), 50)
    array([10, 10])
    >>> share_out(np.array([90, 10]), np.array([0.8, 0.2]), 99)
    array([40, 10])
    """
    present = shares > 0
    largest = min(float((available[present] / shares[present]).min()), limit)
    return np.floor(largest * shares + 1e-9).astype(int)


def add_reviews(data: RunData, added: Dataset, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments) -> RunData:
    """The data with these rows in the training split; the other splits are the same."""
    if not len(added):
        return data
    train = data.splits["train"].select_columns(added.column_names)
    columns = data.tokenized["train"].column_names
    tokenized = tokenize(added, tokenizer, data_args).select_columns(columns).cast(data.tokenized["train"].features)
    return replace(
        data,
        splits=DatasetDict(data.splits | {"train": concatenate_datasets([train, added])}),
        tokenized=DatasetDict(data.tokenized | {"train": concatenate_datasets([data.tokenized["train"], tokenized])}),
    )


def print_added(summary: dict[str, Any]) -> None:
    """Prints how many reviews were added."""
    if not is_main_process():
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in summary["added"].items())
    chosen = f"of {summary['labelled_by_teacher']:,} unlabelled reviews, {summary['confident']:,} are confident"
    if summary["threshold"] is None:
        chosen = "no score of the teacher reaches --self_training_accuracy on the validation split"
    print(f"self-training: {chosen}; added: {counts}", file=sys.stderr)
