"""train_e2e.py as users start it: through accelerate, with what `make` fetched, and without a Hub."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from sentiment.demo.embedded import MINILM, SNIPPETS, cached_package
from sentiment.evaluation.calibration import scale_probabilities
from sentiment.inference.predictor import Predictor

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--num_processes", "1"]
# Plain transformers, in a process that refuses to import this package.
ASK_PIPELINE = """
import json, sys
sys.modules["sentiment"] = None
from transformers import pipeline
texts = json.load(sys.stdin)
answers = pipeline("text-classification", model=sys.argv[1], top_k=None, truncation=True)(texts)
print(json.dumps([{answer["label"]: answer["score"] for answer in scores} for scores in answers]))
"""


def launch(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCH, str(ROOT / "train_e2e.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


@pytest.mark.skipif(
    not (cached_package("minilm", MINILM) and cached_package("snippets", SNIPPETS)),
    reason="the embedded model and reviews are not fetched: run `make setup`",
)
def test_the_offline_run_and_its_checkpoint_in_plain_transformers(tmp_path: Path) -> None:
    config = str(ROOT / "sentiment/config/offline.yaml")
    flags = ["--max_rows", "120", "--num_train_epochs", "1", "--output_dir", str(tmp_path / "run")]
    done = launch(config, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "accuracy after training, 95% interval" in done.stdout
    assert f"Report: {tmp_path / 'run' / 'report.html'}" in done.stdout
    assert "epoch 1: train loss 0." in done.stderr
    assert "\r" not in done.stderr  # no progress bars in a log

    table = pyarrow.parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    predictor = Predictor.from_pretrained(str(tmp_path / "run"))
    calibrated = np.stack([table["p_negative"], table["p_positive"]], axis=1)
    uncalibrated = scale_probabilities(calibrated, 1 / predictor.checkpoint.temperature)[:, 1]
    # Longer than the model takes: both must truncate it at the same token.
    long_text = "a film of some charm , but " * 60
    *answers, of_long_text = ask_pipeline(tmp_path / "run" / "model", [*table["text"], long_text])
    for answer, probability, predicted in zip(answers, uncalibrated, table["predicted"], strict=True):
        assert answer["positive"] == pytest.approx(probability, abs=1e-6)
        assert max(answer, key=lambda name: answer[name]) == ("negative", "positive")[predicted]

    found = scale_probabilities(predictor.predict_probabilities([long_text]), 1 / predictor.checkpoint.temperature)
    assert of_long_text["positive"] == pytest.approx(found[0, 1], abs=1e-6)


def ask_pipeline(model: Path, texts: list[str]) -> list[dict[str, float]]:
    command = [sys.executable, "-c", ASK_PIPELINE, str(model)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_without_a_hub_the_default_run_stops_in_seconds_with_the_ways_out(tmp_path: Path) -> None:
    started = time.monotonic()
    done = launch(
        "--output_dir",
        str(tmp_path / "run"),
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path),
    )
    assert time.monotonic() - started < 60  # the libraries' own retries take longer; most of this is imports
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    for part in ("google-bert/bert-base-uncased", "--model minilm (embedded)", "--dataset", "offline.yaml"):
        assert part in lines[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
