"""The runs that the base model of a fine-tuning comes from, and whether one of them read test texts."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentiment.data.corpus import compute_corpus_key, count_seen, hash_in_order
from sentiment.exceptions import InputError, require
from sentiment.runs.folder import ADAPTATION_STRATEGY, read_run
from sentiment.storage import read_json

ADAPTED_RUN = "outputs/mlm"
KEYS_FILE = "text_keys.npy"
HELD_OUT_KEYS_FILE = "held_out_keys.npy"  # of validation and test, by fine-tunings


def check_adapted_model(model: str) -> None:
    """Raises InputError for the folder of an adaptation that has no model yet, and says what to run."""
    folder = Path(model)
    if (folder / "config.json").is_file() or (folder / "model" / "config.json").is_file():
        return
    is_started = find_adaptation(folder) is not None
    if is_started or folder == Path(ADAPTED_RUN):
        own = "`sentiment adapt --dataset UNLABELLED --target_dataset LABELLED`"
        raise InputError(
            f"no adapted model in {model}: run `python train_mlm.py{' --resume' if is_started else ''}` first, for "
            f"reviews of your own {own} (without a Hub with --model minilm), or pass --model"
        )


def find_adaptation(folder: Path) -> Path | None:
    """The run folder of `train_mlm.py` that this folder is, or belongs to as its model or a checkpoint; else None."""
    run_dir = find_run(folder)
    return run_dir if run_dir and read_run(run_dir).get("strategy") == ADAPTATION_STRATEGY else None


def find_run(folder: Path) -> Path | None:
    """The run folder that this folder is, or belongs to as its model or a checkpoint; else None."""
    candidates = (folder, *folder.resolve().parents[:2]) if folder.exists() else ()  # a Hub id is no folder
    return next((candidate for candidate in candidates if (candidate / "run.json").is_file()), None)


def list_base_runs(model_path: str) -> list[Path]:
    """The runs that a model comes from: the one that trained it, the one that trained its base model, and so on."""
    found: list[Path] = []
    run_dir = find_run(Path(model_path))
    while run_dir is not None and run_dir not in found:
        found.append(run_dir)
        run_dir = find_run(Path(read_run(run_dir)["options"]["model_name_or_path"]))
    return found


def check_unseen(model_path: str, test_texts: Sequence[str], validation_texts: Sequence[str] = ()) -> None:
    """Raises InputError if one of the runs that a model comes from was trained on some of the test texts.

    So it does for validation texts, which choose the checkpoint, if that run was trained on their labels.
    """
    for run_dir in list_base_runs(model_path):
        seen = count_texts_seen(run_dir / KEYS_FILE, test_texts)
        if seen and read_run(run_dir).get("strategy") == ADAPTATION_STRATEGY:
            raise InputError(
                f"the adaptation in {run_dir} read {count_of(seen, 'text')} of the test split: adapt again with "
                "--target_dataset and the other options of this data (--target_split, --target_max_rows, ...) and the "
                "same --seed, which leaves these texts out, or split as it did by --split_seed"
            )
        require(
            not seen,
            f"the fine-tuning in {run_dir} was trained on {count_of(seen or 0, 'text')} of the test split: pass its "
            "--seed or --split_seed, --split and --max_rows, or another --model",
        )
        known = count_texts_seen(run_dir / KEYS_FILE, validation_texts) if reads_labels(run_dir) else 0
        require(
            not known,
            f"{run_dir} was trained on the labels of {count_of(known or 0, 'text')} of the validation split: pass its "
            "--seed or --split_seed, --split and --max_rows, or another --model",
        )


def reads_labels(run_dir: Path) -> bool:
    """Whether a run was trained on labels: a fine-tuning, or a supervised adaptation."""
    run = read_run(run_dir)
    return run.get("strategy") != ADAPTATION_STRATEGY or "labels" in run.get("data", {}).get("audit", {})


def count_of(number: int, unit: str) -> str:
    """A number of things.

    >>> count_of(1, "text"), count_of(1200, "text")
    ('1 text', '1,200 texts')
    """
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def describe_seen_texts(model_path: str, texts: Sequence[str]) -> list[str]:
    """A sentence for each run that a model comes from and that was trained on some of the texts."""
    sentences = []
    for run_dir in list_base_runs(model_path):
        if seen := count_texts_seen(run_dir / KEYS_FILE, texts):
            is_adaptation = read_run(run_dir).get("strategy") == ADAPTATION_STRATEGY
            kind, without = ("adaptation", " without their labels") if is_adaptation else ("fine-tuning", "")
            sentences.append(
                f"{seen:,} of {len(texts):,} texts were training texts of the {kind} in {run_dir}{without}: expect a "
                "lower accuracy on new texts."
            )
    return sentences


def describe_adaptation(
    model_path: str, test_texts: Sequence[str], validation_texts: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The `adaptation` of run.json, for a base model that comes from one; else None.

    Counts of texts are None for an adaptation on a stream. Raises InputError if it is unfinished, or as `check_unseen`.
    """
    check_unseen(model_path, test_texts, validation_texts)
    run_dir = find_adaptation(Path(model_path))
    if run_dir is None:
        return None
    is_finished = (run_dir / "metrics.json").is_file()
    require(is_finished, f"the adaptation in {run_dir} is unfinished: run `python train_mlm.py --resume` as before")
    run, metrics = read_run(run_dir), read_json(run_dir / "metrics.json")
    audit, validation = run["data"]["audit"], metrics["validation"]
    objective = metrics.get("objective") or {}  # not in metrics.json of earlier versions
    return {
        "run_dir": str(run_dir),
        "objective": objective.get("name"),
        "loss_unit": objective.get("loss_unit"),
        "kind_of_texts": objective.get("texts", "unlabelled reviews"),
        "base_model": run["options"]["model_name_or_path"],
        "datasets": run["data"]["datasets"],
        "rows": audit.get("rows", {}).get("train"),
        "texts": audit.get("texts", {}).get("train"),
        "num_train_epochs": None if run["options"].get("max_steps", -1) > 0 else run["options"]["num_train_epochs"],
        "steps": metrics["history"][-1]["step"],
        "seconds": run["seconds"],
        "train_seconds": metrics["resources"]["train_seconds"],
        "loss_before": validation["before"]["loss"],
        "loss_after": validation["after"]["loss"],
        "test_texts_seen": count_texts_seen(run_dir / KEYS_FILE, test_texts),
    }


