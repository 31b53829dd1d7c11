"""Views of texts: what is random depends on seed, epoch and text, and validation views on nothing else."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentiment.models.masked_lm import IGNORE_INDEX
from sentiment.training.batches import EpochTracker
from sentiment.training.masking import SeededMaskingCollator
from sentiment.training.views import (
    NEGATIVE,
    POSITIVE,
    ContrastiveCollator,
    JointCollator,
    LabelledCollator,
    add_static_views,
    compute_key,
)

TEXTS = ["the film is good and very funny", "a story", "the plot and the ending is great but not moving", "film"]
OTHERS = ("bad", "dull", "awful", "boring", "empty", "tired")


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.model_max_length = 12
    return tokenizer


@pytest.fixture
def rows(tokenizer: PreTrainedTokenizerBase) -> Dataset:
    encoded = tokenizer(TEXTS, return_special_tokens_mask=True, return_attention_mask=False)
    columns = {name: encoded[name] for name in ("input_ids", "special_tokens_mask")}
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict(columns | {"length": lengths, "text": TEXTS, "labels": [1, 0, 1, 0]})


def reverse(text: str, generator: np.random.Generator) -> str | None:
    """One of six words at random in place of "good" and "great"; other texts have no sentiment."""
    word = OTHERS[int(generator.integers(len(OTHERS)))]
    changed = text.replace("good", word).replace("great", word)
    return None if changed == text else changed


def test_a_batch_has_its_texts_their_keys_and_hard_negatives(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    batch = ContrastiveCollator(tokenizer, reverse, seed=1)(list(rows))
    assert batch["labels"].tolist() == [compute_key(row["input_ids"]) for row in rows]
    assert len(set(batch["labels"].tolist())) == len(TEXTS)
    assert batch["negative_rows"].tolist() == [0, 2]
    decoded = tokenizer.batch_decode(batch["negative_input_ids"], skip_special_tokens=True)
    assert decoded[0].startswith("the film is ")
    assert decoded[0].split()[3] in OTHERS
    assert batch["negative_attention_mask"].sum(1).tolist() == [9, 12]  # the second is truncated
    assert "positive_input_ids" not in batch
    assert set(ContrastiveCollator(tokenizer)(list(rows))) == {"input_ids", "attention_mask", "labels"}


def test_without_any_hard_negative_a_batch_says_so(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    batch = ContrastiveCollator(tokenizer, reverse)([rows[1], rows[3]])
    assert batch["negative_rows"].tolist() == []
    assert "negative_input_ids" not in batch


def test_hard_negatives_depend_on_seed_epoch_and_text_alone(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    tracker = EpochTracker()
    collator = ContrastiveCollator(tokenizer, reverse, 3, tracker)
    first = collator(list(rows))["negative_input_ids"][1]
    assert collator([rows[2]])["negative_input_ids"][0].tolist() == first.tolist()  # in another batch
    drawn = set()
    for tracker.epoch in range(8):
        drawn.add(tuple(collator([rows[2]])["negative_input_ids"][0].tolist()))
    assert len(drawn) > 2
    again = ContrastiveCollator(tokenizer, reverse, 3, EpochTracker())([rows[2]])["negative_input_ids"][0]
    assert again.tolist() == first.tolist()


def test_static_views_lack_tokens_and_come_with_their_rows(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    views = add_static_views(rows, tokenizer, reverse, seed=5)
    for row in views:
        length = row["length"]
        assert len(row[POSITIVE]) == length - (length > 3)
        assert (row[POSITIVE][0], row[POSITIVE][-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert [bool(ids) for ids in views[NEGATIVE]] == [True, False, True, False]
    reordered = add_static_views(rows.select([2, 0]), tokenizer, reverse, seed=5)
    assert reordered[0] == views[2]
    batch = ContrastiveCollator(tokenizer, reverse, seed=9)(list(views))
    assert batch["positive_input_ids"].shape == (4, max(len(ids) for ids in views[POSITIVE]))
    length = len(views[0][NEGATIVE])
    assert batch["negative_input_ids"][0, :length].tolist() == views[0][NEGATIVE]


def test_joint_batches_mask_one_pass_and_not_the_other(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    collator = JointCollator(ContrastiveCollator(tokenizer, reverse, 1), SeededMaskingCollator(tokenizer, 0.5, 1))
    batch = collator([{name: value for name, value in row.items() if name != "labels"} for row in rows])
    is_masked = batch["labels"] != IGNORE_INDEX
    assert 0 < int(is_masked.sum()) < int(batch["attention_mask"].sum())
    assert (batch["anchor_input_ids"][is_masked] == batch["labels"][is_masked]).all()
    assert (batch["anchor_input_ids"][~is_masked] == batch["input_ids"][~is_masked]).all()
    assert (batch["input_ids"] == tokenizer.mask_token_id).any()
    assert batch["text_keys"].tolist() == [compute_key(row["input_ids"]) for row in rows]
    static = [
        {"masked_input_ids": [1] * row["length"]} | row | {"labels": [IGNORE_INDEX] * row["length"]} for row in rows
    ]
    batch = collator(static)
    assert batch["input_ids"][0, 0] == 1
    assert (batch["labels"] == IGNORE_INDEX).all()
    assert batch["anchor_input_ids"][0, 0] == tokenizer.cls_token_id


def test_labelled_batches_have_classes(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    batch = LabelledCollator(tokenizer)(list(rows))
    assert batch["labels"].tolist() == [1, 0, 1, 0]
    assert batch["text_keys"].tolist() == [compute_key(row["input_ids"]) for row in rows]
