"""Model cards in the Hub's format."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from sentiment.reporting.rendering import MASKED_LM_METRICS, METRIC_NAMES, render_template, write_page
from sentiment.reporting.terminal import compare_before_after

HUB_MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_DATASETS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_hub_name(name: str, known: Mapping[str, str]) -> str | None:
    """The Hub's name for one of our short names, or the name itself if it can be on the Hub; else None.

    >>> find_hub_name("imdb", HUB_DATASETS), find_hub_name("cornell/rotten", HUB_DATASETS)
    ('stanfordnlp/imdb', 'cornell/rotten')
    >>> find_hub_name("reviews.csv", HUB_DATASETS) is None
    True
    """
    if name in known:
        return known[name]
    return name if HUB_NAME.fullmatch(name) and not Path(name).exists() else None


def shorten_dataset_name(dataset: str) -> str:
    """A dataset's name without its owner, folder or file extension.

    >>> shorten_dataset_name("stanfordnlp/sst2"), shorten_dataset_name("my_reviews.csv")
    ('sst2', 'my_reviews')
    """
    return Path(dataset).name if find_hub_name(dataset, HUB_DATASETS) else Path(dataset).stem


def build_card_data(
    task: str, base_model: str, datasets: Mapping[str, Sequence[str]], scores: Mapping[str, float], **fields: Any
) -> ModelCardData:
    """The front matter of a card, with the Hub's names of models and datasets.

    `datasets` names those that the model was `evaluated` and `trained` on. The model's name is that of the base model,
    followed by the field `suffix`, in which {} stands for the dataset.
    """
    hub_names = {
        kind: list(dict.fromkeys(filter(None, (find_hub_name(name, HUB_DATASETS) for name in names))))
        for kind, names in datasets.items()
    }
    short_name = "-".join(map(shorten_dataset_name, datasets["evaluated"]))
    dataset_type = next(iter(hub_names["evaluated"]), short_name)
    return ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag=task,
        base_model=find_hub_name(base_model, HUB_MODELS),
        datasets=hub_names["trained"] or None,
        metrics=[name for name in scores if name != "loss"],
        model_name=f"{Path(base_model).name}-{fields.pop('suffix').format(short_name)}",
        eval_results=[
            EvalResult(task, dataset_type, short_name, name, round(value, 4)) for name, value in scores.items()
        ],
        **fields,
    )


def write_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into the model folder of a fine-tuning: front matter in the Hub's format, then the card."""
    options, after, adaptation = run["options"], metrics["test"]["after"], run.get("adaptation") or {}
    dataset = str(options["dataset_name"])
    card = build_card_data(
        task="text-classification",
        tags=["sentiment-analysis", "bert"],
        base_model=str(adaptation.get("base_model") or options["model_name_or_path"]),
        datasets={"evaluated": [dataset], "trained": [dataset, *adaptation.get("datasets", [])]},
        scores={name: after[name] for name in METRIC_NAMES},
        suffix="adapted-{}-sentiment" if adaptation else "{}-sentiment",
    )
    context = {"card": card, "run": run, "metrics": metrics}
    write_page(model_dir / "README.md", render_template("model_card.j2", context))


def write_adapted_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into the model folder of an adaptation: front matter in the Hub's format, then the card."""
    datasets = [str(name) for name in run["data"]["datasets"]]
    card = build_card_data(
        task="fill-mask",
        tags=["masked-language-model", "domain-adaptation", "bert"],
        base_model=str(run["options"]["model_name_or_path"]),
        datasets={"evaluated": datasets, "trained": datasets},
        scores={name: metrics["validation"]["after"][name] for name in MASKED_LM_METRICS},
        suffix="{}-mlm",
    )
    comparison = compare_before_after(metrics["validation"], MASKED_LM_METRICS)
    context = {"card": card, "run": run, "metrics": metrics, "comparison": comparison}
    write_page(model_dir / "README.md", render_template("adapted_model_card.j2", context))
