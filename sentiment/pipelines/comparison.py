"""Comparison of two finished fine-tunings on the same test rows: the verdict and its report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sentiment.config.data_arguments import METRICS, check_metric
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.error_analysis import (
    assign_slices,
    count_fixes_and_regressions,
    find_most_confident_flips,
)
from sentiment.evaluation.intervals import compute_proportion_interval
from sentiment.evaluation.significance import compare_predictions
from sentiment.evaluation.study_effects import compare_costs
from sentiment.exceptions import InputError, first_line, require
from sentiment.reporting.comparison_report import FIGURES, write_comparison_report
from sentiment.reporting.summaries import describe_absent_classes, describe_best_baseline
from sentiment.reporting.verdicts import describe_comparison, describe_rule
from sentiment.runs.differences import check_same_classes, check_same_test, list_differences, list_warnings
from sentiment.runs.folder import check_output_dir
from sentiment.runs.results import (
    FinishedRun,
    read_adaptation_metrics,
    read_finished_run,
    read_json_object,
    read_label_issues,
)
from sentiment.storage import write_json

# In the order in which they are written.
WRITTEN_FILES = (*FIGURES, "report.md", "report.html", "verdict.json")


def compare(
    run_a: str | Path,
    run_b: str | Path,
    output_dir: str | Path = "outputs/comparison",
    dataset: str | None = None,
    metric: str | None = None,
    label_issues: str | Path | Sequence[str | Path] = (),
    behaviour: str | Path | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Compare the folders of two fine-tunings, tested on the same rows; write verdict.json, a report and figures.

    With `dataset`, both are tested on its labelled rows instead, without those whose text was among the labelled ones
    of a run; `reading` are arguments of `load_labelled_rows`. The verdict is on `metric`, one of `METRICS`, by default
    that by which both runs chose their checkpoint, else accuracy. With `label_issues`, folders of `audit_label_issues`,
    there is a second one without the test rows whose label they suspect to be wrong. With `behaviour`, a folder of
    behaviour tests of both runs, the report has their failure rates.
    Returns the content of verdict.json: the verdict as a `sentence`, the `better` run ("a", "b" or None), and more. An
    earlier comparison in `output_dir` is replaced; for anything else there, or runs that cannot be compared, raises
    InputError and writes nothing.
    """
    output = Path(output_dir)
    # The first and the last file written, one of which even an interrupted comparison has and no run.
    check_output_dir(output, "comparison", WRITTEN_FILES, (WRITTEN_FILES[0], WRITTEN_FILES[-1]))
    require(Path(run_a).resolve() != Path(run_b).resolve(), f"{run_a} is given twice: pass two different runs")
    first, second = read_finished_run(Path(run_a)), read_finished_run(Path(run_b))
    metric = metric or choose_metric(first, second)
    check_metric(metric, first.class_names)
    require(not (dataset and label_issues), "--label_issues is for the test rows of the runs: omit --dataset")
    if dataset:
        first, second, tested = evaluate_on_new_rows(first, second, dataset, reading)
    else:
        check_same_test(first, second)
        tested = {"dataset": None}
    comparison = compare_finished_runs(first, second, read_tokenizer(first), metric)
    comparison["warnings"] += tested.pop("warnings", [])
    comparison |= tested
    if label_issues:
        lists = [label_issues] if isinstance(label_issues, (str, Path)) else label_issues
        comparison["without_label_issues"] = compare_without_issues(first, second, [*map(Path, lists)], metric)
    if behaviour:
        comparison["behaviour"] = read_behaviour(Path(behaviour), [first, second])
    for name in reversed(WRITTEN_FILES):
        (output / name).unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    metrics = {"a": first.metrics, "b": second.metrics}
    adaptations = {"a": read_adaptation_metrics(first), "b": read_adaptation_metrics(second)}
    write_comparison_report(output, comparison, metrics, adaptations)
    write_json(output / "verdict.json", comparison)
    return comparison


