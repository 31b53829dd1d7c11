"""What labelling the reviews of `sentiment suggest` is worth against random ones, by simulation on SST-2.

    python tests/benchmarks/suggestion_curve.py --data_dir DIR --output_dir DIR

The pool is SST-2's training sentences (texts that are part of no other) but 2,000, which are for testing, as is the
published validation split. Each seed starts with 100 random labels, and adds 100 five times: those that the model
suggests, or random ones. MiniLM is trained anew each time with the options that the tool chooses by the number of
rows; a tenth of the labels is for validation. A finished training is a line of `trainings.jsonl`, and is not repeated.
The table has mean accuracies and their difference, with a 95% interval for other seeds and test rows.
"""

import argparse
import csv
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentiment import finetune
from sentiment.data.corpus import compute_corpus_key
from sentiment.data.leaks import find_containers
from sentiment.data.sources import load_reviews
from sentiment.evaluation.study_effects import compare_arms
from sentiment.inference.suggestion import suggest_reviews
from sentiment.runs.results import read_predictions

START, STEP, STEPS = 100, 100, 5
HELD_OUT = 2_000
Row = tuple[str, Any]


def read_sentences(data_dir: str | None) -> tuple[list[Row], list[Row]]:
    """The sentences of the pool and of the test, each with its label."""
    reviews = load_reviews("sst2", data_dir)
    names = reviews["train"].features["label"].names
    splits = {
        split: [(row["text"], names[row["label"]]) for row in reviews[split]] for split in ("train", "validation")
    }
    by_key = {compute_corpus_key(text): (text, label) for text, label in splits["train"]}
    keys = [*filter(None, by_key)]
    contained = find_containers(keys)
    sentences = [by_key[key] for key in keys if key not in contained]
    order = np.random.default_rng(0).permutation(len(sentences))
    shuffled = [sentences[place] for place in order]
    return shuffled[HELD_OUT:], splits["validation"] + shuffled[:HELD_OUT]


def write_rows(path: Path, rows: Iterable[Row]) -> str:
    """Write a CSV file with the columns `text` and `label`; returns its path."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return str(path)


class Simulation:
    """Trainings on rows of a pool, each done once."""

    def __init__(self, folder: Path, pool: Sequence[Row], test: Sequence[Row]):
        self.folder, self.pool = folder, pool
        folder.mkdir(parents=True, exist_ok=True)
        self.record = folder / "trainings.jsonl"
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.done = {(line["arm"], line["seed"], line["size"]): line for line in map(json.loads, lines)}
        self.unlabelled = write_rows(folder / "pool.csv", [(text, "") for text, _ in pool])
        self.test = write_rows(folder / "test.csv", test)

    def train(self, arm: str, seed: int, rows: Sequence[int]) -> dict[str, Any]:
        """The line of a training on these rows of the pool, with the rows that its model suggests next."""
        key = (arm, seed, len(rows))
        if key in self.done:
            return self.done[key]
        started, run = time.perf_counter(), self.folder / "run"
        metrics = finetune(
            model_name_or_path="minilm",
            train_file=write_rows(self.folder / "train.csv", [self.pool[row] for row in rows]),
            test_file=self.test,
            output_dir=run,
            overwrite=True,
            baselines=False,
            seed=seed,
        )
        predictions = read_predictions(run / "predictions.parquet")
        correct = np.equal(predictions["label"], predictions["predicted"]).astype(int)
        trained = time.perf_counter() - started
        suggested = [] if arm == "random" else suggest_reviews(str(run), self.unlabelled, STEP, seed).records
        line = {
            "arm": arm,
            "seed": seed,
            "size": len(rows),
            "accuracy": metrics["test"]["after"]["accuracy"],
            "rows": list(rows),
            "next": [record["row"] - 1 for record in suggested],
            "correct": "".join(map(str, correct)),
            "train_seconds": round(trained, 1),
            "suggest_seconds": round(time.perf_counter() - started - trained, 1),
        }
        with self.record.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        shutil.rmtree(run)
        self.done[key] = line
        print(
            *(f"{name} {value}" for name, value in line.items() if name not in ("rows", "next", "correct")), flush=True
        )
        return line


def render_curve(done: dict[tuple[str, int, int], dict[str, Any]], seeds: Sequence[int]) -> str:
    """Accuracy by number of labels, as a Markdown table."""
    lines = ["| labels | random | suggested | difference, points (95% interval) | by seed |", "|--:|--:|--:|--:|--:|"]
    for size in range(START, START + STEP * STEPS + 1, STEP):
        arms = ("start", "start") if size == START else ("random", "suggest")
        correct = [np.array([[*map(int, done[arm, seed, size]["correct"])] for seed in seeds]) for arm in arms]
        found = compare_arms(*correct)
        low, high = found["ci95"]
        by_seed = ", ".join(f"{100 * value:+.1f}" for value in found["per_seed"])
        cells = [f"{size}", *(f"{right.mean():.4f}" for right in correct)]
        cells += (
            ["", ""]
            if size == START
            else [f"{100 * found['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})", by_seed]
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the missing trainings, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/suggestion_curve"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    options = parser.parse_args()

    pool, test = read_sentences(options.data_dir)
    simulation = Simulation(options.output_dir, pool, test)
    print(f"{len(pool):,} sentences in the pool, {len(test):,} for testing", flush=True)
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(len(pool)).tolist()
        for arm in ("suggest", "random"):
            rows = order[:START]
            found = simulation.train("start", seed, rows)
            for size in range(START, START + STEP * STEPS, STEP):
                rows = rows + (found["next"] if arm == "suggest" else order[size : size + STEP])
                found = simulation.train(arm, seed, rows)
    print(render_curve(simulation.done, options.seeds))


if __name__ == "__main__":
    main()
