"""The record of a run, run.json: what ran, on what, and whether it is finished already."""

import datetime
import logging
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from sentiment.config.arguments import RunArguments
from sentiment.environment import is_main_process
from sentiment.runs.differences import find_differences
from sentiment.runs.folder import check_same_data, is_finished, read_run
from sentiment.storage import read_json
from sentiment.training.hardware import describe_git_revision, describe_hardware, list_versions
from sentiment.training.history import describe_precision

logger = logging.getLogger(__name__)


def load_finished_metrics(
    run_dir: Path, options: dict[str, Any], args: RunArguments, compute_fingerprints: Callable[[], dict[str, str]]
) -> dict[str, Any] | None:
    """The metrics of this run if its folder holds it, finished (the data is checked only then); None to train it."""
    if not is_finished(run_dir, options, args.overwrite, args.resume):
        return None
    check_same_data(run_dir, compute_fingerprints())
    if is_main_process():
        print(f"{run_dir} holds this run already, finished: nothing to do", file=sys.stderr)
    metrics: dict[str, Any] = read_json(run_dir / "metrics.json")
    return metrics


def build_run_record(
    strategy: str,
    options: dict[str, Any],
    changed: dict[str, Any],
    model: PreTrainedModel,
    training_args: TrainingArguments,
) -> dict[str, Any]:
    """The record of a run that starts now; data, duration and weights are added later."""
    return {
        "strategy": strategy,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "options": options,
        "non_default_options": changed,
        "command": describe_command(),
        "versions": list_versions(),
        "git": describe_git_revision(),
        "hardware": describe_hardware(training_args.device.type, training_args.world_size),
        "model": {
            "name": options["model_name_or_path"],
            "type": model.config.model_type,
            "parameters": model.num_parameters(),
            **{name: getattr(model.config, name, None) for name in ("num_hidden_layers", "hidden_size", "vocab_size")},
        },
        "precision": describe_precision(training_args),
        "seed": options["seed"],
    }


def describe_command() -> str:
    """The command line of this process, without a token for the Hub."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    hidden = [re.sub(r"^(--hub[_-]token)=.*", r"\1=***", word) for word in words]
    for position, word in enumerate(words[:-1]):
        if re.fullmatch(r"--hub[_-]token", word):
            hidden[position + 1] = "***"
    return shlex.join(hidden)


def merge_previous_record(run_dir: Path, run: dict[str, Any]) -> None:
    """Keeps the start time of an unfinished run that is resumed, adds the time to `resumed`, and warns of changes.

    A resumed run ends bit-identical to an uninterrupted one only if machine, libraries and code are the same.
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
        message = "%s was started in another environment (%s): the result may differ from an uninterrupted run"
        logger.warning(message, run_dir, ", ".join(changed))
