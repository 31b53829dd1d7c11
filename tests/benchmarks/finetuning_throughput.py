"""Training throughput of this project against the lab report's way, on the same rows, in one run.

    python tests/benchmarks/finetuning_throughput.py --data_dir DIR

The lab's way: a plain loop, every text padded to 128 tokens, batches of 128 in random order, fp32, AdamW. Ours: the
sequence behind train_e2e.py, as a user runs it, one epoch for each batch size. The lab's steps are timed before,
between and after ours, since a machine's speed drifts; what counts is the ratio. Rates are examples (and real
tokens, without padding) a second in training, without evaluation and saving. A ratio below --goal ends with
exit code 1.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from sentiment.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.data.pretrained import find_pretrained
from sentiment.evaluation.terminal import render_table
from sentiment.finetuning import finetune
from sentiment.preparation import load_split_reviews

BATCH_SIZE = 128
MAX_LENGTH = 128


def time_lab_steps(model_path: str, texts: list[str], labels: list[int]) -> Iterator[float]:
    """Examples a second of each step of the lab's loop, a step for each `next`, the first step left out."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_path)
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(label)}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
    ]
    model = AutoModelForSequenceClassification.from_pretrained(model_path, num_labels=2, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    loader = DataLoader(rows, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    started = None
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        if started is not None:
            yield BATCH_SIZE / (time.perf_counter() - started)
        started = time.perf_counter()


def time_ours(model: str, data_args: DataArguments, batch_size: int, lr: float) -> dict[str, float]:
    """`resources` of one epoch of the project's own sequence."""
    with tempfile.TemporaryDirectory() as folder:
        args = FinetuningArguments(output_dir=f"{folder}/run", batch_size=batch_size, lr=lr, num_train_epochs=1)
        finetune("e2e", ModelArguments(model=model), data_args, args)
        return json.loads((Path(folder) / "run" / "metrics.json").read_text(encoding="utf-8"))["resources"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--dataset", default="sst2")
    parser.add_argument("--data_dir")
    parser.add_argument("--max_rows", default="10000")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[128, 32])
    parser.add_argument("--goal", type=float, default=15.0)
    options = parser.parse_args()

    data_args = DataArguments(dataset=options.dataset, data_dir=options.data_dir, max_rows=options.max_rows)
    train = load_split_reviews(data_args, seed=42).splits["train"]
    steps = time_lab_steps(find_pretrained(options.model), train["text"][:], train["label"][:])
    lab_rates = [next(steps)]
    ours = {}
    for batch_size in options.batch_sizes:
        ours[batch_size] = time_ours(options.model, data_args, batch_size, lr=1e-4)
        lab_rates.append(next(steps))
    lab = statistics.median(lab_rates)
    rows = [["way", "precision", "batch", "examples/s", "tokens/s", "times the lab's"]]
    rows.append(["lab report's", "fp32", str(BATCH_SIZE), f"{lab:.1f}", "", "1.0"])
    for batch_size, resources in ours.items():
        rate = resources["examples_per_second"]
        tokens = f"{resources['tokens_per_second']:,.0f}"
        rows.append(["ours", resources["precision"], str(batch_size), f"{rate:.1f}", tokens, f"{rate / lab:.1f}"])
    print(render_table(rows))
    print("lab's steps, examples/s:", ", ".join(f"{rate:.1f}" for rate in lab_rates))
    best = max(resources["examples_per_second"] for resources in ours.values()) / lab
    sys.exit(0 if best >= options.goal else f"goal missed: {best:.1f} is below {options.goal} times the lab's way")


if __name__ == "__main__":
    main()
