"""What `run.json` says of a run, beside its options: the command, the machine, the model and the data."""

import datetime
import shlex
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from sentiment.trainer import describe_precision
from sentiment.training.resources import describe_hardware, list_versions


def describe_run(
    strategy: str, options: dict[str, Any], model: PreTrainedModel, training_args: TrainingArguments
) -> dict[str, Any]:
    """The record of a run that begins now; what it was trained on and how long it took are added later."""
    return {
        "strategy": strategy,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "options": options,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": list_versions(),
        "hardware": describe_hardware(training_args.device.type, training_args.world_size),
        "model": {
            "name": options["model"],
            "parameters": model.num_parameters(),
            "num_hidden_layers": model.config.num_hidden_layers,
            "hidden_size": model.config.hidden_size,
            "vocab_size": model.config.vocab_size,
        },
        "precision": describe_precision(training_args),
        "seed": options["seed"],
    }
