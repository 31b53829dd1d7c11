"""The story of a run for a reader: report.md, report.html, the table in the terminal and the model card.

The wording stands in `templates/`: report.j2 tells the story once, html.j2 and markdown.j2 know how to write it.
"""

import base64
import json
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

HEADLINE_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "macro_f1": "macro F1",
    "loss": "loss",
}
# What our short names are called on the Hub; the model card may only name what stands there.
HUB_MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_DATASETS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
LONGEST_QUOTE = 300  # characters of a review that the table of errors shows


def write_report(run_dir: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write report.md, report.html and the pictures into a run's folder.

    Reads run.json and metrics.json there, and predictions.parquet for the error analysis; without the
    latter, or without epochs or figures from before training, the sections that need them are left out.
    The HTML page carries its pictures inside and asks for nothing outside.
    """
    run = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    story = {
        "run": run,
        "audit": run.get("data", {}).get("audit"),
        "metrics": metrics,
        "before": metrics["test"].get("before"),
        "after": metrics["test"]["after"],
        "comparison": _compare(metrics),
        "figures": _write_plots(run_dir, metrics),
        "errors": _analyze_errors(run_dir / "predictions.parquet", tokenizer),
        "label_names": LABEL_NAMES,
    }
    for name, writer in (("report.md", "markdown.j2"), ("report.html", "html.j2")):
        report = _environment(writer).get_template("report.j2")
        _write_text(run_dir / name, report.render(story, writer=writer, run_dir=run_dir))


def render_before_after(metrics: Mapping[str, Any]) -> str:
    """The test metrics before and after training as a plain-text table, for a terminal."""
    lines = [f"{'test':<10}{'before':>10}{'after':>10}{'change':>10}"]
    for row in _compare(metrics):
        lines.append("".join([f"{row['name']:<10}"] + [f"{row[key]:>10}" for key in ("before", "after", "change")]))
    low, high = metrics["test"]["after"]["accuracy_ci95"]
    return "\n".join([*lines, f"accuracy after training, 95% interval: {low:.4f} to {high:.4f}"])


def write_model_card(model_dir: Path, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write README.md into a model's folder: front matter in the Hub's format, then what a user must know."""
    options, after = run["options"], metrics["test"]["after"]
    base_model, dataset = str(options["model"]), str(options["dataset"])
    hub_dataset = _hub_name(dataset, HUB_DATASETS)
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=hub_dataset or Path(dataset).stem,
            dataset_name=Path(dataset).stem,
            dataset_split="test",
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
        model_name=f"{Path(base_model).name}-{Path(dataset).stem}-sentiment",
        eval_results=results,
    )
    text = _environment("markdown.j2").get_template("model_card.j2").render(
        card=card, run=run, audit=run.get("data", {}).get("audit"), after=after
    )
    _write_text(model_dir / "README.md", text)


def escape_markdown(value: object) -> str:
    r"""The text on one line, with every character escaped that Markdown, its tables or HTML would act on.

    >>> print(escape_markdown("<b>5 | 4</b>\n`x` *y*"))
    &lt;b&gt;5 \| 4&lt;/b&gt; \`x\` \*y\*
    """
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


def _compare(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    before, after = metrics["test"].get("before") or {}, metrics["test"]["after"]
    rows = []
    for key, name in HEADLINE_METRICS.items():
        old, new = before.get(key), after.get(key)
        rows.append(
            {
                "name": name,
                "before": "-" if old is None else f"{old:.4f}",
                "after": "-" if new is None else f"{new:.4f}",
                "change": "-" if old is None or new is None else f"{new - old:+.4f}",
            }
        )
    return rows


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
        "data_uri": lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        "escape_markdown": escape_markdown,
        "quote": lambda text: text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE].rstrip() + " …",
    }
    return environment


def _or_dash(form: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same filter, with a dash for a value that the run did not record."""
    return lambda value: "-" if value is None or isinstance(value, Undefined) else form(value)


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
