"""The story of a run for a reader: report.md, report.html and the model card.

The wording stands in `templates/`: report.j2 tells the story, html.j2 and markdown.j2 know how to write it.
"""

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import ChainableUndefined, Environment, PackageLoader, Undefined
from transformers import PreTrainedTokenizerBase

from sentiment.evaluation import plots
from sentiment.evaluation.errors import compute_slices, most_confident_errors
from sentiment.evaluation.metrics import LABEL_NAMES
from sentiment.evaluation.terminal import compare_metrics

# What our short names are called on the Hub; the model card may only name what stands there.
HUB_MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_DATASETS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
LONGEST_QUOTE = 300  # characters of a review that the table of errors shows


def write_report(
    run_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write report.md, report.html and the pictures into a run's folder.

    `run` and `metrics` are what run.json and metrics.json hold; predictions.parquet is read for the error analysis.
    Without the latter, or without epochs or figures from before training, the sections that need them are
    left out. The HTML page carries its pictures inside and asks for nothing outside.
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
    for name, writer in (("report.md", "markdown.j2"), ("report.html", "html.j2")):
        report = _environment(writer).get_template("report.j2")
        _write_text(run_dir / name, report.render(story, writer=writer, run_dir=run_dir))


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
    text = (
        _environment("markdown.j2")
        .get_template("model_card.j2")
        .render(card=card, run=run, audit=run.get("data", {}).get("audit"), after=after)
    )
    _write_text(model_dir / "README.md", text)


def escape_markdown(value: object) -> str:
    r"""The text on one line, with every character escaped that Markdown, its tables or HTML would act on.

    >>> print(escape_markdown("<b>5 | 4</b>\n`x` *y*"))
    &lt;b&gt;5 \| 4&lt;/b&gt; \`x\` \*y\*
    """
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


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


@cache
def _environment(writer: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("sentiment.evaluation"),
        autoescape=writer == "html.j2",
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": _or_dash(lambda value: f"{value:,}"),
        "decimal": _or_dash(lambda value: f"{value:.4f}"),
        "duration": _or_dash(_format_duration),
        "number": _or_dash(lambda value: f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"),
        "percent": _or_dash(_format_percent),
        "range": _or_dash(lambda ends: f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}%"),
        "positive_share": _share_positive,
        "data_uri": lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        "escape_markdown": escape_markdown,
        "quote": lambda text: text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE].rstrip() + " …",
    }
    return environment


def _or_dash(form: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same filter, with a dash for a value that the run did not record."""
    return lambda value: "-" if value is None or isinstance(value, Undefined) else form(value)


def _share_positive(part: Mapping[str, Any]) -> float | None:
    """Share of positive rows among the labelled ones of an audited split."""
    labelled = part["labels"]["negative"] + part["labels"]["positive"]
    return part["labels"]["positive"] / labelled if labelled else None


def _format_percent(share: float) -> str:
    # A leak of a few texts among many thousands must not read as none.
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", encoding="utf-8")
    unfinished.replace(path)