def count_texts_seen(keys_file: Path, texts: Iterable[str]) -> int | None:
    """How many of the texts a run was trained on; None if it has no record of them."""
    return count_seen(map(compute_corpus_key, texts), load_keys(keys_file)) if keys_file.exists() else None


def load_keys(keys_file: Path) -> np.ndarray:
    """The hashes of texts (`hash_keys`) in a file of a run; raises InputError if it is corrupted."""
    try:
        hashes: np.ndarray = np.load(keys_file, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{keys_file} is corrupted: train again with --overwrite") from error
    return hashes


def find_new_texts(models: Iterable[str], texts: Iterable[str]) -> np.ndarray:
    """Whether no fine-tuning behind the models was trained, validated or tested on each text; shape (texts,)."""
    keys = np.concatenate([load_labelled_keys(model)[0] for model in models])
    return ~np.isin(hash_in_order(map(compute_corpus_key, texts)), keys)


def load_labelled_keys(model_path: str) -> tuple[np.ndarray, list[str]]:
    """Hashes of the texts that the fine-tunings behind a model were trained, validated and tested on, as on record.

    And a sentence for each record that is missing.
    """
    runs = [path for path in list_base_runs(model_path) if read_run(path).get("strategy") != ADAPTATION_STRATEGY]
    files = [run_dir / name for run_dir in runs for name in (KEYS_FILE, HELD_OUT_KEYS_FILE)]
    keys = [load_keys(file) for file in files if file.exists()]
    missing = [f"no {file}: texts of that run may be among these" for file in files if not file.exists()]
    if not runs:
        missing = [f"{model_path} belongs to no fine-tuning here: texts that it was trained on may be among these"]
    return np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *keys])), missing