def evaluate_on_new_rows(
    run_a: FinishedRun, run_b: FinishedRun, dataset: str, reading: dict[str, Any]
) -> tuple[FinishedRun, FinishedRun, dict[str, Any]]:
    """Both runs as tested on a dataset's labelled rows whose text neither has a label for; source, split and warnings.

    Raises:
        InputError: the runs have different classes, or no row is new.
    """
    from sentiment.data.labelled_rows import load_labelled_rows
    from sentiment.pipelines.evaluation import evaluate_run  # imports torch
    from sentiment.runs.lineage import describe_seen_texts, find_new_texts  # imports datasets

    check_same_classes(run_a, run_b)
    folders = [str(run.folder) for run in (run_a, run_b)]
    labelled = load_labelled_rows(dataset, run_a.class_names, **reading)
    is_new = find_new_texts(folders, labelled.texts)
    problem = f"{dataset}: every text is among the labelled ones of {' or '.join(folders)}: name new reviews"
    require(bool(is_new.any()), problem)
    labelled = replace(labelled, rows=labelled.rows.select(np.flatnonzero(is_new)))
    warnings = dict.fromkeys(sentence for folder in folders for sentence in describe_seen_texts(folder, labelled.texts))
    if left_out := int((~is_new).sum()):
        about = "among the labelled ones of the runs, whether for training, validation or test"
        warnings[f"{left_out:,} of {len(is_new):,} texts are left out: they are {about}."] = None
    tested = {"dataset": labelled.dataset, "split": labelled.split, "warnings": [*warnings]}
    return evaluate_run(run_a, labelled), evaluate_run(run_b, labelled), tested


def choose_metric(run_a: FinishedRun, run_b: FinishedRun) -> str:
    """The metric by which both runs chose their checkpoint, else accuracy."""
    chosen = {str(run.options.get("metric_for_best_model")) for run in (run_a, run_b)}
    return min(chosen) if len(chosen) == 1 and chosen <= {*METRICS} else "accuracy"


def read_tokenizer(run: FinishedRun) -> PreTrainedTokenizerBase:
    """The tokenizer of a run's model; raises InputError if it cannot be read."""
    folder = run.folder / "model"
    try:  # AutoTokenizer would import torch
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the parsers of its files raise many kinds
        problem = f"cannot read the tokenizer in {folder} ({first_line(error)})"
        raise InputError(f"{problem}: train that run again, with --overwrite") from error
    return tokenizer


def compare_finished_runs(
    run_a: FinishedRun, run_b: FinishedRun, tokenizer: PreTrainedTokenizerBase, metric: str = "accuracy"
) -> dict[str, Any]:
    """The content of verdict.json for two runs with the same test rows; `tokenizer` is that of A."""
    name_a, name_b = choose_names(run_a, run_b)
    texts, labels = run_a.predictions["text"], run_a.predictions["label"]
    clusters = assign_clusters(texts)
    predicted_a, predicted_b = (run.predictions["predicted"] for run in (run_a, run_b))
    num_classes = len(run_a.class_names)
    outcome = compare_predictions(labels, predicted_a, predicted_b, clusters, num_classes=num_classes, metric=metric)
    # The interval of each accuracy is that of the run's own report, not of the bootstrap.
    for key, run in (("a_ci95", run_a), ("b_ci95", run_b)):
        outcome["metrics"]["accuracy"][key] = compute_proportion_interval(run.correct, clusters)
    loss_a, loss_b = (run.metrics["test"]["after"]["loss"] for run in (run_a, run_b))
    train_seconds = (run.metrics["resources"]["train_seconds"] for run in (run_a, run_b))
    adaptation_seconds = ((run.adaptation or {}).get("train_seconds", 0.0) for run in (run_a, run_b))
    return {
        "sentence": describe_comparison(name_a, name_b, outcome),
        "rule": describe_rule(metric),
        "warnings": [
            *list_warnings(run_a, run_b, name_a, name_b),
            *(caution for run, name in ((run_a, name_a), (run_b, name_b)) for caution in list_cautions(run, name)),
        ],
        "baselines": describe_baselines({name_a: run_a, name_b: run_b}),
        "runs": {"a": describe_run(run_a, name_a), "b": describe_run(run_b, name_b)},
        **outcome,
        "metrics": outcome["metrics"] | {"loss": {"a": loss_a, "b": loss_b, "difference": loss_b - loss_a}},
        "slices": count_fixes_and_regressions(
            assign_slices(texts, tokenizer, run_a.language), run_a.correct, run_b.correct
        ),
        "language": run_a.language,
        "flips": find_most_confident_flips(run_a.predictions, run_b.predictions),
        "cost": compare_costs(*train_seconds, *adaptation_seconds),
        "differences": list_differences(run_a, run_b),
    }


