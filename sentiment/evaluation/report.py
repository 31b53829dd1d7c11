"""The story of a fine-tuning for a reader: report.md, report.html and the model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedTokenizerBase

from sentiment.evaluation import plots
from sentiment.evaluation.errors import compute_slices, most_confident_errors
from sentiment.evaluation.hub_names import HUB_DATASETS, HUB_MODELS, find_hub_name, shorten_dataset_name
from sentiment.evaluation.rendering import render_template, write_pages, write_text
from sentiment.evaluation.terminal import compare_metrics
from sentiment.labels import LABEL_NAMES


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
    adaptation = run.get("adaptation") or {}
    base_model, dataset = str(adaptation.get("base_model") or options["model"]), str(options["dataset"])
    hub_datasets = [find_hub_name(name, HUB_DATASETS) for name in (dataset, *adaptation.get("datasets", []))]
    short_name = shorten_dataset_name(dataset)
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=hub_datasets[0] or short_name,
            dataset_name=short_name,
            metric_type=name,
            metric_value=round(after[name], 4),
        )
        for name in ("accuracy", "precision", "recall", "f1")
    ]
    adapted = "adapted-" if adaptation else ""
    card = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", "bert"],
        base_model=find_hub_name(base_model, HUB_MODELS),
        datasets=[name for name in dict.fromkeys(hub_datasets) if name] or None,
        metrics=["accuracy", "precision", "recall", "f1"],
        model_name=f"{Path(base_model).name}-{adapted}{short_name}-sentiment",
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
