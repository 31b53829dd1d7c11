"""The story of an adaptation for a reader: report.md, report.html and the model card."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from sentiment.evaluation.adaptation_plots import find_restored, has_epochs, plot_masked_loss
from sentiment.evaluation.adaptation_terminal import compare_adaptation
from sentiment.evaluation.hub_names import HUB_DATASETS, HUB_MODELS, find_hub_name, shorten_dataset_name
from sentiment.evaluation.rendering import render_template, write_pages, write_text

MASK = "[MASK]"
WHEN = ("before", "after")
LONGEST_SIDE = 110  # characters that a table shows on each side of a mask
BERT_VOCABULARY = 30_522
COPYING_LOSS = 0.1  # nats; the entropy of text that a model cannot see is far above


def write_adaptation_report(run_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write report.md, report.html and loss.png into the folder of an adaptation.

    `run` and `metrics` are what its run.json and metrics.json hold. Sections are left out where what they need was
    not recorded: the picture without `steps`, the comparison without figures from before training.
    """
    before, after = metrics["validation"].get("before"), metrics["validation"]["after"]
    history = metrics.get("history") or []
    vocabulary = run.get("model", {}).get("vocab_size", BERT_VOCABULARY)
    has_picture = bool(metrics.get("steps") and history)
    if has_picture:
        plot_masked_loss(metrics, run_dir / "loss.png")
    story = {
        "run": run,
        "audit": run.get("data", {}).get("audit"),
        "metrics": metrics,
        "before": before,
        "after": after,
        "comparison": compare_adaptation(metrics),
        "filled_masks": summarize_filled_masks(metrics.get("filled_masks") or []),
        "has_picture": has_picture,
        "has_epochs": has_epochs(history),
        "restored": find_restored(metrics) if history else None,
        "vocabulary": vocabulary,
        "even_guessing": math.log(vocabulary),
        "head_is_fresh": run.get("model", {}).get("has_fresh_head", False),
        "is_copying": after["loss"] < COPYING_LOSS,
    }
    write_pages(run_dir, "adaptation.j2", story)


def write_adapted_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into an adapted model's folder: front matter in the Hub's format, then what a user must know."""
    base_model, datasets = str(run["options"]["model"]), [str(name) for name in run["data"]["datasets"]]
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
    write_text(model_dir / "README.md", render_template("adapted_model_card.j2", story))


def summarize_filled_masks(filled_masks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The filled masks with their texts cut to what is near the mask, and how many first guesses were right."""
    rows = [{**mask, "text": quote_around_mask(mask["text"])} for mask in filled_masks]
    return {"rows": rows} | {when: sum(is_right(mask[when], mask["word"]) for mask in rows) for when in WHEN}


def is_right(guesses: Sequence[Sequence[Any]], word: str) -> bool:
    """Whether the first of the guesses, best first, is the word; a vocabulary may know it in lower case only."""
    return bool(guesses) and guesses[0][0].lower() == word.lower()


def quote_around_mask(text: str) -> str:
    """The text near its mask, cut between words, an ellipsis where it goes on.

    >>> quote_around_mask("a very [MASK] film")
    'a very [MASK] film'
    """
    left, mask, right = text.partition(MASK)
    if len(left) > LONGEST_SIDE:
        left = "… " + left[-LONGEST_SIDE:].partition(" ")[2]
    if len(right) > LONGEST_SIDE:
        right = right[:LONGEST_SIDE].rpartition(" ")[0] + " …"
    return left + mask + right
