"""Time of cleaning and tokenizing SST-2's 67,349 training texts and IMDB's 50,000 unlabelled reviews.

    python tests/benchmarks/data_preparation.py --data_dir DIR

- lab: the lab report's code, one text at a time, cleaned by its regular expressions and padded to 128 tokens, for every
  `--stride`-th text, extrapolated to all.
- maps: the maps that clean and tokenize, in batches on all cores, whole reviews.
- run: all that a run does: it also finds equal texts and test texts, splits, and chunks long reviews; a second run
  finds the results of the first in the cache.

Maps and runs are timed in processes of their own, with a new cache. Loading of files and libraries is not included.
Goals: maps 5 times as fast as the lab's code, and a run's data from the cache in 5 s; exit code 1 if one is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import CorpusArguments, DataArguments
from sentiment.data.adaptation_data import load_training_corpus
from sentiment.data.caching import map_batches
from sentiment.data.cleaning import clean_classic
from sentiment.data.corpus import hash_batch
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.sources import load_reviews
from sentiment.data.splits import clean_batch
from sentiment.data.tokenization import encode_dataset, tokenize_long_texts, tokenize_reviews
from sentiment.models.loading import load_tokenizer
from sentiment.models.model_folder import resolve_model
from sentiment.reporting.terminal import render_table

MAX_LENGTH = 128
GOALS = {"speed": 5.0, "cached": 5.0}


def load_columns(data_dir: str | None) -> dict[str, Dataset]:
    """The published texts, which are in the cache afterwards."""
    reviews = {
        "sst2": load_reviews("sst2", data_dir)["train"],
        "imdb": load_reviews("imdb", data_dir, with_labels=False)["unsupervised"],
    }
    return {name: part.select_columns(["text"]) for name, part in reviews.items()}


def time_lab(texts: list[str], tokenizer: PreTrainedTokenizerBase, stride: int) -> float:
    """Seconds for all texts, from every `stride`-th."""
    sample = texts[::stride]
    started = time.perf_counter()
    for text in sample:
        tokenizer(
            clean_classic(text), padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
    return (time.perf_counter() - started) * len(texts) / len(sample)


def time_maps(data_dir: str | None) -> dict[str, float]:
    """Seconds of the maps of a run, by dataset."""
    tokenizer = load_tokenizer(resolve_model("minilm"), MAX_LENGTH)
    seconds = {}
    for name, texts in load_columns(data_dir).items():
        started = time.perf_counter()
        cleaned = map_batches(texts, clean_batch if name == "sst2" else hash_batch, fn_kwargs={"cleaning": "light"})
        encode_dataset(cleaned, tokenizer)
        seconds[name] = time.perf_counter() - started
    return seconds


def time_run(data_dir: str | None) -> dict[str, float]:
    """Seconds of the data preparation of a run, by dataset."""
    tokenizer = load_tokenizer(resolve_model("minilm"), MAX_LENGTH)
    load_columns(data_dir)
    seconds = {}
    started = time.perf_counter()
    reviews = load_split_reviews(DataArguments(dataset_name="sst2", data_dir=data_dir, max_rows="all"), seed=42)
    tokenize_reviews(reviews.splits, tokenizer, MAX_LENGTH)
    seconds["sst2"] = time.perf_counter() - started
    started = time.perf_counter()
    corpus_args = CorpusArguments(data_dir=data_dir, max_rows="all", target_dataset="none")
    corpus = load_training_corpus(corpus_args, seed=42)
    tokenize_long_texts(corpus.splits, tokenizer, MAX_LENGTH, corpus_args.long_texts)
    seconds["imdb"] = time.perf_counter() - started
    return seconds


def measure(task: str, data_dir: str | None, cache: str) -> dict[str, float]:
    """`time_maps` or `time_run` in a process with this cache folder."""
    command = [sys.executable, __file__, "--task", task] + (["--data_dir", data_dir] if data_dir else [])
    environment = os.environ | {"HF_DATASETS_CACHE": cache, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir")
    parser.add_argument("--stride", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=("maps", "run"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps((time_maps if options.task == "maps" else time_run)(options.data_dir)))
        return

    tokenizer = load_tokenizer(resolve_model("minilm"), MAX_LENGTH)
    texts = {name: part["text"][:] for name, part in load_columns(options.data_dir).items()}
    found: dict[str, list[dict[str, float]]] = {task: [] for task in ("lab", "maps", "run", "run, cached")}
    for _ in range(options.rounds):
        found["lab"].append({name: time_lab(part, tokenizer, options.stride) for name, part in texts.items()})
        for task, times in (("maps", 1), ("run", 2)):
            with tempfile.TemporaryDirectory() as cache:
                for name in (task, f"{task}, cached")[:times]:
                    found[name].append(measure(task, options.data_dir, cache))
    seconds = {
        task: [statistics.median(result[name] for result in results) for name in texts]
        for task, results in found.items()
    }
    rows = [["task", *(f"{name}, s" for name in texts), "both, s", "times the lab's speed"]]
    for task, parts in seconds.items():
        speed = sum(seconds["lab"]) / sum(parts)
        rows.append([task, *(f"{part:.1f}" for part in parts), f"{sum(parts):.1f}", f"{speed:.1f}"])
    print(render_table(rows))
    speed, cached = sum(seconds["lab"]) / sum(seconds["maps"]), sum(seconds["run, cached"])
    missed = []
    if speed < GOALS["speed"]:
        missed.append(f"{speed:.1f} times the lab's speed, goal {GOALS['speed']}")
    if cached >= GOALS["cached"]:
        missed.append(f"{cached:.1f} s from the cache, goal {GOALS['cached']}")
    sys.exit(f"goal missed: {'; '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
