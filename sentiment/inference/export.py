"""`sentiment export`: write ONNX files, evaluate them against torch, and keep those that pass."""

import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sentiment.data.labelled_rows import load_labelled_rows
from sentiment.evaluation.metrics import choose_labels
from sentiment.exceptions import require
from sentiment.inference.backends import OnnxBackend, compute_torch_logits
from sentiment.inference.batching import ComputeLogits, check_finite, predict_in_batches
from sentiment.inference.checkpoint import ONNX_FILES, Checkpoint, load_checkpoint
from sentiment.inference.onnx_graph import PACKAGES, build_graph, check_packages, quantize_graph, write_graph
from sentiment.models.classifier import SentimentClassifier, load_trained_classifier
from sentiment.reporting.terminal import render_table
from sentiment.runs.results import read_predictions
from sentiment.storage import write_json
from sentiment.training.hardware import describe_hardware, list_versions

TIMED_TEXTS = 256
TIMED_ROUNDS = 5
MAX_DIFFERENCE = 1e-4  # in probability, between fp32 and torch
MAX_LOST_ACCURACY = 0.005  # of int8, relative to torch
REPORT = Path("onnx/export.json")


def export_model(
    model_dir: str,
    with_int8: bool = False,
    dataset: str | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """Write `onnx/model.onnx`, optionally `onnx/model_int8.onnx`, and `onnx/export.json` into the model folder.

    Both are compared with torch in fp32, in batches of similar length, on a labelled dataset, read as by `load_reviews`
    with `columns`, or the run's test rows.
    Nothing is written if fp32 differs by more than 1e-4 in probability. An int8 file that loses more than 0.005 in
    accuracy is not written, and one of an earlier export is removed.

    Returns:
        The content of export.json, and the paths of files that are `written` and `removed`; `refused` is None, or says
        in one line which file was not written, and why.

    Raises:
        InputError: no trained model, no labelled texts, or a package is missing.
    """
    checkpoint = load_checkpoint(model_dir)
    check_packages()
    source, input_ids, labels = load_labelled_texts(model_dir, checkpoint, dataset, split, data_dir, **columns)
    model = load_trained_classifier(str(checkpoint.folder))
    with tempfile.TemporaryDirectory(prefix="onnx.part-", dir=checkpoint.folder) as folder:
        staged = replace(checkpoint, folder=Path(folder))
        write_graphs(model, staged.folder, with_int8)
        run_torch = partial(compute_torch_logits, model, checkpoint.pad_token_id)
        runners: dict[str, ComputeLogits] = {"torch fp32": run_torch}
        for precision, file in ONNX_FILES.items():
            if (staged.folder / file).exists():
                runners[f"onnx {precision}"] = OnnxBackend(staged, precision).compute_logits
        probabilities = {name: predict_in_batches(run, input_ids) for name, run in runners.items()}
        expected = probabilities["torch fp32"]
        check_finite(expected)
        results = {name: compare_probabilities(found, expected, labels) for name, found in probabilities.items()}
        report = {
            "evaluated_on": source,
            "rows": len(labels),
            "models": results,
            "refused": check_fp32(results, len(labels)),
            "versions": list_versions() | {name: importlib.metadata.version(name) for name in PACKAGES},
            "hardware": describe_hardware("cpu", processes=1),
        }
        if report["refused"]:
            return report
        speeds = measure_speed(runners, input_ids)
        for name, speed in speeds.items():
            results[name] |= {"texts_per_second": round(speed, 1), "speedup": round(speed / speeds["torch fp32"], 3)}
        report["refused"] = check_int8(results, len(labels))
        if report["refused"]:
            (staged.folder / ONNX_FILES["int8"]).unlink()
        write_json(staged.folder / REPORT, report)
        moved = move_files(staged.folder, checkpoint.folder)
    return report | moved


def load_labelled_texts(
    model_dir: str, checkpoint: Checkpoint, dataset: str | None, split: str | None, data_dir: str | None, **columns: Any
) -> tuple[str, list[list[int]], np.ndarray]:
    """Source, token ids and labels of a dataset, as chosen by `sentiment evaluate`, or of the run's test rows."""
    if dataset is not None:
        labelled = load_labelled_rows(dataset, checkpoint.labels, data_dir, split, **columns)
        labels = labelled.align_labels(checkpoint.labels, model_dir)
        return f"{dataset}, split {labelled.split}", checkpoint.encode(labelled.texts), labels
    options = {"split": split, "data_dir": data_dir} | columns
    given = [f"--{name}" for name, value in options.items() if value is not None]
    require(not given, f"{' and '.join(given)} belong to --dataset: pass it too")
    path = Path(model_dir) / "predictions.parquet"
    require(path.is_file(), f"{model_dir} has no test rows to check the export on: pass a run's folder or --dataset")
    columns = read_predictions(path)
    require(bool(columns["text"]), f"{path} has no rows: pass labelled texts by --dataset")
    # These texts are cleaned, and cleaning them twice could change them.
    return "the run's test rows", checkpoint.encode_cleaned(columns["text"]), np.asarray(columns["label"])


def write_graphs(model: SentimentClassifier, folder: Path, with_int8: bool) -> None:
    """Write the ONNX files of the model into the folder."""
    graph = build_graph(model)
    write_graph(graph, folder / ONNX_FILES["fp32"])
    if with_int8:
        write_graph(quantize_graph(graph), folder / ONNX_FILES["int8"])


def compare_probabilities(probabilities: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, number of changed labels, and maximum difference in probability; NaN is wrong, and differs by 1.

    >>> compare_probabilities(np.array([[0.1, 0.9], [0.6, 0.4]]), np.array([[0.2, 0.8], [0.4, 0.6]]), np.array([1, 1]))
    {'accuracy': 0.5, 'changed_labels': 1, 'max_difference': 0.2}
    """
    is_finite = np.isfinite(probabilities).all(axis=1)
    predicted = np.where(is_finite, choose_labels(probabilities), -1)
    difference = np.nan_to_num(np.abs(probabilities - expected), nan=1.0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "changed_labels": int((predicted != choose_labels(expected)).sum()),
        "max_difference": round(float(difference.max()), 12),
    }


def measure_speed(runners: Mapping[str, ComputeLogits], input_ids: Sequence[Sequence[int]]) -> dict[str, float]:
    """Texts per second of each model, warm, on up to `TIMED_TEXTS` texts in batches of similar length.

    Models take turns, so that other load on the machine slows all alike; the median of the rounds counts.
    """
    by_length = sorted(input_ids, key=len)
    texts = by_length[:: -(-len(by_length) // TIMED_TEXTS)]
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(TIMED_ROUNDS):
        for name, compute_logits in runners.items():
            started = time.perf_counter()
            predict_in_batches(compute_logits, texts)
            seconds[name].append(time.perf_counter() - started)
    return {name: len(texts) / statistics.median(rounds) for name, rounds in seconds.items()}


def check_fp32(results: Mapping[str, Mapping[str, Any]], rows: int) -> str | None:
    """Why the fp32 file is refused, in one line; None if it passes."""
    difference = results["onnx fp32"]["max_difference"]
    message = (
        f"the ONNX file differs from torch by up to {difference:.1e} in probability on {rows:,} texts, where "
        f"{MAX_DIFFERENCE:.0e} is allowed: nothing is written"
    )
    return message if difference > MAX_DIFFERENCE else None


def check_int8(results: Mapping[str, Mapping[str, Any]], rows: int) -> str | None:
    """Why the int8 file is refused, in one line; None if it passes or there is none."""
    expected = results["torch fp32"]["accuracy"]
    lost = expected - results.get("onnx int8", {"accuracy": expected})["accuracy"]
    message = (
        f"int8 loses {100 * lost:.2f} points of accuracy on {rows:,} texts, where {100 * MAX_LOST_ACCURACY:.1f} is "
        f"allowed: {ONNX_FILES['int8']} is not written; {ONNX_FILES['fp32']} is"
    )
    return message if lost > MAX_LOST_ACCURACY + 1e-9 else None


def move_files(staged: Path, folder: Path) -> dict[str, list[str]]:
    """Move the staged files into the model folder, and remove those of an earlier export that are not staged.

    Returns the paths of those that are `written` and `removed`.
    """
    (folder / REPORT.parent).mkdir(exist_ok=True)
    moved: dict[str, list[str]] = {"written": [], "removed": []}
    for file in (*ONNX_FILES.values(), REPORT):
        if (staged / file).exists():
            (staged / file).replace(folder / file)
            moved["written"].append(str(folder / file))
        elif (folder / file).exists():
            (folder / file).unlink()
            moved["removed"].append(str(folder / file))
    return moved


def render_export(report: Mapping[str, Any]) -> str:
    """The comparison as a table; dashes where speed was not measured."""
    rows = [["model", "accuracy", "changed labels", "max difference", "texts/s", "speedup"]]
    for name, result in report["models"].items():
        cells = [f"{result['accuracy']:.4f}", f"{result['changed_labels']:,}", f"{result['max_difference']:.1e}"]
        has_speed = "speedup" in result
        cells += [f"{result['texts_per_second']:,.0f}", f"{result['speedup']:.2f}"] if has_speed else ["-", "-"]
        rows.append([name, *cells])
    lines = [render_table(rows), f"evaluated on {report['rows']:,} texts: {report['evaluated_on']}"]
    lines += [f"{what}: {', '.join(report[what])}" for what in ("written", "removed") if report.get(what)]
    return "\n".join(lines)
