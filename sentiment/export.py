"""The sequence of `sentiment export`: write the ONNX files, check them against torch, and keep what holds."""

import importlib.metadata
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentiment.evaluation.terminal import render_table
from sentiment.model_folder import ONNX_FILES
from sentiment.models.classifier import BertSentimentClassifier, load_trained_classifier
from sentiment.runs.folder import write_json
from sentiment.serving.checkpoint import Checkpoint, read_checkpoint
from sentiment.serving.export_check import (
    Compute,
    LabelledTexts,
    build_torch_compute,
    check_finite,
    compare_answers,
    compute_answers,
    load_labelled_texts,
    measure_speed,
)
from sentiment.serving.export_graph import PACKAGES, build_graph, check_packages, quantize_graph, write_graph
from sentiment.training.resources import describe_hardware, list_versions

MAX_DIFFERENCE = 1e-4  # in probability, of fp32 from torch
MAX_LOST_ACCURACY = 0.005  # of int8 from torch
REPORT = Path("onnx/export.json")


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
    from sentiment.serving.onnx_backend import OnnxBackend

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
