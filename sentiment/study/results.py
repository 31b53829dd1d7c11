"""The runs in a study's folder: which are finished, and their results."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from sentiment.config.data_arguments import METRICS
from sentiment.config.parsing import build_arguments
from sentiment.config.recorded_options import collect_options
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.significance import compute_row_scores, find_collapsed_class
from sentiment.exceptions import require
from sentiment.pipelines import finetuning
from sentiment.reporting.adaptation_report import find_restored
from sentiment.runs.folder import check_same_data, is_finished, read_run
from sentiment.runs.results import read_finished_run
from sentiment.storage import read_json
from sentiment.study.arguments import RESERVED_ADAPTATION, RESERVED_FINETUNING
from sentiment.study.plan import PlannedAdaptation, PlannedFinetuning, StudyData, StudyPlan, match_steps

# Options of adaptations that their table leaves out: those of the study, and the texts, which have a column.
UNSHOWN = RESERVED_ADAPTATION | {"cleaning", "dataset_name"}


def is_adapted(planned: PlannedAdaptation) -> bool:
    """Whether this adaptation is finished; raises InputError if its folder holds another one."""
    matched = match_steps(planned)
    return matched is not None and is_finished(matched.folder, matched.recorded_options, resume=True)


def is_finetuned(planned: PlannedFinetuning, data: StudyData) -> bool:
    """Whether this fine-tuning is finished; raises InputError if its folder holds one that is not of this study."""
    folder, adaptation = planned.folder, planned.adaptation
    finished = is_finished(folder, planned.recorded_options, resume=True)
    check_same_data(folder, data.fingerprints[planned.budget, planned.seed])
    if adaptation and (folder / "run.json").exists():
        recorded = read_run(folder).get("adaptation") or {}
        expected: dict[str, Any] = {}
        if (adaptation / "metrics.json").exists():
            loss = read_json(adaptation / "metrics.json")["validation"]["after"]["loss"]
            expected = {"loss_after": loss, "seconds": read_run(adaptation)["seconds"]}
        require(
            bool(expected) and expected.items() <= recorded.items(),
            f"{folder} started from another model than {adaptation} holds: remove {folder}, or pass another "
            "--output_dir",
        )
    return finished


def read_results(plan: StudyPlan) -> tuple[list[dict[str, Any]], list[np.ndarray], np.ndarray]:
    """A row per run, as in results.parquet, the `compute_row_scores` of its test rows, and the rows' clusters.

    Seconds are training time. `total_seconds` includes all of the adaptation, `amortized_seconds` the adaptation
    divided by the number of runs that start from it.
    """
    sharing = Counter(planned.adaptation for planned in plan.finetunings)
    rows, row_scores, metric = [], [], plan.options.args.metric
    texts: list[str] = []
    for planned in plan.finetunings:
        check_same_data(planned.folder, plan.data.fingerprints[planned.budget, planned.seed])
        run = read_finished_run(planned.folder)
        texts = run.predictions["text"]
        after, seconds = run.metrics["test"]["after"], run.metrics["resources"]["train_seconds"]
        baselines = run.metrics.get("baselines") or {}
        best, scores = baselines.get("best"), baselines.get("scores", {})
        adaptation_seconds = run.adaptation["train_seconds"] if run.adaptation else 0.0
        rows.append(
            {
                "arm": planned.arm,
                "budget": plan.data.train_rows[planned.budget],
                "seed": planned.seed,
                **{name: after[name] for name in (*METRICS, "loss") if name in after},
                "baseline": best,
                "baseline_score": scores[best][metric] if best else None,
                "collapsed": find_collapsed_class(after["confusion_matrix"]) is not None,
                "validation_score": run.metrics["validation"][metric],
                "best_epoch": run.metrics["best_epoch"],
                "train_seconds": seconds,
                "adaptation_seconds": adaptation_seconds,
                "total_seconds": seconds + adaptation_seconds,
                "amortized_seconds": seconds + adaptation_seconds / sharing[planned.adaptation],
            }
        )
        labels, predicted = run.predictions["label"], run.predictions["predicted"]
        row_scores.append(compute_row_scores(labels, predicted, len(run.class_names), metric))
    return rows, row_scores, assign_clusters(texts)


def describe_setup(plan: StudyPlan) -> dict[str, Any]:
    """The setup of the study in verdict.json: options, rows, adaptations, machine."""
    options, data, first = plan.options, plan.data, plan.finetunings[0]
    fingerprints = data.fingerprints[first.budget, first.seed]
    record = read_run(first.folder)
    shared = collect_options(*build_arguments(finetuning.ARGUMENTS, options.finetuning))
    return {
        "validation_rows": data.validation_rows,
        "test_rows": data.test_rows,
        "fingerprints": {name: fingerprints[name] for name in ("validation", "test")},
        "options": {
            "study": asdict(options.args),
            "arms": {name: asdict(arm) for name, arm in options.arms.items()},
            "finetuning": {name: value for name, value in shared.items() if name not in RESERVED_FINETUNING},
            "budget_options": {
                str(rows): options.budget_options[budget]
                for budget, rows in data.train_rows.items()
                if budget in options.budget_options
            },
        },
        "adaptations": [describe_adaptation(planned, plan) for planned in plan.adaptations],
        "hardware": record.get("hardware"),
        "precision": record.get("precision"),
    }


def describe_adaptation(planned: PlannedAdaptation, plan: StudyPlan) -> dict[str, Any]:
    """An adaptation in verdict.json."""
    run, metrics = read_run(planned.folder), read_json(planned.folder / "metrics.json")
    resources, steps, audit = metrics["resources"], metrics["history"][-1]["step"], run["data"]["audit"]
    options = plan.options.adaptations[planned.kind]
    return {
        "name": planned.folder.name,
        "kind": planned.kind,
        "datasets": run["data"]["datasets"],
        "rows": audit.get("texts" if "polarities" in audit else "rows", {}).get("train"),
        "options": {name: value for name, value in options.items() if name not in UNSHOWN},
        "reads_labels": plan.options.reads_labels(planned.kind),
        "dropped_in_test": audit.get("dropped", {}).get("in_test"),
        "steps": steps,
        "kept_step": (find_restored(metrics) or {}).get("step", steps),
        "tokens": resources["tokens_per_second"] * resources["train_seconds"],
        "train_seconds": resources["train_seconds"],
        "loss_before": metrics["validation"]["before"]["loss"],
        "loss_after": metrics["validation"]["after"]["loss"],
        "num_finetunings": sum(run.adaptation == planned.folder for run in plan.finetunings),
    }
