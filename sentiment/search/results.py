"""The results of a search: the best trial, its gain over the defaults, how much of that holds; its options as YAML."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.significance import compute_row_scores
from sentiment.evaluation.study_effects import compare_arms
from sentiment.reporting.search_report import describe_search
from sentiment.runs.folder import read_run
from sentiment.runs.results import read_predictions, stack_probabilities
from sentiment.search.arguments import SearchOptions
from sentiment.search.sampling import compute_importances, load_study
from sentiment.search.tasks import ADAPTATIONS, Task
from sentiment.search.trial import COMPLETE, FAILED, PREDICTIONS_FILE, PRUNED
from sentiment.storage import write_atomically

BEST_FILE, BEST_ADAPTATION_FILE = "best.yaml", "best_mlm.yaml"
TRIAL_KEYS = ("index", "state", "score", "loss", "scores", "collapsed", "reason", "progress", "adaptations", "seconds",
              "train_seconds")  # fmt: skip


def choose_best(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The completed trial with the highest score, of equal ones that with the lowest loss; None if there is none."""
    complete = [dict(record) for record in records if record["state"] == COMPLETE]
    return max(complete, key=lambda record: (record["score"], -record["loss"]), default=None)


def summarize_search(
    options: SearchOptions,
    defaults: Task,
    trials: Sequence[Task],
    best: Mapping[str, Any],
    confirmed: Sequence[Task],
    rows: Mapping[str, int],
) -> dict[str, Any]:
    """The content of search.json."""
    args, records = options.args, [task.record for task in trials]
    known = [record for record in records if record]
    default = defaults.record or {}
    run = read_run(defaults.folder / f"seed_{args.seeds[0]}")
    counts = Counter(record["state"] for record in known)
    candidate = options.build_candidate(best["params"])
    summary: dict[str, Any] = {
        "metric": args.metric,
        "seeds": args.seeds,
        "rows": dict(rows),
        "best": describe_trial(options, best),
        "defaults": describe_trial(options, default) | {"options": read_defaults(options, run, default)},
        "difference": best["score"] - default["score"],
        "shares_adaptation": options.adaptation is not None and not candidate.reads_labels,
        "confirmation": compare_confirmed(confirmed, args.metric, best["score"]),
        "importances": compute_importances(load_study(options), args.seed),
        "counts": {state: counts[state] for state in (COMPLETE, PRUNED, FAILED)},
        "seconds": count_seconds([default, *known, *(task.record or {} for task in confirmed)]),
        "space": {dimension.key: dimension.describe() for dimension in options.space},
        "trials": [describe_trial(options, record) for record in known],
        "options": options.describe(),
        "output_dir": args.output_dir,
        "jobs": args.jobs,
        "hardware": run.get("hardware"),
        "precision": run.get("precision"),
        "versions": run.get("versions"),
        "commands": list_commands(options),
    }
    return {"sentences": describe_search(summary)} | summary


def describe_trial(options: SearchOptions, record: Mapping[str, Any]) -> dict[str, Any]:
    """A trial in search.json: its record, with the options as they were trained."""
    params = record.get("params") or {}
    values = {dim.key: dim.convert(params[dim.key]) for dim in options.space if dim.key in params}
    return {name: record[name] for name in TRIAL_KEYS if name in record} | {"options": values}