def compare_without_issues(
    run_a: FinishedRun, run_b: FinishedRun, folders: Sequence[Path], metric: str
) -> dict[str, Any]:
    """The verdict without the test rows whose label the lists suspect to be wrong, and how many these are.

    A list suspects the rows at which models of one recipe err, and so favours that recipe: there is a verdict only
    with a list of each run.

    Raises:
        InputError: a list is of other rows, or no row is left.
    """
    lists = [read_label_issues(folder, run_a) for folder in folders]
    suspected = set().union(*(rows for rows, _ in lists))
    kept = np.array([row not in suspected for row in run_a.predictions["row"]])
    listed = " and ".join(map(str, folders))
    require(bool(kept.any()), f"{listed}: the label of every test row is suspected, so that none is left to compare")
    labels, predicted_a, predicted_b = (
        np.asarray(found)[kept]
        for found in (run_a.predictions["label"], run_a.predictions["predicted"], run_b.predictions["predicted"])
    )
    clusters = assign_clusters(run_a.predictions["text"])[kept]
    outcome = compare_predictions(
        labels, predicted_a, predicted_b, clusters, num_classes=len(run_a.class_names), metric=metric
    )
    names = choose_names(run_a, run_b)
    sentence = describe_comparison(*names, outcome)
    listed_runs = {run_dir.resolve() for _, run_dir in lists}
    unlisted = [
        name for name, run in zip(names, (run_a, run_b), strict=True) if run.folder.resolve() not in listed_runs
    ]  # fmt: skip
    if unlisted:
        outcome["better"] = None
        sentence = (
            "No verdict: a list holds the rows at which its own recipe errs, and so favours it; list the label issues "
            f"of {' and '.join(unlisted)} too, and pass the folders of both lists."
        )
    return {"folder": listed, "suspected": len(suspected), "sentence": sentence} | outcome


def read_behaviour(folder: Path, runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """The folder, and the cases and failure rates of both runs by capability; raises InputError if it is of others."""
    try:
        content = read_json_object(folder / "behaviour.json", ("models", "capabilities"))
        tested = [model["weights_sha256"] for model in content["models"]]
    except (InputError, OSError, KeyError, TypeError) as error:
        raise InputError(f"no behaviour tests in {folder}: run sentiment behaviour on both first") from error
    weights = [run.record["model"].get("weights_sha256") for run in runs]
    is_of_runs = None not in weights and {*weights} <= {*tested}
    require(is_of_runs, f"{folder} has behaviour tests of other models: run sentiment behaviour on these two")
    places = [tested.index(found) for found in weights]
    rows = [
        [one["name"], one["cases"], *(one["models"][place]["failure_rate"] for place in places)]
        for one in content["capabilities"]
    ]
    return {"folder": str(folder), "failure_rates": rows}


def describe_baselines(runs: Mapping[str, FinishedRun]) -> dict[str, str]:
    """For each run by name, whether it is better than the best of its baselines, in a sentence.

    An adapted model has embeddings of its own, so that the baselines of two runs may differ.
    """
    sentences = {}
    for name, run in runs.items():
        if found := run.metrics.get("baselines"):
            sentence = describe_best_baseline(found)
            is_adapted = bool(run.adaptation) and found["best"] == "embeddings"
            sentences[name] = f"{sentence}, on embeddings of its adapted model" if is_adapted else sentence
    return sentences


def list_cautions(run: FinishedRun, name: str) -> list[str]:
    """What makes a verdict on a run say little about its method, in sentences."""
    cautions = []
    after = run.metrics["test"]["after"]
    majority = after.get("majority_baseline")
    if majority and after["accuracy_ci95"][0] <= majority["accuracy"]:
        cautions.append(
            f"{name} is not shown to be better than always answering '{majority['label']}' "
            f"({majority['accuracy']:.1%}): it may not have learned the task, so that the verdict says little about "
            "its method."
        )
    if run.record["strategy"] == "finetune" and not run.adaptation:
        cautions.append(f"{name} started from a model that was not adapted: it is not strategy B.")
    return cautions + [f"{name}: {sentence}" for sentence in describe_absent_classes(after)]


def choose_names(run_a: FinishedRun, run_b: FinishedRun) -> tuple[str, str]:
    """Names of the runs: the strategies, else the folders' names, else their paths, whichever differ first."""
    runs = (run_a, run_b)
    strategies, folders = [run.record["strategy"] for run in runs], [run.folder.resolve().name for run in runs]
    paths = [str(run.folder) for run in runs]
    return next((first, second) for first, second in (strategies, folders, paths) if first != second)


def describe_run(run: FinishedRun, name: str) -> dict[str, Any]:
    """What verdict.json says about one run."""
    audit = run.record["data"].get("audit") or {}
    return {
        "name": name,
        "folder": str(run.folder),
        "strategy": run.record["strategy"],
        "model": run.options["model_name_or_path"],
        "dataset": run.options["dataset_name"],
        "seed": run.options["seed"],
        "precision": run.record.get("precision"),
        "train_rows": audit.get("splits", {}).get("train", {}).get("rows"),
        "best_epoch": run.metrics["best_epoch"],
        "fingerprints": run.record["data"]["fingerprints"],
        "adaptation": run.adaptation,
    }
