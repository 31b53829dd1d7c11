"""Verification: whether a finished run's model reproduces the metrics on record, on the rows on record."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed
from transformers.utils import SAFE_WEIGHTS_NAME

from sentiment.config.parsing import build_arguments
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.languages import choose_language
from sentiment.data.tokenization import tokenize_reviews
from sentiment.evaluation.calibration import scale_probabilities
from sentiment.exceptions import require
from sentiment.inference.checkpoint import read_temperature
from sentiment.models.classifier import load_trained_classifier
from sentiment.models.loading import load_tokenizer
from sentiment.pipelines import adaptation, finetuning
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.augmentation import UNLABELLED
from sentiment.pipelines.evaluation import evaluate_split
from sentiment.runs.folder import ADAPTATION_STRATEGY, read_run
from sentiment.runs.results import get_language, read_predictions, stack_probabilities
from sentiment.storage import compute_sha256, read_json
from sentiment.training.hardware import describe_hardware, list_versions

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Verification:
    """What was evaluated again, what differs from the record, and how the environment differs."""

    evaluated: str
    differences: list[str]
    surroundings: list[str]


def verify_run(run_dir: Path, data_dir: str | None = None) -> Verification:
    """Evaluates a finished run's model again, and compares with the record.

    `data_dir`: folder with local copies of datasets; default: that of the run.

    Raises:
        InputError: there is no finished run, or its data cannot be loaded.
    """
    require((run_dir / "run.json").is_file(), f"no run in {run_dir}: pass the folder of a finished run, as outputs/e2e")
    record = read_run(run_dir)
    require((run_dir / "metrics.json").exists(), f"{run_dir} holds an unfinished run: finish it with --resume")
    weights = run_dir / "model" / SAFE_WEIGHTS_NAME
    require(weights.is_file(), f"{run_dir} has no weights: a study removes them, unless --keep_models")
    metrics = read_json(run_dir / "metrics.json")
    options = record["options"] | ({"data_dir": data_dir} if data_dir else {})
    differences = list(compare_weights(weights, record))
    verify = verify_adaptation if record["strategy"] == ADAPTATION_STRATEGY else verify_finetuning
    evaluated, found = verify(run_dir, record, metrics, options)
    here = {"versions": list_versions(), "hardware": describe_hardware(find_device(), record["hardware"]["processes"])}
    surroundings = [line for name, value in here.items() for line in compare_values(record[name], value, name, 0.0)]
    return Verification(evaluated, differences + found, surroundings)


def find_device() -> str:
    """The device for evaluation."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def verify_finetuning(
    run_dir: Path, record: dict[str, Any], metrics: dict[str, Any], options: dict[str, Any]
) -> tuple[str, list[str]]:
    """Evaluates the test split of a fine-tuning: what it was, and differences in rows, metrics and probabilities."""
    _, data_args, _ = build_arguments(finetuning.ARGUMENTS, options | {"resume": False})
    reviews = load_split_reviews(data_args, options["seed"])
    splits = reviews.splits
    recorded = {name: value for name, value in record["data"]["fingerprints"].items() if name != UNLABELLED}
    differences = list(compare_values(recorded, reviews.fingerprints, "fingerprint", 0.0))
    language = choose_language(data_args.language, splits["train"]["text"])
    differences += compare_values(get_language(record), language, "language", 0.0)
    model_dir = str(run_dir / "model")
    model = load_trained_classifier(model_dir, torch.device(find_device()))
    tokenizer = load_tokenizer(model_dir, data_args.max_seq_length)
    workers = data_args.preprocessing_num_workers
    test = tokenize_reviews(splits, tokenizer, data_args.max_seq_length, workers, data_args.truncation)["test"]
    found, probabilities = evaluate_split(model, test, tokenizer, splits["test"])
    differences += compare_values(metrics["test"]["after"], found, "test", TOLERANCE)
    expected = stack_probabilities(read_predictions(run_dir / "predictions.parquet"))
    probabilities = scale_probabilities(probabilities, read_temperature(model_dir, model.config.to_dict()))
    if expected.shape == probabilities.shape:
        changed = np.flatnonzero(np.abs(expected - probabilities).max(axis=1) > TOLERANCE)
        if len(changed):
            differences.append(f"predictions.parquet: {len(changed)} rows, the first is row {changed[0]}")
    return f"{len(test):,} test rows", differences


def verify_adaptation(
    run_dir: Path, record: dict[str, Any], metrics: dict[str, Any], options: dict[str, Any]
) -> tuple[str, list[str]]:
    """Evaluates the validation texts of an adaptation: what they were, and differences in texts and metrics."""
    model_dir = str(run_dir / "model")
    with tempfile.TemporaryDirectory() as folder:
        changes = {"model_name_or_path": model_dir, "model_revision": None, "output_dir": folder, "resume": False}
        base_model, *_ = build_arguments(adaptation.ARGUMENTS, options | {"output_dir": folder, "resume": False})
        own = build_arguments(adaptation.ARGUMENTS, options | changes)
        model_args, data_args, args = own
        run = AdaptationRun(ADAPTATION_STRATEGY, model_args, data_args, args, base_model)
        set_seed(run.args.seed)
        tokenizer = load_tokenizer(model_dir, run.data_args.max_seq_length)
        data = run.prepare_data(tokenizer)
        trainer = run.build_trainer(run.load_model(data, model_dir), data, tokenizer)
        found = run.evaluate(trainer)
    differences = list(compare_values(record["data"]["fingerprints"], data.fingerprints, "fingerprint", 0.0))
    recorded = {name: metrics["validation"]["after"][name] for name in found}
    differences += compare_values(recorded, found, "validation", TOLERANCE)
    return f"{len(data.validation):,} validation texts", differences


def compare_weights(weights: Path, record: dict[str, Any]) -> Iterator[str]:
    """A line if the weights are not those on record."""
    recorded = record["model"].get("weights_sha256")
    found = compute_sha256(weights)
    if recorded != found:
        yield f"{weights.name}: SHA-256 {found}, on record {recorded}"


def compare_values(recorded: Any, found: Any, name: str, tolerance: float) -> Iterator[str]:
    """A line per value that differs; numbers may differ by the tolerance."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in sorted(recorded.keys() | found.keys()):
            yield from compare_values(recorded.get(key), found.get(key), f"{name}.{key}", tolerance)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for place, pair in enumerate(zip(recorded, found, strict=True)):
            yield from compare_values(*pair, f"{name}[{place}]", tolerance)
    elif isinstance(recorded, (int, float)) and isinstance(found, (int, float)):
        if not abs(recorded - found) <= tolerance:
            yield f"{name}: {found}, on record {recorded}"
    elif recorded != found:
        yield f"{name}: {found}, on record {recorded}"
