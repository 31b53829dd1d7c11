"""The story of a fine-tuning for a reader: report.md, report.html and the model card."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedTokenizerBase

from sentiment.evaluation import plots
from sentiment.evaluation.errors import compute_slices, most_confident_errors
from sentiment.evaluation.metrics import LABEL_NAMES
from sentiment.evaluation.rendering import render_template, write_pages, write_text
from sentiment.evaluation.terminal import compare_metrics

# What our short names are called on the Hub; the model card may only name what stands there.
HUB_MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_DATASETS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def write_report(
    run_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write report.md, report.html and the pictures into a run's folder.

    `run` and `metrics` are what run.json and metrics.json hold; predictions.parquet is read for the error analysis.
    Without the latter, or without epochs or figures from before training, the sections that need them are
    left out.
    """
    story = {
        "run": run,
        "audit": run.get("data", {}).get("audit"),
        "metrics": metrics,
        "before": metrics["test"].get("before"),
        "after": metrics["test"]["after"],
        "comparison": compare_metrics(metrics),
        "figures": _write_plots(run_dir, metrics),
        "errors": _analyze_errors(run_dir / "predictions.parquet", tokenizer),
        "label_names": LABEL_NAMES,
    }
    write_pages(run_dir, "report.j2", story)


def write_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into a model's folder: front matter in the Hub's format, then what a user must know."""
    options, after = run["options"], metrics["test"]["after"]
    base_model, dataset = str(options["model"]), str(options["dataset"])
    hub_dataset = _hub_name(dataset, HUB_DATASETS)
    short_name = Path(dataset).name if hub_dataset else Path(dataset).stem
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=hub_dataset or short_name,
            dataset_name=short_name,
            metric_type=name,
            metric_value=round(after[name], 4),
        )
        for name in ("accuracy", "precision", "recall", "f1")
    ]
    card = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", "bert"],
        base_model=_hub_name(base_model, HUB_MODELS),
        datasets=[hub_dataset] if hub_dataset else None,
        metrics=["accuracy", "precision", "recall", "f1"],
        model_name=f"{Path(base_model).name}-{short_name}-sentiment",
        eval_results=results,
    )
    story = {"card": card, "run": run, "audit": run.get("data", {}).get("audit"), "after": after}
    write_text(model_dir / "README.md", render_template("model_card.j2", story))


def _write_plots(run_dir: Path, metrics: Mapping[str, Any]) -> list[str]:
    """Draw the pictures that the metrics have data for, and return their names."""
    history, best_epoch = metrics.get("history") or [], metrics.get("best_epoch")
    before, after = metrics["test"].get("before"), metrics["test"]["after"]
    names = ["confusion"]
    if history:
        plots.plot_loss(history, best_epoch, run_dir / "loss.png")
        plots.plot_metrics(history, best_epoch, run_dir / "metrics.png")
        names += ["loss", "metrics"]
    matrices = {"test, after training": after["confusion_matrix"]}
    if before:
        plots.plot_before_after(before, after, run_dir / "before_after.png")
        names.append("before_after")
        matrices = {"test, before training": before["confusion_matrix"], **matrices}
    plots.plot_confusion(matrices, run_dir / "confusion.png")
    return names


def _analyze_errors(path: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    if not path.exists():
        return None
    table = pyarrow.parquet.read_table(path).to_pydict()
    texts, labels, predicted = table["text"], table["label"], table["predicted"]
    return {
        "slices": compute_slices(texts, labels, predicted, tokenizer),
        "most_confident": [
            # The row in the test split, which the file knows.
            {**error, "row": table["row"][error["row"]]}
            for error in most_confident_errors(texts, labels, predicted, table["probability"])
        ],
    }


def _hub_name(name: str, known: Mapping[str, str]) -> str | None:
    if name in known:
        return known[name]
    return name if HUB_NAME.fullmatch(name) and not Path(name).exists() else None
