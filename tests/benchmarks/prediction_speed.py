"""Texts per second that a run's model labels, in fp32 on one thread, by `--max_seq_length` and `--truncation`.

The texts are the first of the run's predictions.parquet; cleaning and tokenizing are included.

OMP_NUM_THREADS=1 python tests/benchmarks/prediction_speed.py RUN --tokens 128 256 512
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from sentiment.config.data_arguments import TRUNCATIONS
from sentiment.inference.predictor import Predictor
from sentiment.runs.results import read_predictions


def main() -> None:
    """Prints a line for each combination: the best of the rounds, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    texts = read_predictions(args.run / "predictions.parquet")["text"][: args.texts]
    predictor = Predictor.from_pretrained(str(args.run), threads=1)
    settings = [(tokens, truncation) for tokens in args.tokens for truncation in TRUNCATIONS]
    best = dict.fromkeys(settings, 0.0)
    for _ in range(args.rounds):
        for tokens, truncation in settings:
            checkpoint = replace(predictor.checkpoint, max_seq_length=tokens, truncation=truncation)
            start = time.perf_counter()
            replace(predictor, checkpoint=checkpoint).predict(texts)
            best[tokens, truncation] = max(best[tokens, truncation], len(texts) / (time.perf_counter() - start))
    for (tokens, truncation), speed in best.items():
        print(f"{tokens:4} {truncation:10} {speed:7.1f}", flush=True)


if __name__ == "__main__":
    main()
