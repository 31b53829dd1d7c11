"""R-Drop and consistency: their values by hand, their gradients, and the loss of a step that has them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from sentiment.models.classifier import load_classifier
from sentiment.training.class_weights import build_weighted_loss
from sentiment.training.regularization import (
    Regularization,
    compute_consistency_loss,
    compute_rdrop_loss,
    stack_batches,
)
from sentiment.training.trainer import SentimentTrainer

BATCH = {
    "input_ids": torch.tensor([[2, 5, 6, 3], [2, 11, 17, 3]]),
    "attention_mask": torch.ones(2, 4, dtype=torch.long),
    "labels": torch.tensor([1, 0]),
}
UNLABELLED = {
    "unlabelled_input_ids": torch.tensor([[2, 7, 3], [2, 12, 3]]),
    "unlabelled_attention_mask": torch.ones(2, 3, dtype=torch.long),
    "augmented_input_ids": torch.tensor([[2, 8, 18, 9, 3], [2, 12, 3, 0, 0]]),
    "augmented_attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


def build_trainer(folder: Path, output: Path, **options: Any) -> SentimentTrainer:
    torch.manual_seed(0)
    regularization = Regularization(build_weighted_loss(options.pop("weights", [1.0, 1.0])), **options)
    trainer = SentimentTrainer(
        model=load_classifier(str(folder)),
        args=TrainingArguments(output_dir=str(output), use_cpu=True, report_to="none"),
        regularization=regularization,
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def test_rdrop_is_the_mean_of_both_divergences() -> None:
    first, second = [[1.0, -1.0, 0.5], [0.0, 2.0, 0.0]], [[0.5, 0.0, 0.0], [1.0, 1.0, -3.0]]
    expected = sum(
        (kl(softmax(a), softmax(b)) + kl(softmax(b), softmax(a))) / 2 for a, b in zip(first, second, strict=True)
    )
    found = compute_rdrop_loss(torch.tensor(first), torch.tensor(second), 4)
    assert found.item() == pytest.approx(expected / 4, rel=1e-5)
    assert compute_rdrop_loss(torch.tensor(second), torch.tensor(first), 4).item() == pytest.approx(found.item())


def test_consistency_sharpens_targets_and_leaves_out_uncertain_ones() -> None:
    targets, predicted = [[2.0, 0.0], [0.1, 0.0]], [[0.3, 0.1], [-1.0, 1.0]]
    expected = kl(softmax(targets[0], 0.4), softmax(predicted[0]))  # the second has a probability of 0.52
    found = compute_consistency_loss(torch.tensor(targets), torch.tensor(predicted), 2, temperature=0.4, threshold=0.8)
    assert found.item() == pytest.approx(expected / 2, rel=1e-5)


def test_batches_are_stacked_with_padding() -> None:
    long = {"input_ids": torch.tensor([[2, 4, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    short = {"input_ids": torch.tensor([[2, 3]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    stacked = stack_batches([long, short], pad_token_id=1)
    assert stacked["input_ids"].tolist() == [[2, 4, 3], [2, 3, 1]]
    assert stacked["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_the_loss_of_a_step_is_the_mean_of_both_passes_and_their_divergence(
    tiny_bert_with_dropout: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny_bert_with_dropout, tmp_path, rdrop_alpha=3.0)
    model: Any = trainer.model
    model.train()
    doubled = {name: torch.cat([values, values]) for name, values in BATCH.items() if name != "labels"}
    torch.manual_seed(1)
    logits = model(**doubled).logits
    assert not torch.equal(logits[:2], logits[2:])
    losses = torch.nn.functional.cross_entropy(logits, BATCH["labels"].repeat(2), reduction="none")
    expected = losses.mean() + 3.0 * compute_rdrop_loss(logits[:2], logits[2:], 2)
    torch.manual_seed(1)
    torch.testing.assert_close(trainer.compute_loss(model, dict(BATCH)), expected)
    torch.manual_seed(1)  # one micro-batch of two
    torch.testing.assert_close(trainer.compute_loss(model, dict(BATCH), num_items_in_batch=4), expected / 2)


def test_without_dropout_rdrop_is_plain_training(tiny_bert: Path, tmp_path: Path) -> None:
    """Both passes are equal: loss and gradients are those of one, with class weights and adversarial training."""
    gradients = []
    for options in ({}, {"rdrop_alpha": 2.0}):
        trainer = build_trainer(tiny_bert, tmp_path, weights=[0.5, 1.5], **options)
        trainer.adversarial_epsilon = 0.5
        model: Any = trainer.model
        loss = trainer.training_step(model, dict(BATCH), 2)
        gradients.append([loss, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_consistency_adds_the_divergence_of_the_views_and_no_gradient_of_the_targets(
    tiny_bert: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny_bert, tmp_path, consistency_weight=2.0, threshold=0.0, temperature=0.5)
    model: Any = trainer.model
    model.train()
    found = trainer.compute_loss(model, {**BATCH, **UNLABELLED})
    found.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    own = model(**{name: values for name, values in BATCH.items() if name != "labels"}).logits
    with torch.no_grad():
        targets = model(UNLABELLED["unlabelled_input_ids"], UNLABELLED["unlabelled_attention_mask"]).logits
    predicted = model(UNLABELLED["augmented_input_ids"], UNLABELLED["augmented_attention_mask"]).logits
    divergence = compute_consistency_loss(targets, predicted, 2, temperature=0.5, threshold=0.0)
    expected = torch.nn.functional.cross_entropy(own, BATCH["labels"]) + 2.0 * divergence
    assert divergence > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    expected.backward()
    for one, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-5)


def test_evaluations_have_the_plain_loss(tiny_bert_with_dropout: Path, tmp_path: Path) -> None:
    trainer = build_trainer(tiny_bert_with_dropout, tmp_path, rdrop_alpha=3.0)
    model: Any = trainer.model
    model.eval()
    logits = model(**{name: values for name, values in BATCH.items() if name != "labels"}).logits
    expected = torch.nn.functional.cross_entropy(logits, BATCH["labels"])
    torch.testing.assert_close(trainer.compute_loss(model, dict(BATCH)), expected)
