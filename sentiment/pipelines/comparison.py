"""The sequence of `sentiment compare`: two finished runs, the same test rows, the verdict, the report."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sentiment.evaluation.cost import compare_costs
from sentiment.evaluation.error_analysis import count_fixes_and_regressions, find_most_confident_flips
from sentiment.evaluation.significance import RULE, compare_predictions, describe_verdict
from sentiment.evaluation.slices import assign_slices
from sentiment.exceptions import InputError, first_line, require
from sentiment.reporting.comparison_report import PICTURES, write_comparison_report
from sentiment.runs.differences import check_same_test, list_differences, list_warnings
from sentiment.runs.results import FinishedRun, read_adaptation_metrics, read_finished_run
from sentiment.storage import list_folder, write_json

# In the order in which they are written.
WRITTEN_FILES = (*PICTURES, "report.md", "report.html", "verdict.json")
# The first and the last of them, which no run's folder holds: a comparison, even one cut short, has one of them.
MARKS = {WRITTEN_FILES[0], WRITTEN_FILES[-1]}


def compare_runs(folder_a: str, folder_b: str, output_dir: str) -> dict[str, Any]:
    """What verdict.json holds of two fine-tunings; it, a report and pictures are in the folder `output_dir` then.

    Raises:
        InputError: a run is missing, unfinished, damaged or no fine-tuning; the two were tested on different rows; or
            `output_dir` holds something else than an earlier comparison. Nothing is written then.
    """
    output = Path(output_dir)
    check_output(output)
    require(Path(folder_a).resolve() != Path(folder_b).resolve(), f"{folder_a} is both runs: pass two different ones")
    run_a, run_b = read_finished_run(Path(folder_a)), read_finished_run(Path(folder_b))
    check_same_test(run_a, run_b)
    comparison = compare_finished(run_a, run_b, load_fast_tokenizer(run_a.folder / "model"))
    for name in reversed(WRITTEN_FILES):
        (output / name).unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    adaptations = {key: read_adaptation_metrics(run) for key, run in (("a", run_a), ("b", run_b))}
    write_comparison_report(output, comparison, {"a": run_a.metrics, "b": run_b.metrics}, adaptations)
    write_json(output / "verdict.json", comparison)
    return comparison


def compare_finished(run_a: FinishedRun, run_b: FinishedRun, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The verdict on two runs that were tested on the same rows, and all else that verdict.json holds.

    `tokenizer` is A's, whose vocabulary and texts say which slices a text belongs to.
    """
    name_a, name_b = choose_names(run_a, run_b)
    outcome = compare_predictions(
        run_a.predictions["label"], run_a.predictions["predicted"], run_b.predictions["predicted"]
    )
    after_a, after_b = (run.metrics["test"]["after"] for run in (run_a, run_b))
    # The interval of an accuracy by itself is the one that the run's own report gives.
    outcome["metrics"]["accuracy"] |= {"a_ci95": after_a["accuracy_ci95"], "b_ci95": after_b["accuracy_ci95"]}
    losses = {"a": after_a["loss"], "b": after_b["loss"], "difference": after_b["loss"] - after_a["loss"]}
    train_a, train_b = (run.metrics["resources"]["train_seconds"] for run in (run_a, run_b))
    adaptation_a, adaptation_b = ((run.adaptation or {}).get("train_seconds", 0.0) for run in (run_a, run_b))
    return {
        "sentence": describe_verdict(name_a, name_b, outcome),
        "rule": RULE,
        "warnings": list_warnings(run_a, run_b, name_a, name_b),
        "runs": {"a": describe_compared_run(run_a, name_a), "b": describe_compared_run(run_b, name_b)},
        **outcome,
        "metrics": outcome["metrics"] | {"loss": losses},
        "slices": count_fixes_and_regressions(
            assign_slices(run_a.predictions["text"], tokenizer), run_a.right, run_b.right
        ),
        "flips": find_most_confident_flips(run_a.predictions, run_b.predictions),
        "cost": compare_costs(train_a, train_b, adaptation_a, adaptation_b),
        "differences": list_differences(run_a, run_b),
    }


def choose_names(run_a: FinishedRun, run_b: FinishedRun) -> tuple[str, str]:
    """What to call the runs: their strategies, their folders' names or the whole paths, the first that differ."""
    for names in (
        (run_a.record["strategy"], run_b.record["strategy"]),
        (run_a.folder.resolve().name, run_b.folder.resolve().name),
    ):
        if names[0] != names[1]:
            return names
    return str(run_a.folder), str(run_b.folder)


def describe_compared_run(run: FinishedRun, name: str) -> dict[str, Any]:
    """What a comparison says of one run by itself."""
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


def load_fast_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that a run saved, without the wait for torch that AutoTokenizer brings.

    Raises:
        InputError: its files are missing or damaged.
    """
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # a damaged file raises whatever its parser raises
        raise InputError(
            f"cannot read the tokenizer in {folder} ({first_line(error)}): train that run again, with --overwrite"
        ) from error


def check_output(output: Path) -> None:
    """Refuses a folder that holds something else than an earlier comparison, which may be replaced.

    Raises:
        InputError: names what it holds.
    """
    for path in (output, *output.parents):
        require(path.is_dir() or not path.exists(), f"{path} is a file: pass another --output_dir")
    names = {path.name.removesuffix(".part") for path in list_folder(output)}
    strangers = sorted(names.difference(WRITTEN_FILES))
    require(
        not strangers, f"{output} holds {', '.join(strangers[:3])}, no part of a comparison: pass another --output_dir"
    )
    require(
        not names or bool(names & MARKS), f"{output} is not empty and holds no comparison: pass another --output_dir"
    )
