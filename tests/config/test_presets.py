"""Defaults that depend on the data: what they are, and that given options win."""

from typing import Any

import pytest

from sentiment.config.arguments import CorpusArguments, DataArguments, FinetuningArguments
from sentiment.config.presets import apply_lab_values, choose_training_size


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"dataset_name": "imdb"}, 10_000),
        ({"dataset_name": "stanfordnlp/sst2"}, 10_000),
        ({"dataset_name": "imdb", "max_rows": "all"}, None),
        ({"dataset_name": "imdb", "max_rows": "12_000"}, 12_000),
        ({"dataset_name": "reviews.csv"}, None),
        ({"dataset_name": "snippets"}, None),
        ({"dataset_name": "reviews.csv", "preset": "lab"}, 10_000),
        ({"dataset_name": "reviews.csv", "preset": "lab", "max_rows": "all"}, None),
        ({"train_file": "reviews.csv"}, None),
    ],
)
def test_own_data_is_used_whole(options: dict[str, Any], limit: int | None) -> None:
    assert DataArguments(**options).row_limit == limit


@pytest.mark.parametrize(
    ("names", "limit"), [(["imdb"], 10_000), (["imdb", "sst2"], 10_000), (["imdb", "a.txt"], None)]
)
def test_a_corpus_with_own_data_is_used_whole(names: list[str], limit: int | None) -> None:
    assert CorpusArguments(dataset_name=names).row_limit == limit


def apply(data: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    args = FinetuningArguments(**options)
    apply_lab_values(DataArguments(**data), args)
    return args.global_batch_size, args.num_train_epochs


def test_values_of_the_lab_are_for_its_datasets_and_for_the_preset() -> None:
    assert apply({}) == (128, 20)
    assert apply({"dataset_name": "reviews.csv", "preset": "lab"}) == (128, 20)
    assert apply({"dataset_name": "reviews.csv"}) == (None, None)
    assert apply({}, batch_size=8) == (8, 20)
    assert apply({}, per_device_train_batch_size=4, num_train_epochs=2) == (4, 2)


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [
        (20, 16, 20),
        (200, 16, 20),
        (201, 16, 10),
        (1_000, 16, 10),
        (1_001, 32, 6),
        (8_000, 32, 4),
        (20_001, 32, 3),
        (10**7, 32, 3),
    ],
)
def test_training_size_follows_the_rows(rows: int, batch_size: int, epochs: int) -> None:
    args = FinetuningArguments()
    assert choose_training_size(args, rows) == {"batch_size": batch_size, "num_train_epochs": epochs}
    assert (args.global_batch_size, args.num_train_epochs) == (batch_size, epochs)
    assert args.build_trainer_arguments().train_batch_size == batch_size


def test_training_size_keeps_what_is_given() -> None:
    args = FinetuningArguments(batch_size=128)
    assert choose_training_size(args, 1_200) == {"num_train_epochs": 6}
    args = FinetuningArguments(num_train_epochs=1, gradient_accumulation_steps=3)
    assert choose_training_size(args, 1_200) == {"batch_size": 33}  # divisible by the micro-batches
    assert choose_training_size(args, 1_200) == {}
