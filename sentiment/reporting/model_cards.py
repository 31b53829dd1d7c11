"""Model cards in the Hub's format."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from sentiment.reporting.rendering import write_page
from sentiment.reporting.summaries import JsonObject, list_scores

HUB_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_hub_name(name: str) -> str | None:
    """The Hub's name for one of our short names, or the name itself if it can be on the Hub; else None."""
    return HUB_NAMES.get(name) or (name if HUB_NAME.fullmatch(name) and not Path(name).exists() else None)


def shorten_dataset_name(dataset: str) -> str:
    """A dataset's name without its owner, folder or file extension."""
    return Path(dataset).name if find_hub_name(dataset) else Path(dataset).stem


def build_card_data(
    task: str, base_model: str, evaluated: list[str], trained: list[str], scores: dict[str, float], **fields: Any
) -> ModelCardData:
    """The front matter of a card; in `suffix`, which follows the base model's name, {} stands for the dataset."""
    short_name = "-".join(map(shorten_dataset_name, evaluated))
    dataset_type = next(filter(None, map(find_hub_name, evaluated)), short_name)
    return ModelCardData(
        language=fields.pop("language", None),
        library_name="transformers",
        pipeline_tag=task,
        base_model=find_hub_name(base_model),
        datasets=list(dict.fromkeys(filter(None, map(find_hub_name, trained)))) or None,
        metrics=[name for name in scores if name != "loss"],
        model_name=f"{Path(base_model).name}-{fields.pop('suffix').format(short_name)}",
        eval_results=[
            EvalResult(task, dataset_type, short_name, name, round(value, 4)) for name, value in scores.items()
        ],
        **fields,
    )


def write_model_card(model_dir: Path, run: JsonObject, metrics: JsonObject) -> None:
    """Write README.md into the model folder of a fine-tuning."""
    options, after, adaptation = run["options"], metrics["test"]["after"], run.get("adaptation") or {}
    dataset = str(options["dataset_name"])
    card = build_card_data(
        task="text-classification",
        tags=["sentiment-analysis"],
        base_model=str(adaptation.get("base_model") or options["model_name_or_path"]),
        evaluated=[dataset],
        trained=[dataset, *adaptation.get("datasets", [])],
        scores={name: after[name] for name in list_scores(after)},
        suffix="adapted-{}-sentiment" if adaptation else "{}-sentiment",
    )
    write_page(model_dir / "README.md", "model_card.j2", {"card": card, "run": run, "metrics": metrics})


def write_adapted_model_card(model_dir: Path, run: JsonObject, metrics: JsonObject) -> None:
    """Write README.md into the model folder of an adaptation."""
    datasets, objective = [str(name) for name in run["data"]["datasets"]], metrics["objective"]
    card = build_card_data(
        task=objective["hub_task"],
        tags=[*filter(None, [objective["hub_tag"]]), "domain-adaptation"],
        base_model=str(run["options"]["model_name_or_path"]),
        evaluated=datasets,
        trained=datasets,
        scores={name: metrics["validation"]["after"][name] for name in objective["metrics"]},
        suffix="{}-" + run["options"]["objective"],
    )
    write_page(model_dir / "README.md", "adapted_model_card.j2", {"card": card, "run": run, "metrics": metrics})
