"""The options of a run as run.json records them."""

import dataclasses
import inspect
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, cast

from transformers import TrainingArguments

from sentiment.config.arguments import RunArguments

# Options of TrainingArguments whose default is another one here, and the only value supported.
CONSTANT_OPTIONS = {
    *("do_train", "hub_strategy", "load_best_model_at_end", "logging_nan_inf_filter"),
    "restore_callback_states_from_checkpoint",
}


def is_own_option(arguments: Any, name: str) -> bool:
    """Whether an option is declared in this module, and not inherited from `TrainingArguments` as it is."""
    classes = (arguments if isinstance(arguments, type) else type(arguments)).__mro__
    owner = next(kind for kind in classes if name in inspect.get_annotations(kind))
    return owner is not TrainingArguments


@cache
def build_defaults(arguments_class: Callable[[], Any]) -> Any:
    """An instance with every option at its default."""
    return arguments_class()


def collect_options(*arguments: Any) -> dict[str, Any]:
    """The options of a run as run.json records them: all of ours, and those of transformers that are not defaults."""
    options: dict[str, Any] = {}
    for part in arguments:
        defaults: Any = build_defaults(cast(Callable[[], Any], type(part)))
        for name in (one.name for one in dataclasses.fields(part)):
            value = getattr(part, name)
            if is_own_option(part, name) or value != getattr(defaults, name):
                options[name] = value.value if isinstance(value, Enum) else value
        if isinstance(part, RunArguments):
            options["batch_size"] = part.global_batch_size
            options["precision"] = part.requested_precision
    unrecorded = {"hub_token", "per_device_train_batch_size", "fp16", "bf16"}  # a secret, and what others imply
    return {name: value for name, value in options.items() if name not in unrecorded | CONSTANT_OPTIONS}


def list_changed_options(*arguments: Any) -> dict[str, Any]:
    """Those of `collect_options` that differ from the defaults."""
    defaults = collect_options(*(build_defaults(cast(Callable[[], Any], type(part))) for part in arguments))
    return {name: value for name, value in collect_options(*arguments).items() if defaults.get(name) != value}
