"""One way to train, measured in a process of its own for `training_speed.py`; prints one line of JSON.

    python tests/benchmarks/training_ways.py finetuning lab minilm --data_dir DIR --precision fp32 --steps 3

`lab`: the lab report's loop, every text padded to 128 tokens, batches of 128 (32 for masked-language modelling), a
score for each word at each position. `example`: what transformers' own run_glue.py and run_mlm.py do by default, with
the batch sizes of their READMEs: padding to 128, and texts joined to blocks of 512 tokens. `ours`: the sequences behind
train_e2e.py and train_mlm.py, their own `resources`. The first step of the others warms up and is not counted. In
`matrix_rate` nothing is trained: floating-point operations a second of the products of a layer, in bf16 and in fp32.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.data.sources import load_reviews
from sentiment.models.model_folder import resolve_model
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.training.hardware import measure_peak_memory

LENGTH = 128
BLOCK_LENGTH = 512
BATCH_SIZES = {"finetuning": {"lab": 128, "example": 32}, "mlm": {"lab": 32, "example": 8}}
TEXTS = 6_000  # as many as the longest measurement of the lab's and the examples' ways looks at
MATRIX_TOKENS = 1_715  # real tokens of 128 sentences of SST-2

Batch = dict[str, Any]


def read_texts(task: str, data_dir: str | None) -> dict[str, list[Any]]:
    """The first `TEXTS` reviews of SST-2 with labels, or of IMDB's unlabelled ones, as published."""
    if task == "finetuning":
        rows = load_reviews("sst2", data_dir)["train"].select(range(TEXTS))
        return {"text": rows["text"][:], "labels": rows["label"][:]}
    return {"text": load_reviews("imdb", data_dir)["unsupervised"].select(range(TEXTS // 4))["text"][:]}


def encode(texts: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, way: str) -> Dataset:
    """Rows of `input_ids`, `attention_mask` and, for fine-tuning, `labels`, all of one length."""
    if "labels" in texts or way == "lab":
        encoded = tokenizer(texts["text"], padding="max_length", truncation=True, max_length=LENGTH)
        columns = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        return Dataset.from_dict(columns | ({"labels": texts["labels"]} if "labels" in texts else {}))
    ids = list(itertools.chain(*tokenizer(texts["text"], verbose=False)["input_ids"]))
    blocks = [ids[start : start + BLOCK_LENGTH] for start in range(0, len(ids) - BLOCK_LENGTH + 1, BLOCK_LENGTH)]
    return Dataset.from_dict({"input_ids": blocks, "attention_mask": [[1] * BLOCK_LENGTH] * len(blocks)})


class Counter:
    """Counts what batches hold, and the seconds from the end of the first step to that of the last.

    The Trainer fetches a batch ahead of the step: as many are counted, and it is the next one each time.
    """

    def __init__(self) -> None:
        self.examples = self.positions = self.tokens = self.steps = 0
        self.started = self.ended = 0.0

    def count(self, batch: Batch) -> None:
        """Adds a batch that comes after the end of the first step, or is trained on after it."""
        if self.steps:
            self.examples += len(batch["input_ids"])
            self.positions += batch["input_ids"].numel()
            self.tokens += int(batch["attention_mask"].sum())

    def end_step(self) -> None:
        """Notes the time; that of the first step starts the clock."""
        self.ended = time.perf_counter()
        self.started = self.started or self.ended
        self.steps += 1

    def summarize(self) -> dict[str, float]:
        """Rates a second and the share of padding."""
        seconds = self.ended - self.started
        return {
            "examples_per_second": self.examples / seconds,
            "tokens_per_second": self.tokens / seconds,
            "padding_share": 1 - self.tokens / self.positions,
        }


def train_lab(
    model: PreTrainedModel, rows: Dataset, collate: Callable[..., Batch], options: argparse.Namespace
) -> dict[str, float]:
    """The lab's loop: random order, AdamW over all parameters, clipping, the loss read at each step."""
    counter = Counter()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    batch_size = BATCH_SIZES[options.task]["lab"]
    loader = DataLoader(rows, batch_size, shuffle=True, drop_last=True, collate_fn=collate)  # type: ignore[arg-type]
    for batch in itertools.islice(loader, options.steps + 1):
        counter.count(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        counter.end_step()
    return counter.summarize()


def train_example(
    model: PreTrainedModel, rows: Dataset, collate: Callable[..., Batch], options: argparse.Namespace
) -> dict[str, float]:
    """The `Trainer` with its own defaults."""
    counter = Counter()

    class StepTimer(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            counter.end_step()

    def collate_and_count(features: list[Batch]) -> Batch:
        batch = collate(features)
        counter.count(batch)
        return batch

    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZES[options.task]["example"],
            max_steps=options.steps + 1,
            bf16=options.precision == "bf16",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        Trainer(
            model=model, args=args, train_dataset=rows, data_collator=collate_and_count, callbacks=[StepTimer()]
        ).train()
    return counter.summarize()


def train_ours(options: argparse.Namespace) -> dict[str, float]:
    """`resources` of one epoch, or of a number of adaptation steps, through the sequences that users run."""
    model_args = ModelArguments(model_name_or_path=options.model)
    with tempfile.TemporaryDirectory() as folder:
        run: dict[str, Any] = {"output_dir": f"{folder}/run", "precision": options.precision, "learning_rate": 1e-4}
        if options.task == "finetuning":
            data_args = DataArguments(dataset_name="sst2", data_dir=options.data_dir, max_rows=str(options.rows))
            args = FinetuningArguments(batch_size=options.batch_size, num_train_epochs=1, **run)
            return FinetuningRun("e2e", model_args, data_args, args).execute()["resources"]
        corpus_args = CorpusArguments(
            dataset_name=["imdb"],
            data_dir=options.data_dir,
            max_rows=str(options.rows),
            target_dataset="none",
            validation_split_percentage=2,
        )
        length = {"max_steps": options.steps} if options.steps > 0 else {"num_train_epochs": 1}
        return AdaptationRun("mlm", model_args, corpus_args, AdaptationArguments(**length, **run)).execute()[
            "resources"
        ]


def measure_matrix_rates(model: str) -> dict[str, float]:
    """Operations a second of the six products of one of the model's layers, in each precision."""
    config = AutoConfig.from_pretrained(resolve_model(model))
    width, inner = config.hidden_size, config.intermediate_size
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    rates = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        products = [(torch.randn(MATRIX_TOKENS, n).to(dtype), torch.randn(m, n).to(dtype)) for n, m in shapes]
        seconds = list(itertools.islice(time_products(products), 15))[5:]
        operations = sum(2 * MATRIX_TOKENS * n * m for n, m in shapes)
        rates[name] = 10 * operations / sum(seconds)
    return rates


def time_products(products: list[tuple[torch.Tensor, torch.Tensor]], repeats: int = 5) -> Iterator[float]:
    """Mean seconds of one pass over the products, again and again."""
    while True:
        started = time.perf_counter()
        for _ in range(repeats):
            for inputs, weights in products:
                nn.functional.linear(inputs, weights)
        yield (time.perf_counter() - started) / repeats


def train(options: argparse.Namespace) -> dict[str, float]:
    """What the lab's or the example's way reaches."""
    path = resolve_model(options.model)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    is_mlm = options.task == "mlm"
    model_class: Any = AutoModelForMaskedLM if is_mlm else AutoModelForSequenceClassification
    model = model_class.from_pretrained(path, dtype=torch.float32)
    rows = encode(read_texts(options.task, options.data_dir), tokenizer, options.way)
    collate: Callable[..., Batch] = DataCollatorForLanguageModeling(tokenizer) if is_mlm else default_data_collator
    train_way = train_lab if options.way == "lab" else train_example
    return train_way(model, rows, collate, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["finetuning", "mlm"])
    parser.add_argument("way", choices=["lab", "example", "ours", "matrix_rate"])
    parser.add_argument("model")
    parser.add_argument("--data_dir")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--batch_size", type=int, default=128, help="of ours, in fine-tuning")
    parser.add_argument("--rows", type=int, default=10_000, help="reviews that ours reads")
    parser.add_argument("--steps", type=int, default=3, help="of adaptation by ours, -1: one epoch")
    options = parser.parse_args()

    torch.manual_seed(0)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what libraries print goes to where their warnings go
        if options.way == "matrix_rate":
            result = measure_matrix_rates(options.model)
        else:
            result = (train_ours if options.way == "ours" else train)(options)
            result["peak_memory_mb"] = measure_peak_memory()
        print(json.dumps(result), file=out)


if __name__ == "__main__":
    sys.exit(main())
