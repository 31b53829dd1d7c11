"""SetFit (Tunstall et al. 2022, arXiv:2209.11055) on the rows of `sentiment study`: test accuracy and seconds.

SetFit has an environment of its own, since it pins other versions. The rows are written in this project's:

    python tests/benchmarks/setfit_few_labels.py rows rows.json --data_dir DIR
    python -m venv setfit && setfit/bin/pip install setfit==1.2.0 torch==2.13.0
    OMP_NUM_THREADS=1 setfit/bin/python tests/benchmarks/setfit_few_labels.py train rows.json

`train` takes the 20 pairs of each kind for a text of the paper, and else the defaults of SetFit (one epoch, batches of
16, then a logistic regression on the normalised mean of up to 128 tokens). It prints a line for each budget and seed; a
finished one is in `rows.jsonl`, and is not repeated.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

SPLIT_SEED = 42  # of the packaged studies


def write_rows(path: Path, data_dir: str | None, budgets: list[int], seeds: list[int]) -> None:
    """Write the embedded model's folder, and the texts and labels of the test split and of training samples."""
    from sentiment.config.arguments import DataArguments
    from sentiment.data.assignment import sample_training_rows
    from sentiment.data.finetuning_data import load_split_reviews
    from sentiment.models.model_folder import resolve_model

    reviews = load_split_reviews(DataArguments(dataset_name="sst2", data_dir=data_dir, split_seed=SPLIT_SEED), seed=0)
    train, test = reviews.splits["train"], reviews.splits["test"]
    content: dict[str, Any] = {"model": str(resolve_model("minilm")), "test": [test["text"][:], test["label"][:]]}
    content["train"] = [
        {"budget": budget, "seed": seed, "text": rows["text"][:], "label": rows["label"][:]}
        for budget in budgets
        for seed in seeds
        for rows in [sample_training_rows(train, budget, seed)]
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
    path.with_suffix(".jsonl").unlink(missing_ok=True)  # results for other rows


def train(path: Path) -> None:
    """Train SetFit on each sample, and print its accuracy."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    content = json.loads(path.read_text(encoding="utf-8"))
    texts, labels = content["test"]
    record = path.with_suffix(".jsonl")
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    done = {(line["budget"], line["seed"]) for line in map(json.loads, lines)}
    for sample in content["train"]:
        if (sample["budget"], sample["seed"]) in done:
            continue
        start = time.perf_counter()
        encoder = models.Transformer(content["model"], max_seq_length=128)
        pooling = models.Pooling(encoder.get_word_embedding_dimension())
        body = SentenceTransformer(modules=[encoder, pooling, models.Normalize()], device="cpu")
        model = SetFitModel(model_body=body, model_head=LogisticRegression())  # as its from_pretrained
        args = TrainingArguments(num_iterations=20, seed=sample["seed"], report_to="none", save_strategy="no")
        rows = Dataset.from_dict({"text": sample["text"], "label": sample["label"]})
        Trainer(model=model, args=args, train_dataset=rows).train()
        seconds = time.perf_counter() - start
        predicted = [int(label) for label in model.predict(texts)]
        accuracy = sum(map(int.__eq__, predicted, labels)) / len(labels)
        line = {"budget": sample["budget"], "seed": sample["seed"], "accuracy": accuracy, "seconds": round(seconds, 1)}
        with record.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)


def main() -> None:
    """Write rows, or train on them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["rows", "train"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--data_dir")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    if options.step == "rows":
        write_rows(options.path, options.data_dir, options.budgets, options.seeds)
    else:
        train(options.path)


if __name__ == "__main__":
    main()
