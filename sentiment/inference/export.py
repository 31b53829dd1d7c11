"""The sequence of `sentiment export`: write the ONNX files, check them against torch, and keep what holds."""

import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentiment.data.sources import load_reviews
from sentiment.data.splits import choose_labelled_split, join_labelled
from sentiment.evaluation.metrics import choose_labels
from sentiment.exceptions import InputError, require
from sentiment.inference.batching import pad_batch, sort_into_batches
from sentiment.inference.checkpoint import ONNX_FILES, Checkpoint, read_checkpoint
from sentiment.inference.onnx_graph import PACKAGES, build_graph, check_packages, quantize_graph, write_graph
from sentiment.inference.predictor import compute_probabilities
from sentiment.models.classifier import BertSentimentClassifier, load_trained_classifier
from sentiment.reporting.terminal import render_table
from sentiment.runs.results import read_predictions
from sentiment.storage import write_json
from sentiment.training.hardware import describe_hardware, list_versions

# Logits, shape (texts, 2), of one batch of token ids.
Compute = Callable[[Sequence[Sequence[int]]], np.ndarray]
TIMED_TEXTS = 256
TURNS = 5
MAX_DIFFERENCE = 1e-4  # in probability, of fp32 from torch
MAX_LOST_ACCURACY = 0.005  # of int8 from torch
REPORT = Path("onnx/export.json")


@dataclass(frozen=True)
class LabelledTexts:
    """What models are compared on: token ids, labels (0 or 1), and in words where they come from."""

    source: str
    input_ids: list[list[int]]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


def load_labelled_texts(
    model_dir: str, checkpoint: Checkpoint, dataset: str | None, split: str | None, data_dir: str | None
) -> LabelledTexts:
    """The labelled rows of a dataset, chosen as `sentiment evaluate` does, or the run's own test rows without one.

    Raises:
        InputError: no dataset is given and the folder is not that of a run; or either cannot be read.
    """
    if dataset is not None:
        reviews = load_reviews(dataset, data_dir)
        name = choose_labelled_split(reviews, [split] if split else ["test", "validation", "train"])
        part = join_labelled(reviews, [name])
        input_ids = checkpoint.prepare(part["text"][:])
        return LabelledTexts(f"{dataset}, split {name}", input_ids, np.asarray(part["label"][:]))
    require(split is None and data_dir is None, "--split and --data_dir say more of --dataset: pass it too")
    path = Path(model_dir) / "predictions.parquet"
    require(
        path.is_file(),
        f"{model_dir} has no test rows to check the export on: pass the folder of a run, or --dataset",
    )
    columns = read_predictions(path)
    require(bool(columns["text"]), f"{path} has no rows: pass labelled texts by --dataset")
    # As the run's model saw them: cleaned, and cleaning once more could change them.
    return LabelledTexts("the run's test rows", checkpoint.tokenize(columns["text"]), np.asarray(columns["label"]))


def build_torch_compute(model: BertSentimentClassifier, pad_token_id: int) -> Compute:
    """The model run by torch in fp32, on the device where it is."""

    @torch.inference_mode()
    def compute(input_ids: Sequence[Sequence[int]]) -> np.ndarray:
        batch = pad_batch(input_ids, pad_token_id)
        logits: np.ndarray = model(**batch).logits.numpy()
        return logits

    return compute


