"""Where the base model of a fine-tuning comes from: the adaptation that made it, and whether that saw test texts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sentiment.data.corpus import count_seen
from sentiment.exceptions import InputError
from sentiment.runs.folder import read_json, read_run

ADAPTED_RUN = "outputs/mlm"
KEYS_FILE = "text_keys.npy"


def check_adapted_model(model: str) -> None:
    """Refuses to fine-tune from the folder that an adaptation writes by default where it holds no model yet.

    Raises:
        InputError: says what to run.
    """
    if model == ADAPTED_RUN and not (Path(model) / "model" / "config.json").is_file():
        begun = (Path(model) / "run.json").exists()
        raise InputError(
            f"no adapted model in {model}: run `python train_mlm.py{' --resume' if begun else ''}` first "
            "(without a Hub: `python train_mlm.py sentiment/configs/offline_mlm.yaml`), or pass --model"
        )


def describe_adaptation(model_path: str, test_keys: Iterable[str]) -> dict[str, Any] | None:
    """What `run.json` says of the adaptation that a base model comes from; None where it is not from one.

    An adaptation on a stream counts neither its reviews nor their texts: what it cannot say is None.

    Args:
        model_path: the folder of the base model.
        test_keys: of the texts that the fine-tuned model will be tested on.

    Raises:
        InputError: some of the texts of the test split stood in the text of the adaptation.
    """
    run_dir = Path(model_path).parent
    if not (run_dir / "run.json").is_file() or not (run_dir / "metrics.json").is_file():
        return None
    run, metrics = read_run(run_dir), read_json(run_dir / "metrics.json")
    if run.get("strategy") != "mlm":
        return None
    keys_file = run_dir / KEYS_FILE
    seen = count_seen(test_keys, np.load(keys_file, allow_pickle=False)) if keys_file.exists() else None
    if seen:
        raise InputError(
            f"{seen:,} texts of the test split stand in the text that {run_dir} was adapted on: pass the same --seed, "
            "--split and --max_rows to train_mlm.py (as --target_split, --target_max_rows), or --split_seed here"
        )
    audit, validation = run["data"]["audit"], metrics["validation"]
    return {
        "run_dir": str(run_dir),
        "base_model": run["options"]["model"],
        "datasets": run["data"]["datasets"],
        "rows": audit.get("rows", {}).get("train"),
        "texts": audit.get("texts", {}).get("train"),
        "num_train_epochs": run["options"]["num_train_epochs"],
        "steps": metrics["history"][-1]["step"],
        "seconds": run["seconds"],
        "train_seconds": metrics["resources"]["train_seconds"],
        "loss_before": validation["before"]["loss"],
        "loss_after": validation["after"]["loss"],
        "test_texts_seen": seen,
    }
