"""Masks: whose labels are the truth, drawn anew for training and once for validation."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentiment.training.batches import EpochTracker
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def texts(tokenizer: PreTrainedTokenizerBase) -> Dataset:
    words = ["the film is good and very funny", "a dull story", "the plot and the ending is great but not moving"]
    encoded = tokenizer(words * 50, return_special_tokens_mask=True, return_attention_mask=False)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    columns = {name: encoded[name] for name in ("input_ids", "special_tokens_mask")}
    return Dataset.from_dict(columns | {"length": lengths})


def collate(collator: SeededMaskingCollator, texts: Dataset) -> dict[str, torch.Tensor]:
    return collator([texts[position] for position in range(len(texts))])


def test_labels_are_the_true_tokens_at_masked_places_and_nothing_elsewhere(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Where labels equal the inputs at unmasked places, or masked inputs are the labels, a model learns to copy."""
    torch.manual_seed(0)
    batch = collate(SeededMaskingCollator(tokenizer, 0.15), texts)
    truth = tokenizer.pad({"input_ids": texts["input_ids"][:]}, return_tensors="pt")["input_ids"]
    is_target = batch["labels"] != -100
    assert torch.equal(batch["labels"][is_target], truth[is_target])
    assert torch.equal(batch["input_ids"][~is_target], truth[~is_target])
    shown = batch["input_ids"][is_target]
    assert (shown == tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.1)
    assert (shown == batch["labels"][is_target]).float().mean() < 0.25  # copying the input is seldom right
    special = torch.isin(truth, torch.tensor(tokenizer.all_special_ids))
    assert not (special & is_target).any()
    share = is_target.sum() / (~special).sum()
    assert share.item() == pytest.approx(0.15, abs=0.04)


def test_training_masks_are_drawn_anew_in_each_epoch_and_by_nothing_else(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    labels = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        tracker = EpochTracker()
        tracker.epoch = epoch
        collator = SeededMaskingCollator(tokenizer, 0.15, seed, tracker)
        torch.manual_seed(len(labels))
        if labels:
            collate(collator, texts.select(range(5)))
        labels.append(collate(collator, texts)["labels"])
    assert torch.equal(labels[0], labels[3])
    for other in labels[1:3]:
        assert 0.7 < float((labels[0] == other).float().mean()) < 0.9
    part = collate(SeededMaskingCollator(tokenizer, 0.15, 0), texts.select(range(5)))["labels"]
    assert not torch.equal(part, labels[0][:5, : part.shape[1]])  # other batches have other masks


def test_validation_masks_stay(texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    masked = apply_static_masking(texts, tokenizer, 0.15, seed=1)
    assert set(masked.column_names) == {"input_ids", "labels", "length"}
    assert masked["length"][:] == [len(ids) for ids in masked["input_ids"]] == [len(ids) for ids in masked["labels"]]
    collator = SeededMaskingCollator(tokenizer, 0.15)
    first, second = collate(collator, masked), collate(collator, masked)
    for name in first:
        assert torch.equal(first[name], second[name])
    assert (first["labels"] != -100).any()
    assert (first["labels"][first["attention_mask"] == 0] == -100).all()
    assert apply_static_masking(texts, tokenizer, 0.15, seed=1)["labels"][:] == masked["labels"][:]
    assert apply_static_masking(texts, tokenizer, 0.15, seed=2)["labels"][:] != masked["labels"][:]


def test_a_model_that_copies_its_input_has_a_high_loss(texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """The lab's loop had the masked ids as labels, and a loss near 0 for copying."""
    for batch in (
        collate(SeededMaskingCollator(tokenizer, 0.15), texts),
        collate(SeededMaskingCollator(tokenizer, 0.15), apply_static_masking(texts, tokenizer, 0.15, seed=1)),
    ):
        copied = torch.nn.functional.one_hot(batch["input_ids"], len(tokenizer)) * 10.0  # all but sure of its input
        loss = torch.nn.functional.cross_entropy(copied.flatten(0, 1), batch["labels"].flatten())
        assert loss > 5
        of_masked_ids = torch.nn.functional.cross_entropy(copied.flatten(0, 1), batch["input_ids"].flatten())
        assert of_masked_ids < 0.01


def test_a_batch_without_a_masked_token_is_drawn_again(tokenizer: PreTrainedTokenizerBase) -> None:
    # Two tokens that can be masked: at 15%, most first draws mask none, and the loss would be 0 or NaN.
    collator = SeededMaskingCollator(tokenizer, 0.15, seed=3)
    for number in range(30):
        ids = tokenizer(["good film", "bad film", "the plot"][number % 3])["input_ids"]
        (labels,) = collator([{"input_ids": [*ids, *ids[1:-1]] if number > 15 else ids}])["labels"]
        assert (labels != -100).any()
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    assert (collator([{"input_ids": special}])["labels"] == -100).all()  # nothing can be masked