def compute_answers(compute: Compute, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Probability of `positive` for each text, in order; shape (texts,)."""
    probabilities = np.empty(len(input_ids))
    for chosen in sort_into_batches(input_ids):
        probabilities[chosen] = compute_probabilities(compute([input_ids[position] for position in chosen]))
    return probabilities


def compare_answers(answers: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, rows whose label is another than expected, and the largest difference in probability.

    An answer that is not a number counts as wrong, and as different as can be.

    >>> compare_answers(np.array([0.9, 0.4]), np.array([0.8, 0.6]), np.array([1, 1]))
    {'accuracy': 0.5, 'changed_labels': 1, 'largest_difference': 0.2}
    """
    is_number = np.isfinite(answers)
    predicted = np.where(is_number, choose_labels(answers), -1)
    difference = np.nan_to_num(np.abs(answers - expected), nan=1.0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "changed_labels": int((predicted != choose_labels(expected)).sum()),
        "largest_difference": round(float(difference.max()), 12),
    }


def measure_speed(computes: Mapping[str, Compute], input_ids: Sequence[Sequence[int]]) -> dict[str, float]:
    """Texts a second of each model, on up to `TIMED_TEXTS` of the texts, in batches of like length.

    The models take turns, so that a busy machine slows all alike; the medians of the turns count. Each must have run
    before.
    """
    by_length = sorted(input_ids, key=len)
    texts = by_length[:: -(-len(by_length) // TIMED_TEXTS)]
    batches = [[texts[position] for position in chosen] for chosen in sort_into_batches(texts)]
    seconds: dict[str, list[float]] = {name: [] for name in computes}
    for _ in range(TURNS):
        for name, compute in computes.items():
            started = time.perf_counter()
            for batch in batches:
                compute(batch)
            seconds[name].append(time.perf_counter() - started)
    return {name: len(texts) / statistics.median(values) for name, values in seconds.items()}


def check_finite(probabilities: np.ndarray) -> None:
    """Refuses a model of which nothing can be compared.

    Raises:
        InputError: it answers with NaN.
    """
    if not np.isfinite(probabilities).all():
        raise InputError("the model answers with NaN: its weights are damaged, or training diverged (lower --lr)")


def export_model(
    model_dir: str,
    with_int8: bool = False,
    dataset: str | None = None,
    split: str | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Writes `onnx/model.onnx`, with int8 `onnx/model_int8.onnx`, and `onnx/export.json` into the model folder.

    Both are compared with torch in fp32 on labelled texts: the run's own test rows, or those of a dataset. An fp32
    file that differs by more than 1e-4 in probability is not written, and what an earlier export left stays as it
    was; nor is an int8 file that loses more than half a point of accuracy, and none from earlier is left then.
    In int8 an answer depends slightly on the texts that are computed with it, see `quantize_graph`: the comparison is
    one of batches of like length, as the server's are, and other batches give other answers on a few texts.

    Returns:
        What export.json says; `refused` is None, or says in one line which file is not written, and why.

    Raises:
        InputError: no trained model, no labelled texts, or a package that is missing.
    """
    checkpoint = read_checkpoint(model_dir)
    check_packages()
    texts = load_labelled_texts(model_dir, checkpoint, dataset, split, data_dir)
    model = load_trained_classifier(str(checkpoint.folder))
    with tempfile.TemporaryDirectory(prefix="onnx.part-", dir=checkpoint.folder) as folder:
        staged = replace(checkpoint, folder=Path(folder))
        write_graphs(model, staged.folder, with_int8)
        computes = {"torch fp32": build_torch_compute(model, checkpoint.pad_token_id)} | load_computes(staged)
        models = compare_models(computes, texts)
        if refused := find_fp32_fault(models, len(texts)):
            return describe_export(texts, models, refused)
        add_speeds(models, computes, texts)
        refused = find_int8_fault(models, len(texts))
        if refused:
            (staged.folder / ONNX_FILES["int8"]).unlink()
        report = describe_export(texts, models, refused)
        write_json(staged.folder / REPORT, report)
        install(staged.folder, checkpoint.folder)
    return report


def write_graphs(model: BertSentimentClassifier, folder: Path, with_int8: bool) -> None:
    """Writes the ONNX files of the model into the folder."""
    graph = build_graph(model)
    write_graph(graph, folder / ONNX_FILES["fp32"])
    if with_int8:
        write_graph(quantize_graph(graph), folder / ONNX_FILES["int8"])


def load_computes(staged: Checkpoint) -> dict[str, Compute]:
    """What runs each of the ONNX files, in the way that the server does."""
    from sentiment.inference.onnx_backend import OnnxBackend

    found = [precision for precision, file in ONNX_FILES.items() if (staged.folder / file).exists()]
    return {f"onnx {precision}": OnnxBackend(staged, precision).compute_logits for precision in found}


def compare_models(computes: Mapping[str, Compute], texts: LabelledTexts) -> dict[str, dict[str, Any]]:
    """How each model answers, see `compare_answers`; the first is what the others are compared with.

    Raises:
        InputError: the first answers with NaN.
    """
    answers = {name: compute_answers(compute, texts.input_ids) for name, compute in computes.items()}
    expected = next(iter(answers.values()))
    check_finite(expected)
    return {name: compare_answers(found, expected, texts.labels) for name, found in answers.items()}


def add_speeds(models: Mapping[str, dict[str, Any]], computes: Mapping[str, Compute], texts: LabelledTexts) -> None:
    """Adds the speed of each model to what is known of it, by itself and as a multiple of torch's in the same run."""
    speeds = measure_speed(computes, texts.input_ids)
    for name, speed in speeds.items():
        ratio = speed / speeds["torch fp32"]
        models[name] |= {"texts_per_second": round(speed, 1), "times_torch": round(ratio, 3)}


def find_fp32_fault(models: Mapping[str, Mapping[str, Any]], rows: int) -> str | None:
    """Why the fp32 file cannot be used, in one line; None where it can."""
    difference = models["onnx fp32"]["largest_difference"]
    if difference <= MAX_DIFFERENCE:
        return None
    return (
        f"the ONNX file answers otherwise than torch: by up to {difference:.1e} in probability on {rows:,} texts, "
        f"where {MAX_DIFFERENCE:.0e} is allowed: nothing is written"
    )


def find_int8_fault(models: Mapping[str, Mapping[str, Any]], rows: int) -> str | None:
    """Why the int8 file cannot be used, in one line; None where it can, or where there is none."""
    if "onnx int8" not in models:
        return None
    lost = models["torch fp32"]["accuracy"] - models["onnx int8"]["accuracy"]
    if lost <= MAX_LOST_ACCURACY + 1e-9:
        return None
    return (
        f"int8 loses {100 * lost:.2f} points of accuracy on {rows:,} texts, where {100 * MAX_LOST_ACCURACY:.1f} is "
        f"allowed: {ONNX_FILES['int8']} is not written; {ONNX_FILES['fp32']} is"
    )


def describe_export(
    texts: LabelledTexts, models: Mapping[str, Mapping[str, Any]], refused: str | None
) -> dict[str, Any]:
    """What export.json says."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "checked_on": texts.source,
        "rows": len(texts),
        "models": models,
        "refused": refused,
        "versions": list_versions() | versions,
        "hardware": describe_hardware("cpu", processes=1),
    }


def install(staged: Path, folder: Path) -> None:
    """Moves the staged files to the model folder, each whole; what an earlier export left besides them goes."""
    (folder / REPORT.parent).mkdir(exist_ok=True)
    for file in (*ONNX_FILES.values(), REPORT):
        if (staged / file).exists():
            (staged / file).replace(folder / file)
        else:
            (folder / file).unlink(missing_ok=True)


def render_export(report: Mapping[str, Any]) -> str:
    """The comparison as a table; a dash where nothing is measured."""
    rows = [["model", "accuracy", "labels changed", "largest difference", "texts/s", "times torch"]]
    for name, found in report["models"].items():
        cells = [f"{found['accuracy']:.4f}", f"{found['changed_labels']:,}", f"{found['largest_difference']:.1e}"]
        is_timed = "texts_per_second" in found
        cells += [f"{found['texts_per_second']:,.0f}", f"{found['times_torch']:.2f}"] if is_timed else ["-", "-"]
        rows.append([name, *cells])
    return f"{render_table(rows)}\nchecked on {report['rows']:,} texts: {report['checked_on']}"
