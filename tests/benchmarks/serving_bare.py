"""The model in a loop, without a service: the reference of `serving_load.py`.

    python tests/benchmarks/serving_bare.py MODEL TEXTS.json torch auto 1

Reads commands from stdin and prints one line of JSON for each: `batched SECONDS` measures sentences per second in
batches of 32 sorted by length, `single NUMBER` the median milliseconds of single sentences. Texts are tokenized before.
The last argument is the number of loops in parallel, each with its share of the cores.
"""

import itertools
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sentiment.environment import count_threads
from sentiment.inference.backends import Backend
from sentiment.inference.batching import sort_into_batches
from sentiment.inference.predictor import Predictor
from sentiment.serving.service import split_threads


def measure_batched(backend: Backend, input_ids: list[list[int]], seconds: float) -> dict[str, float]:
    """Sentences per second in length-sorted batches, over one or more complete rounds."""
    batches = [[input_ids[position] for position in batch] for batch in sort_into_batches(input_ids)]
    started, done = time.perf_counter(), 0
    while True:
        for batch in batches:
            backend.compute_logits(batch)
        done += len(input_ids)
        taken = time.perf_counter() - started
        if taken >= seconds:
            return {"rate": done / taken}


def measure_single(backend: Backend, input_ids: list[list[int]], number: int) -> dict[str, float]:
    """Median milliseconds of one sentence."""
    taken = []
    for ids in itertools.islice(itertools.cycle(input_ids), number):
        started = time.perf_counter()
        backend.compute_logits([ids])
        taken.append(time.perf_counter() - started)
    return {"ms": 1000 * statistics.median(taken)}


def main() -> None:
    model, texts, backend_name, precision, loops = sys.argv[1:]
    _, threads = split_threads(count_threads(), backend_name, int(loops))
    predictor = Predictor.from_pretrained(model, backend_name, precision, threads)
    input_ids = predictor.checkpoint.encode(json.loads(Path(texts).read_text(encoding="utf-8")))
    print(json.dumps({"precision": predictor.backend.precision}), flush=True)
    for line in sys.stdin:
        kind, amount = line.split()
        if kind == "batched":
            with ThreadPoolExecutor(int(loops)) as pool:
                arguments = [(predictor.backend, input_ids, float(amount))] * int(loops)
                rates = list(pool.map(lambda each: measure_batched(*each)["rate"], arguments))
            found = {"rate": sum(rates)}
        else:
            found = measure_single(predictor.backend, input_ids, int(amount))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
