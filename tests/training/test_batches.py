"""The order of training: whole epochs, each its own, whatever else draws random numbers, and the same when resumed."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainingArguments

from sentiment.training.batches import EpochSampler, EpochTracker, balance_batches, build_generator
from sentiment.training.trainer import SentimentTrainer

ROWS = 20
STEPS = 5  # in an epoch


class Recorder(torch.nn.Module):
    """Keeps the rows that it is trained on, and uses random numbers as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows: list[list[int]] = []

    def forward(self, row: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        self.rows.append(row.tolist())
        torch.rand(len(self.rows))
        return {"loss": (self.weight * row).sum()}


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def train(strategy: str, folder: Path, seed: int = 0, stop_at: int = 0, resume: bool = False) -> list[list[int]]:
    """The rows of each step."""
    lengths = [1 + row % 7 for row in range(ROWS)]
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=ROWS // STEPS,
        num_train_epochs=3,
        train_sampling_strategy=strategy,
        save_strategy="steps",
        save_steps=1,
        seed=seed,
        remove_unused_columns=False,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    model = Recorder()
    trainer = SentimentTrainer(
        model=model,
        args=args,
        optimizers=(torch.optim.AdamW(model.parameters()), None),
        train_dataset=Dataset.from_dict({"row": list(range(ROWS)), "length": lengths}),
        data_collator=lambda rows: {"row": torch.tensor([row["row"] for row in rows])},
        callbacks=[StopAt(stop_at)],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model.rows


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_each_epoch_has_every_row_in_an_order_of_its_own(strategy: str, tmp_path: Path) -> None:
    rows = train(strategy, tmp_path / "0")
    epochs = [list(chain(*rows[start : start + STEPS])) for start in range(0, 3 * STEPS, STEPS)]
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert train(strategy, tmp_path / "1", seed=1) != rows
    if strategy == "group_by_length":
        assert all(len({row % 7 for row in batch}) <= 3 for batch in rows)


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
@pytest.mark.parametrize("stop_at", [1, STEPS - 1, STEPS, STEPS + 2])
def test_a_training_goes_on_where_it_was_cut_off(strategy: str, stop_at: int, tmp_path: Path) -> None:
    whole = train(strategy, tmp_path / "whole")
    begun = train(strategy, tmp_path / "cut", stop_at=stop_at)
    assert begun + train(strategy, tmp_path / "cut", resume=True) == whole


def test_the_order_is_that_of_seed_and_epoch() -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        tracker = EpochTracker()
        sampler = EpochSampler([1] * 9, "random", 3, seed, tracker)
        assert len(sampler) == 9
        tracker.epoch = epoch
        return list(sampler)

    assert draw(1, 0) == draw(1, 0)
    assert len({tuple(draw(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize(("counts", "batch_size"), [((50, 50), 16), ((90, 10), 8), ((7, 40, 13), 12), ((30, 31), 7)])
def test_balanced_batches_have_as_many_rows_of_each_class(counts: tuple[int, ...], batch_size: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    order = balance_batches(labels, batch_size, build_generator(1))
    assert len(order) == len(labels)
    for start in range(0, len(order), batch_size):
        batch = [labels[row] for row in order[start : start + batch_size]]
        shares = [batch.count(label) for label in range(len(counts))]
        assert max(shares) - min(shares) <= 1
    for label, count in enumerate(counts):  # no row comes twice before each has come once
        own = [row for row in order if labels[row] == label]
        assert len(set(own[:count])) == min(count, len(own))
    assert order == balance_batches(labels, batch_size, build_generator(1))
    assert order != balance_batches(labels, batch_size, build_generator(2))


def test_with_many_classes_a_batch_has_two_rows_of_some() -> None:
    labels = [row % 30 for row in range(600)]
    order = balance_batches(labels, 16, build_generator(0))
    seen = []
    for start in range(0, 592, 16):
        batch = [labels[row] for row in order[start : start + 16]]
        assert {batch.count(label) for label in batch} == {2}
        seen += batch
    assert min(seen.count(label) for label in range(30)) >= 16  # all classes come about equally often
