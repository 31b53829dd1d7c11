"""A loss, gradient or weight that is not finite ends a training in its step, and the weights stay as they were."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from sentiment.exceptions import DivergenceError
from sentiment.training.trainer import SentimentTrainer

ROWS, BATCH = 20, 4
BAD_ROW = 13


class Overflow(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(_: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(_: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * math.inf


class Fragile(torch.nn.Module):
    """A model that one row is too much for."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.how = how

    def forward(self, row: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        loss = (self.weight * row).mean()
        if BAD_ROW in row.tolist() and self.training:
            loss = Overflow.apply(loss) if self.how == "gradient" else loss * float(self.how)
        return {"loss": loss}


def build_trainer(how: str, folder: Path, **options: Any) -> SentimentTrainer:
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        num_train_epochs=2,
        train_sampling_strategy="random",
        save_strategy="steps",
        save_steps=1,
        remove_unused_columns=False,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    model = Fragile(how)
    return SentimentTrainer(
        model=model,
        args=args,
        optimizers=(torch.optim.AdamW(model.parameters()), None),
        row_numbers=list(range(ROWS)),
        train_dataset=Dataset.from_dict({"row": list(range(ROWS))}),
        data_collator=lambda rows: {"row": torch.tensor([row["row"] for row in rows])},
    )


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_ends_before_the_weights_are_touched(how: str, accumulation: int, tmp_path: Path) -> None:
    trainer = build_trainer(how, tmp_path, gradient_accumulation_steps=accumulation)
    with pytest.raises(DivergenceError, match=r"training diverged: .*; lower --lr") as raised:
        trainer.train()
    details = raised.value.details
    assert details["step"] == trainer.state.global_step + 1
    assert BAD_ROW in details["rows"]
    assert len(details["rows"]) <= BATCH * accumulation
    assert trainer.model is not None
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    steps = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")]
    assert max(steps, default=0) == trainer.state.global_step  # each whole step is kept


def test_a_validation_loss_that_is_not_finite_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build_trainer("1", tmp_path)
    monkeypatch.setattr("transformers.Trainer.evaluate", lambda *_, **__: {"eval_loss": math.nan})
    with pytest.raises(DivergenceError, match="the validation loss is nan"):
        trainer.evaluate()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    trainer = build_trainer("1", tmp_path)
    assert trainer.model is not None
    trainer.model.weight.data.fill_(math.nan)
    with pytest.raises(DivergenceError, match="a weight is not finite"):
        trainer.save_model()
    assert not list(tmp_path.iterdir())
