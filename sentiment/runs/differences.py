"""Differences between two runs: those that forbid a comparison, and those that a reader must know."""

from collections.abc import Mapping
from typing import Any

from sentiment.exceptions import InputError
from sentiment.runs.folder import NEUTRAL_OPTIONS
from sentiment.runs.results import FinishedRun

TEST_OPTIONS = ("dataset_name", "split", "max_rows", "sample", "cleaning", "keep_duplicates")
# Of the training, beside those in which the strategies differ.
TRAINING_OPTIONS = (
    *("learning_rate", "head_lr", "batch_size", "num_train_epochs", "max_steps", "max_seq_length", "truncation"),
    *("adversarial_epsilon", "class_weights", "metric_for_best_model"),
)
SPEED_FACTS = ("device", "name", "cores", "threads", "processes")  # of the hardware, on which training time depends


def check_same_test(run_a: FinishedRun, run_b: FinishedRun) -> None:
    """Raise InputError unless the runs were tested on the same rows, in the same order, with the same labels and texts.

    Texts may differ if the cleaning does, which is a part of a run like its model.
    """
    same_cleaning = run_a.options["cleaning"] == run_b.options["cleaning"]
    columns = ("row", "label", "text") if same_cleaning else ("row", "label")
    same_source = same_cleaning or run_a.options["dataset_name"] == run_b.options["dataset_name"]
    check_same_classes(run_a, run_b)
    if same_source and all(run_a.predictions[name] == run_b.predictions[name] for name in columns):
        return
    differences = find_differences(select_test_options(run_a), select_test_options(run_b))
    found = ", ".join(f"{name} {first} and {second}" for name, (first, second) in differences.items())
    advice = "with the same options, so the data changed: train one of them again"
    if found:
        advice = f"({found}): train one of them again with the options of the other"
    raise InputError(f"{run_a.folder} and {run_b.folder} were tested on different rows {advice}")


def check_same_classes(run_a: FinishedRun, run_b: FinishedRun) -> None:
    """Raise InputError unless the runs have the same classes."""
    if run_a.class_names != run_b.class_names:
        classes = " and ".join(", ".join(run.class_names) for run in (run_a, run_b))
        raise InputError(f"{run_a.folder} and {run_b.folder} have different classes: {classes}")


def select_test_options(run: FinishedRun) -> dict[str, Any]:
    """The options that determine the test rows and their texts."""
    split_seed = run.options.get("split_seed")
    seed = run.options["seed"] if split_seed is None else split_seed
    return {name: run.options.get(name) for name in TEST_OPTIONS} | {"seed of the split": seed}


def find_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The keys whose values differ, with both values; None for a missing key.

    >>> find_differences({"lr": 1, "seed": 3}, {"lr": 2, "seed": 3})
    {'lr': [1, 2]}
    """
    names = dict.fromkeys([*first, *second])
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def list_differences(run_a: FinishedRun, run_b: FinishedRun) -> dict[str, dict[str, list[Any]]]:
    """The `options`, facts of the `machine` and `versions` of libraries that differ, with both values."""
    options = find_differences(run_a.options, run_b.options)
    machines = ({"precision": run.record.get("precision")} | run.hardware for run in (run_a, run_b))
    versions = (run.record.get("versions") or {} for run in (run_a, run_b))
    return {
        "options": {name: pair for name, pair in options.items() if name not in NEUTRAL_OPTIONS},
        "machine": find_differences(*machines),
        "versions": find_differences(*versions),
    }


def list_warnings(run_a: FinishedRun, run_b: FinishedRun, name_a: str, name_b: str) -> list[str]:
    """Sentences on what other than the method may explain a difference between the runs."""
    warnings = []
    train_a, train_b = (run.record["data"]["fingerprints"].get("train") for run in (run_a, run_b))
    if run_a.options["cleaning"] != run_b.options["cleaning"]:
        warnings.append(
            f"The texts were cleaned differently ({run_a.options['cleaning']} and {run_b.options['cleaning']}): the "
            "test rows and labels are the same, but not the texts, and fingerprints cannot show whether the training "
            "rows are the same."
        )
    elif train_a != train_b:
        warnings.append(
            f"{name_a} and {name_b} were not trained on the same rows (fingerprints {train_a} and {train_b}), which "
            "may explain a difference."
        )
    base_a, base_b = (
        (run.adaptation or {}).get("base_model", run.options["model_name_or_path"]) for run in (run_a, run_b)
    )
    if base_a != base_b:
        warnings.append(f"{name_a} and {name_b} have different base models ({base_a} and {base_b}).")
    objective_a, objective_b = ((run.adaptation or {}).get("objective") for run in (run_a, run_b))
    if objective_a and objective_b and objective_a != objective_b:
        warnings.append(
            f"{name_a} and {name_b} were adapted with different objectives ({objective_a} and {objective_b})."
        )
    changed = find_differences(*({name: run.options.get(name) for name in TRAINING_OPTIONS} for run in (run_a, run_b)))
    if changed:
        values = "; ".join(f"{name}: {first} and {second}" for name, (first, second) in changed.items())
        warnings.append(
            f"{name_a} and {name_b} were trained with different options, which may explain a difference ({values})."
        )
    if run_a.options["seed"] != run_b.options["seed"]:
        warnings.append(
            f"{name_a} and {name_b} have different seeds ({run_a.options['seed']} and {run_b.options['seed']}), so a "
            "difference may be due to chance in training."
        )
    hardware = find_differences(run_a.hardware, run_b.hardware)
    facts = "; ".join(f"{fact}: {pair[0]} and {pair[1]}" for fact, pair in hardware.items() if fact in SPEED_FACTS)
    if facts:
        warnings.append(f"The training times of {name_a} and {name_b} are not comparable ({facts}).")
    return warnings
