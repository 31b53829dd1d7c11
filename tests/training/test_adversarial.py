"""Adversarial training: two passes, the second with perturbed embeddings, which are restored."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from sentiment.models.classifier import load_classifier
from sentiment.training.trainer import SentimentTrainer

BATCH = {
    "input_ids": torch.tensor([[2, 5, 6, 3], [2, 11, 17, 3]]),
    "attention_mask": torch.ones(2, 4, dtype=torch.long),
    "labels": torch.tensor([1, 0]),
}


@pytest.fixture
def trainer(tiny_bert: Path, tmp_path: Path) -> SentimentTrainer:
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    torch.manual_seed(0)
    trainer = SentimentTrainer(model=load_classifier(str(tiny_bert)), args=args)
    trainer.current_gradient_accumulation_steps = 1  # set by the loop that a step is a part of
    return trainer


def step(trainer: SentimentTrainer, epsilon: float) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one batch."""
    model: Any = trainer.model
    model.zero_grad()
    trainer.adversarial_epsilon = epsilon
    loss = trainer.training_step(model, dict(BATCH))
    return loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_gradients_are_those_of_the_batch_and_of_the_perturbed_batch(trainer: SentimentTrainer) -> None:
    model: Any = trainer.model
    words = model.bert.embeddings.word_embeddings.weight
    before = words.detach().clone()
    plain_loss, plain = step(trainer, 0.0)
    gradient = plain["bert.embeddings.word_embeddings.weight"]
    loss, summed = step(trainer, 0.5)
    assert loss == plain_loss
    assert torch.equal(words.detach(), before)
    words.data += 0.5 * gradient / gradient.norm()
    moved_loss, moved = step(trainer, 0.0)
    assert moved_loss > plain_loss
    for name, both in summed.items():
        torch.testing.assert_close(both, plain[name] + moved[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_gradient_that_is_not_finite_perturbs_nothing(trainer: SentimentTrainer) -> None:
    model: Any = trainer.model
    words = model.bert.embeddings.word_embeddings.weight
    before = words.detach().clone()
    words.register_hook(lambda gradient: gradient * float("inf"))
    step(trainer, 0.5)
    assert torch.equal(words.detach(), before)


def test_the_perturbation_follows_this_micro_batch_alone(trainer: SentimentTrainer) -> None:
    """With gradient accumulation, `embeddings.grad` holds the gradients of earlier micro-batches too."""
    model: Any = trainer.model
    _, expected = step(trainer, 0.5)
    earlier = {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = earlier[name].clone()
    trainer.training_step(model, dict(BATCH))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad - earlier[name], expected[name], rtol=1e-3, atol=1e-5, msg=name)
