"""What a run begins with: whether it is done already, and what `run.json` says of it."""

import datetime
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from sentiment.config.arguments import RunArguments
from sentiment.environment import is_main_process
from sentiment.pipelines.run import describe_precision
from sentiment.runs.differences import find_differences
from sentiment.runs.folder import check_same_data, is_finished, read_run
from sentiment.storage import read_json
from sentiment.training.hardware import describe_git_revision, describe_hardware, list_versions

logger = logging.getLogger(__name__)


def load_finished_metrics(
    run_dir: Path, options: dict[str, Any], args: RunArguments, compute_fingerprints: Callable[[], dict[str, str]]
) -> dict[str, Any] | None:
    """The metrics of this very run where its folder holds it, finished; None where it is to be trained.

    `compute_fingerprints` gives those of the data as it is now; it is called for a finished run only.

    Raises:
        InputError: the folder holds something else, or a run on other data.
    """
    if not is_finished(run_dir, options, args.overwrite, args.resume):
        return None
    check_same_data(run_dir, compute_fingerprints())
    if is_main_process():
        print(f"{run_dir} holds this run already, finished: nothing is done again", file=sys.stderr)
    metrics: dict[str, Any] = read_json(run_dir / "metrics.json")
    return metrics


def build_run_record(
    strategy: str, options: dict[str, Any], model: PreTrainedModel, training_args: TrainingArguments
) -> dict[str, Any]:
    """The record of a run that begins now; what it was trained on and how long it took are added later."""
    return {
        "strategy": strategy,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "options": options,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": list_versions(),
        "git": describe_git_revision(),
        "hardware": describe_hardware(training_args.device.type, training_args.world_size),
        "model": {
            "name": options["model_name_or_path"],
            "parameters": model.num_parameters(),
            "num_hidden_layers": model.config.num_hidden_layers,
            "hidden_size": model.config.hidden_size,
            "vocab_size": model.config.vocab_size,
        },
        "precision": describe_precision(training_args),
        "seed": options["seed"],
    }


def merge_previous_record(run_dir: Path, run: dict[str, Any]) -> None:
    """Where the folder holds this run, unfinished: keeps when it began, adds when it was `resumed`, tells what changed.

    It ends with the bytes of a run that was never interrupted only where nothing has changed since.
    """
    if not (run_dir / "run.json").exists():
        return
    former = read_run(run_dir)
    run["resumed"] = [*former.get("resumed", []), run["started"]]
    run["started"] = former.get("started")
    before, now = ((record.get("versions") or {}) | (record.get("hardware") or {}) for record in (former, run))
    before["git"], now["git"] = former.get("git"), run["git"]
    changed = [f"{name} {old} -> {new}" for name, (old, new) in find_differences(before, now).items()]
    if changed:
        logger.warning(
            "%s was begun elsewhere (%s): it may not end as it would have without the interruption",
            run_dir,
            ", ".join(changed),
        )
