"""The sparse MLM head: equal to transformers' dense one, at masked positions only, with the pooler kept."""

import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM, BertModel, PrinterCallback, Trainer, TrainingArguments

from sentiment.models.classifier import load_classifier
from sentiment.models.masked_lm import BertForSparseMaskedLM, load_masked_lm


@pytest.fixture
def model(tiny_bert: Path) -> BertForSparseMaskedLM:
    torch.manual_seed(2)
    return load_masked_lm(str(tiny_bert), {"cleaning": "light", "max_seq_length": 16})[0]


@pytest.fixture
def dense(model: BertForSparseMaskedLM) -> BertForMaskedLM:
    """Plain transformers with the same weights."""
    twin = BertForMaskedLM(model.config)
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert missing == []
    assert all("pooler" in name for name in unexpected)
    twin.tie_weights()
    return twin


@pytest.fixture
def batch(model: BertForSparseMaskedLM) -> dict[str, torch.Tensor]:
    """Four rows of 12 tokens, the last two padded; some tokens masked, and none of them in the second row."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.full((4, 12), -100)
    ids = torch.randint(5, model.config.vocab_size, (4, 12), generator=generator)
    attention = torch.ones_like(ids)
    attention[2:, 8:] = 0
    for row, column in ((0, 1), (0, 5), (2, 3), (3, 2), (3, 6)):
        labels[row, column] = ids[row, column]
        ids[row, column] = 4
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}


@pytest.mark.parametrize("is_training", [False, True])
def test_loss_and_gradients_are_those_of_the_dense_head(
    model: BertForSparseMaskedLM, dense: BertForMaskedLM, batch: dict[str, torch.Tensor], is_training: bool
) -> None:
    model.train(is_training)  # the tiny model has no dropout
    sparse_loss, dense_loss = model(**batch).loss, dense(**batch).loss
    assert sparse_loss.item() == pytest.approx(dense_loss.item(), rel=1e-6)
    sparse_loss.backward()
    dense_loss.backward()
    dense_parameters = dict(dense.named_parameters())
    compared = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert set(compared) == set(dense_parameters)
    for name, gradient in compared.items():
        torch.testing.assert_close(gradient, dense_parameters[name].grad, rtol=1e-4, atol=1e-7, msg=name)


def test_loss_is_divided_by_the_masked_tokens_of_the_optimizer_step(
    model: BertForSparseMaskedLM, batch: dict[str, torch.Tensor]
) -> None:
    model.eval()
    alone, shared = model(**batch).loss, model(**batch, num_items_in_batch=torch.tensor(10)).loss
    assert shared.item() == pytest.approx(alone.item() * 5 / 10)


def test_row_losses_add_up_to_the_loss(model: BertForSparseMaskedLM, batch: dict[str, torch.Tensor]) -> None:
    assert model.train()(**batch).row_losses is None
    output = model.eval()(**batch)
    assert output.row_masked.tolist() == [2, 0, 1, 2]
    assert output.row_losses[1] == 0
    assert (output.row_losses.sum() / 5).item() == pytest.approx(output.loss.item())
    scores = model(batch["input_ids"], batch["attention_mask"]).logits
    right = (scores.argmax(-1) == batch["labels"]).sum(1)
    assert output.row_correct.tolist() == right.tolist()


@pytest.mark.parametrize("count", [None, 0, torch.tensor(0)])
def test_batch_without_masked_tokens_has_a_loss_of_zero(
    model: BertForSparseMaskedLM, batch: dict[str, torch.Tensor], count: torch.Tensor | int | None
) -> None:
    batch["labels"][:] = -100
    loss = model(**batch, num_items_in_batch=count).loss
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_all_positions_are_scored_without_labels(
    model: BertForSparseMaskedLM, dense: BertForMaskedLM, batch: dict[str, torch.Tensor]
) -> None:
    del batch["labels"]
    torch.testing.assert_close(model.eval()(**batch).logits, dense.eval()(**batch).logits)


def test_checkpoint_is_plain_and_keeps_the_pooler(
    model: BertForSparseMaskedLM, dense: BertForMaskedLM, tiny_bert: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    base, plain = BertModel.from_pretrained(tiny_bert), BertForMaskedLM.from_pretrained(tmp_path)
    assert plain.config.architectures == ["BertForMaskedLM"]
    for name, parameter in dense.named_parameters():
        assert torch.equal(plain.get_parameter(name), parameter), name
    classifier = load_classifier(str(tmp_path))
    assert torch.equal(classifier.bert.pooler.dense.weight, base.pooler.dense.weight)
    assert load_masked_lm(str(tmp_path))[1] is False  # the checkpoint has the head


def test_new_head_is_tied_to_the_word_embeddings(tiny_bert: Path) -> None:
    model, has_new_head = load_masked_lm(str(tiny_bert))
    assert has_new_head
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert not any(parameter.requires_grad for parameter in model.bert.pooler.parameters())


def test_best_checkpoint_of_the_trainer_loads_without_a_warning(
    model: BertForSparseMaskedLM, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=1,
        save_steps=1,
        load_best_model_at_end=True,
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": [2, 4, 3], "labels": [-100, 5, -100]}] * 4
    trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    with caplog.at_level(logging.WARNING, logger="transformers"):
        trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    assert [record.getMessage() for record in caplog.records if "keys" in record.getMessage()] == []
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
