"""What the finished runs of a study say, read back from their folders."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from sentiment.config.arguments import collect_options
from sentiment.data.leaks import assign_clusters
from sentiment.exceptions import require
from sentiment.reporting.adaptation_report import find_restored
from sentiment.runs.folder import read_run
from sentiment.runs.results import read_finished_run
from sentiment.storage import read_json
from sentiment.study.checks import StudyData, check_data
from sentiment.study.plan import AdaptationPlan, StudyPlan


def read_results(plan: StudyPlan, data: StudyData) -> tuple[list[dict[str, Any]], list[np.ndarray], np.ndarray]:
    """A row per run, as in results.parquet, which test rows each run classifies correctly, and the rows' clusters.

    `adaptation_seconds` count in full in `total_seconds`; in `amortized_seconds` they are shared out among all runs of
    the study that started from the same adaptation. Seconds are those of training alone.

    Raises:
        InputError: a run's files are damaged, or it was tested on other rows than the others.
    """
    sharing = Counter(run.adaptation for run in plan.finetunings)
    rows, correct = [], []
    texts: list[str] = []
    tested: tuple[list[int], list[int]] | None = None
    for planned in plan.finetunings:
        check_data(planned, data)
        run = read_finished_run(planned.folder)
        own = run.predictions["row"], run.predictions["label"]
        require(
            tested in (None, own),
            f"{planned.folder} was tested on other rows than {plan.finetunings[0].folder}: remove the folder that is "
            "wrong, and give the same command again",
        )
        tested, texts = own, run.predictions["text"]
        after, alone = run.metrics["test"]["after"], run.metrics["resources"]["train_seconds"]
        adaptation = run.adaptation["train_seconds"] if run.adaptation else 0.0
        rows.append(
            {
                "arm": planned.arm,
                "budget": data.train_rows[planned.budget],
                "seed": planned.seed,
                "accuracy": after["accuracy"],
                "f1": after["f1"],
                "loss": after["loss"],
                "validation_accuracy": run.metrics["validation"]["accuracy"],
                "best_epoch": run.metrics["best_epoch"],
                "train_seconds": alone,
                "adaptation_seconds": adaptation,
                "total_seconds": alone + adaptation,
                "amortized_seconds": alone + adaptation / sharing[planned.adaptation],
            }
        )
        correct.append(run.correct)
    return rows, correct, assign_clusters(texts)


def write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes one row a run as Parquet."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def describe_setup(plan: StudyPlan, data: StudyData) -> dict[str, Any]:
    """What verdict.json says of how the study was done: options, rows, adaptations, machine."""
    options, first = plan.options, plan.finetunings[0]
    fingerprints = data.fingerprints[first.budget, first.seed]
    record = read_run(first.folder)
    return {
        "validation_rows": data.validation_rows,
        "test_rows": data.test_rows,
        "fingerprints": {name: fingerprints[name] for name in ("validation", "test")},
        "options": {
            "study": asdict(options.args),
            "finetuning": collect_options(options.model_args, options.data_args, options.run_args),
            "budget_options": {
                f"{data.train_rows[budget]}": own
                for budget, own in options.budget_options.items()
                if budget in data.train_rows
            },
        },
        "adaptations": [describe_adaptation(adaptation, plan) for adaptation in plan.adaptations],
        "hardware": record.get("hardware"),
        "precision": record.get("precision"),
    }


def describe_adaptation(adaptation: AdaptationPlan, plan: StudyPlan) -> dict[str, Any]:
    """What a study says of one adaptation."""
    run, metrics = read_run(adaptation.folder), read_json(adaptation.folder / "metrics.json")
    resources, steps = metrics["resources"], metrics["history"][-1]["step"]
    return {
        "name": adaptation.folder.name,
        "kind": adaptation.kind,
        "datasets": adaptation.corpus_args.dataset_name,
        "rows": run["data"]["audit"].get("rows", {}).get("train"),
        "dropped_in_test": run["data"]["audit"].get("dropped", {}).get("in_test"),
        "steps": steps,
        "kept_step": (find_restored(metrics) or {}).get("step", steps),
        "tokens": resources["tokens_per_second"] * resources["train_seconds"],
        "train_seconds": resources["train_seconds"],
        "loss_before": metrics["validation"]["before"]["loss"],
        "loss_after": metrics["validation"]["after"]["loss"],
        "num_finetunings": sum(run.adaptation == adaptation.folder for run in plan.finetunings),
    }
