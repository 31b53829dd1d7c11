"""What makes training fast leaves its results alone: the loss of each step is that of plain transformers and torch."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from sentiment.models.classifier import load_classifier
from sentiment.models.masked_lm import load_masked_lm
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking
from sentiment.training.optimization import build_parameter_groups
from sentiment.training.trainer import SentimentTrainer

STEPS = 40
# Relative to the loss. In bf16 a sum over other rows is rounded elsewhere, and steps add up to more.
TOLERANCES = {False: 1e-4, True: 0.02}


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def rows(tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Forty texts of 3 to 20 tokens, and labels that can be learnt from them."""
    generator = random.Random(0)
    ids = [[generator.randrange(5, len(tokenizer)) for _ in range(generator.randint(1, 18))] for _ in range(40)]
    return Dataset.from_dict(
        {
            "input_ids": [[tokenizer.cls_token_id, *text, tokenizer.sep_token_id] for text in ids],
            "special_tokens_mask": [[1, *[0] * len(text), 1] for text in ids],
            "length": [len(text) + 2 for text in ids],
            "labels": [text[0] % 2 for text in ids],
        }
    )


def train(
    trainer_class: type[Trainer],
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    bf16: bool,
    **options: Any,
) -> list[float]:
    """The loss of each step."""
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        max_steps=STEPS,
        logging_steps=1,
        bf16=bf16,
        use_cpu=True,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = trainer_class(model=model, args=args, optimizers=(optimizer, None), **options)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def build_plain_optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    groups = build_parameter_groups(model, 1e-3, head_lr=None, layer_decay=1.0, weight_decay=0.01)
    return torch.optim.AdamW(groups, foreach=False, fused=False)


def build_fused_optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(build_parameter_groups(model, 1e-3, None, 1.0, 0.01), fused=True)


def check_losses(ours: list[float], plain: list[float], bf16: bool) -> None:
    assert len(ours) == len(plain) == STEPS
    assert ours == pytest.approx(plain, rel=TOLERANCES[bf16])
    assert sum(ours[-5:]) < 0.95 * sum(ours[:5])  # curves, and not a line


@pytest.mark.parametrize("bf16", [False, True])
def test_finetuning(
    tiny_bert: Path, tokenizer: PreTrainedTokenizerBase, rows: Dataset, bf16: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = load_classifier(str(tiny_bert))
    model.save_pretrained(tmp_path / "model")
    plain = BertForSequenceClassification.from_pretrained(tmp_path / "model")
    options: dict[str, Any] = {
        "folder": tmp_path,
        "bf16": bf16,
        "train_dataset": rows.remove_columns("special_tokens_mask"),
        "data_collator": DataCollatorWithPadding(tokenizer),
    }
    ours = train(SentimentTrainer, model, build_fused_optimizer(model), **options)
    check_losses(ours, train(Trainer, plain, build_plain_optimizer(plain), **options), bf16)


@pytest.mark.parametrize("bf16", [False, True])
def test_masked_language_modelling(
    tiny_bert: Path, tokenizer: PreTrainedTokenizerBase, rows: Dataset, bf16: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, _ = load_masked_lm(str(tiny_bert))
    model.save_pretrained(tmp_path / "model")
    plain = BertForMaskedLM.from_pretrained(tmp_path / "model")
    options: dict[str, Any] = {
        "folder": tmp_path,
        "bf16": bf16,
        "train_dataset": apply_static_masking(rows.remove_columns("labels"), tokenizer, 0.3, seed=0),
        "data_collator": SeededMaskingCollator(tokenizer, 0.3),
    }
    ours = train(SentimentTrainer, model, build_fused_optimizer(model), **options)
    check_losses(ours, train(Trainer, plain, build_plain_optimizer(plain), **options), bf16)
