"""In what two runs differ: whether that forbids to compare them, and what a reader must know of it."""

from collections.abc import Mapping
from typing import Any

from sentiment.exceptions import InputError
from sentiment.runs.folder import NEUTRAL_OPTIONS
from sentiment.runs.results import FinishedRun

TEST_OPTIONS = ("dataset_name", "split", "max_rows", "sample", "cleaning", "keep_duplicates")


def check_same_test(run_a: FinishedRun, run_b: FinishedRun) -> None:
    """Refuses two runs that were not tested on the same rows, in the same order, with the same labels.

    The texts must be the same too, but where the cleaning differs: that is part of a run, as its model is.

    Raises:
        InputError: names the options that explain it, or says that the data changed.
    """
    same_text = run_a.options["cleaning"] == run_b.options["cleaning"]
    columns = ("row", "label", "text") if same_text else ("row", "label")
    same_source = same_text or run_a.options["dataset_name"] == run_b.options["dataset_name"]
    if same_source and all(run_a.predictions[name] == run_b.predictions[name] for name in columns):
        return
    wanted = [choose_test_options(run) for run in (run_a, run_b)]
    found = ", ".join(f"{name} {one} and {other}" for name, (one, other) in find_differences(*wanted).items())
    folders = f"{run_a.folder} and {run_b.folder} were tested on different rows"
    if found:
        raise InputError(f"{folders} ({found}): train one of them again, with the other's options")
    raise InputError(f"{folders} though their options agree: the data changed; train one of them again on today's")


def choose_test_options(run: FinishedRun) -> dict[str, Any]:
    """The options of a run that decide which rows are tested, and what they read like."""
    split_seed = run.options.get("split_seed")
    seed = run.options["seed"] if split_seed is None else split_seed
    return {name: run.options.get(name) for name in TEST_OPTIONS} | {"seed of the split": seed}


def find_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The keys whose values differ, with both values; None where one has no such key.

    >>> find_differences({"lr": 1, "seed": 3}, {"lr": 2, "seed": 3})
    {'lr': [1, 2]}
    """
    names = [*first, *(name for name in second if name not in first)]
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def list_differences(run_a: FinishedRun, run_b: FinishedRun) -> dict[str, dict[str, list[Any]]]:
    """Every option, fact of the machine and version of a library in which the runs differ, with both values."""
    differences = find_differences(run_a.options, run_b.options)
    return {
        "options": {name: pair for name, pair in differences.items() if name not in NEUTRAL_OPTIONS},
        "machine": find_differences(describe_machine(run_a), describe_machine(run_b)),
        "versions": find_differences(run_a.record.get("versions") or {}, run_b.record.get("versions") or {}),
    }


def describe_machine(run: FinishedRun) -> dict[str, Any]:
    """What a run's seconds depend on beside its options."""
    return {"precision": run.record.get("precision")} | (run.record.get("hardware") or {})


def list_warnings(run_a: FinishedRun, run_b: FinishedRun, name_a: str, name_b: str) -> list[str]:
    """What stands in the way of laying the difference on the method alone, in sentences."""
    warnings = []
    train_a, train_b = (run.record["data"]["fingerprints"].get("train") for run in (run_a, run_b))
    if run_a.options["cleaning"] != run_b.options["cleaning"]:
        warnings.append(
            f"The texts were cleaned in two ways ({run_a.options['cleaning']} and {run_b.options['cleaning']}): the "
            "test has the same rows and labels, but not the same wording, and fingerprints cannot tell whether "
            "training had the same rows."
        )
    elif train_a != train_b:
        warnings.append(
            f"{name_a} and {name_b} were not trained on the same rows (fingerprints {train_a} and {train_b}): a "
            "difference may come from the rows."
        )
    base_a, base_b = (
        str((run.adaptation or {}).get("base_model", run.options["model_name_or_path"])) for run in (run_a, run_b)
    )
    if base_a != base_b:
        warnings.append(f"{name_a} and {name_b} go back to different models ({base_a} and {base_b}).")
    if run_a.options["seed"] != run_b.options["seed"]:
        warnings.append(
            f"{name_a} and {name_b} have different seeds ({run_a.options['seed']} and {run_b.options['seed']}): a "
            "difference may come from chance in training."
        )
    return warnings