def read_defaults(options: SearchOptions, run: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each option of the space in the run with the defaults, which may depend on the rows."""
    recorded = {"finetuning": run["options"], "adaptation": {}}
    for name in record.get("adaptations") or ():
        recorded["adaptation"] = read_run(options.folder / ADAPTATIONS / name)["options"]
    return {dim.key: recorded[dim.stage].get(dim.name) for dim in options.space}


def count_seconds(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of all trainings, of fine-tuning and of each adaptation once, and of pruned or failed trials."""
    adaptations = {name: seconds for record in records for name, seconds in record.get("adaptations", {}).items()}
    stopped = sum(record.get("seconds", 0.0) for record in records if record.get("state") != COMPLETE)
    return {
        "total": sum(record.get("seconds", 0.0) for record in records),
        "finetuning": sum(record.get("train_seconds", 0.0) for record in records),
        "adaptation": sum(adaptations.values()),
        "stopped": stopped,
    }


def compare_confirmed(confirmed: Sequence[Task], metric: str, best_score: float) -> dict[str, Any] | None:
    """The validation scores of the best options and the defaults on other seeds, and their difference; None without.

    The interval is for other seeds and other validation rows. `drop` is how much of the best score was luck of the
    selection: the score in the search minus that on other seeds. Seeds with which one of both has failed are left out.
    """
    found: dict[int, dict[str, np.ndarray]] = {}
    clusters = np.empty(0)
    for task in confirmed:
        if task.record and task.record["state"] == COMPLETE:
            (seed,) = task.seeds
            predictions = read_predictions(task.folder / f"seed_{seed}" / PREDICTIONS_FILE)
            num_classes = stack_probabilities(predictions).shape[1]
            scored = compute_row_scores(predictions["label"], predictions["predicted"], num_classes, metric)
            found.setdefault(seed, {})["defaults" if "defaults" in task.name else "best"] = scored
            clusters = clusters if len(clusters) else assign_clusters(predictions["text"])
    paired = {seed: pair for seed, pair in found.items() if len(pair) == 2}
    if not paired:
        return None
    values = {kind: np.stack([pair[kind] for pair in paired.values()]) for kind in ("best", "defaults")}
    scores = {kind: rows.mean(axis=1).tolist() for kind, rows in values.items()}
    means = {kind: fmean(scores[kind]) for kind in scores}
    return {
        "seeds": list(paired),
        **scores,
        "best_mean": means["best"],
        "defaults_mean": means["defaults"],
        **compare_arms(values["defaults"], values["best"], clusters),
        "drop": best_score - means["best"],
        "failed": sum(task.record is not None and task.record["state"] != COMPLETE for task in confirmed),
    }


def get_run_folders(options: SearchOptions) -> tuple[str, str]:
    """The folders that the best options train to: of the fine-tuning, and of the adaptation before it."""
    folder = str(options.folder)
    return f"{folder}_best", f"{folder}_best_mlm"


def list_commands(options: SearchOptions) -> list[str]:
    """The commands that train with the best options, and test."""
    if options.adaptation is None:
        return [f"python train_e2e.py {options.folder / BEST_FILE}"]
    return [
        f"python train_mlm.py {options.folder / BEST_ADAPTATION_FILE}",
        f"python train_finetune.py {options.folder / BEST_FILE}",
    ]


def write_best_options(options: SearchOptions, best: Mapping[str, Any], sentences: Sequence[str]) -> None:
    """Write best.yaml and, with an adaptation, best_mlm.yaml, which the training scripts take as they are."""
    candidate = options.build_candidate(best["params"])
    run_dir, adapted_dir = get_run_folders(options)
    own = {"seed": options.args.seeds[0], "output_dir": run_dir}
    adapting = candidate.build_adaptation(options.args.seeds[0])
    if adapting is not None:
        own |= {"model_name_or_path": adapted_dir, "model_revision": None}
        adapting = adapting | {"output_dir": adapted_dir}
        write_options(
            options.folder / BEST_ADAPTATION_FILE, adapting, ["Adaptation of the best options; then best.yaml."]
        )
    write_options(options.folder / BEST_FILE, candidate.finetuning | own, sentences)


def write_options(path: Path, values: Mapping[str, Any], comments: Sequence[str]) -> None:
    """Write the options that have a value as YAML, below comments."""
    given = {name: value for name, value in values.items() if value is not None}
    text = "".join(f"# {comment}\n" for comment in comments) + yaml.safe_dump(given, sort_keys=True, allow_unicode=True)
    with write_atomically(path) as staged:
        staged.write_text(text, encoding="utf-8")


def remove_adapted_weights(folder: Path, kept: Collection[str]) -> None:
    """Remove the weights of adaptations but those of the best trial; one that is needed again is trained again."""
    for run_dir in folder.glob("*/"):
        if run_dir.name not in kept:
            for weights in (run_dir / "model").glob("*.safetensors"):
                weights.unlink()
