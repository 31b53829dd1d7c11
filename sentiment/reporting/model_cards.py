"""Model cards in the Hub's format."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from sentiment.reporting.rendering import render_template, write_page
from sentiment.reporting.terminal import compare_adaptation

HUB_MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_DATASETS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_hub_name(name: str, known: Mapping[str, str]) -> str | None:
    """The Hub's name of one of our short names, or the name itself where it can be one of the Hub's; else None.

    >>> find_hub_name("imdb", HUB_DATASETS), find_hub_name("cornell/rotten", HUB_DATASETS)
    ('stanfordnlp/imdb', 'cornell/rotten')
    >>> find_hub_name("reviews.csv", HUB_DATASETS) is None
    True
    """
    if name in known:
        return known[name]
    return name if HUB_NAME.fullmatch(name) and not Path(name).exists() else None


def shorten_dataset_name(dataset: str) -> str:
    """A dataset's name without its owner, folder or file ending.

    >>> shorten_dataset_name("stanfordnlp/sst2"), shorten_dataset_name("my_reviews.csv")
    ('sst2', 'my_reviews')
    """
    return Path(dataset).name if find_hub_name(dataset, HUB_DATASETS) else Path(dataset).stem


def write_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into a model's folder: front matter in the Hub's format, then what a user must know."""
    options, after = run["options"], metrics["test"]["after"]
    adaptation = run.get("adaptation") or {}
    base_model, dataset = (
        str(adaptation.get("base_model") or options["model_name_or_path"]),
        str(options["dataset_name"]),
    )
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
    write_page(model_dir / "README.md", render_template("model_card.j2", story))


def write_adapted_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into an adapted model's folder: front matter in the Hub's format, then what a user must know."""
    base_model, datasets = str(run["options"]["model_name_or_path"]), [str(name) for name in run["data"]["datasets"]]
    after = metrics["validation"]["after"]
    hub_datasets = [find_hub_name(name, HUB_DATASETS) for name in datasets]
    short_names = "-".join(shorten_dataset_name(name) for name in datasets)
    results = [
        EvalResult(
            task_type="fill-mask",
            dataset_type=next(filter(None, hub_datasets), short_names),
            dataset_name=short_names,
            metric_type=name,
            metric_value=round(after[name], 4),
        )
        for name in ("loss", "perplexity", "accuracy")
    ]
    card = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["masked-language-model", "domain-adaptation", "bert"],
        base_model=find_hub_name(base_model, HUB_MODELS),
        datasets=[name for name in hub_datasets if name] or None,
        metrics=["perplexity", "accuracy"],
        model_name=f"{Path(base_model).name}-{short_names}-mlm",
        eval_results=results,
    )
    story = {
        "card": card,
        "run": run,
        "datasets": datasets,
        "metrics": metrics,
        "audit": run["data"].get("audit"),
        "comparison": compare_adaptation(metrics),
    }
    write_page(model_dir / "README.md", render_template("adapted_model_card.j2", story))
