"""How a YAML file and flags become a run's options."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, get_origin

import yaml
from transformers import HfArgumentParser

from sentiment.exceptions import InputError, require


def parse_arguments(
    argument_classes: Sequence[Any],
    argv: Sequence[str] | None = None,
    defaults: dict[str, Any] | None = None,
    **parser_options: Any,
) -> tuple[Any, ...]:
    """One instance of each dataclass: a flag beats the YAML file, the YAML file beats the default.

    Args:
        argument_classes: dataclasses with distinct field names.
        argv: the words after the program's name: at most one `run.yaml` in front, then flags.
        defaults: values that replace the dataclasses' own.
        parser_options: given to the parser (`prog`, `description`).

    Raises:
        InputError: an unknown option, or a YAML file that is missing or malformed or has a key that is no option.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(
        list(argument_classes), allow_abbrev=False, usage="%(prog)s [run.yaml] [--flags]", **parser_options
    )
    parser.set_defaults(**(defaults or {}))
    if words and words[0].endswith((".yaml", ".yml")):
        words = build_flags(read_yaml(Path(words[0])), list_options(argument_classes), words[0]) + words[1:]
    *parsed, unknown = parser.parse_args_into_dataclasses(
        words, look_for_args_file=False, return_remaining_strings=True
    )
    require(not unknown, f"unknown option '{' '.join(unknown)}': see --help; a run.yaml stands before all flags")
    return tuple(parsed)


class SectionParser(HfArgumentParser):
    """A parser whose refusals are for a part of a YAML file, and not for a command line."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(message)


def parse_section(
    values: Any, argument_classes: Sequence[Any], where: str, reserved: Collection[str] = ()
) -> tuple[Any, ...]:
    """One instance of each dataclass from a part of a YAML file, checked as flags are.

    Args:
        values: what the file has there.
        argument_classes: dataclasses with distinct field names.
        where: what errors begin with: the file and the part.
        reserved: options that are not set there.

    Raises:
        InputError: see `parse_arguments`.
    """
    require(isinstance(values, dict), f"{where} must hold one 'key: value' a line")
    known = {name: kind for name, kind in list_options(argument_classes).items() if name not in reserved}
    flags = build_flags(values, known, where)
    parser = SectionParser(list(argument_classes), allow_abbrev=False)
    try:
        return tuple(parser.parse_args_into_dataclasses(flags, look_for_args_file=False))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def list_options(argument_classes: Sequence[Any]) -> dict[str, Any]:
    """Name and type of every option of these dataclasses."""
    return {option.name: option.type for arguments in argument_classes for option in fields(arguments)}


def read_yaml(path: Path) -> dict[Any, Any]:
    """The keys and values of a YAML file; an empty one has none.

    Raises:
        InputError: it is missing or malformed, or holds something else than keys with values.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one 'key: value' a line")
    return values


def build_flags(values: Mapping[Any, Any], known: Mapping[str, Any], where: str) -> list[str]:
    """Keys and values as flags, so that one parser converts and checks both.

    Args:
        values: of a YAML file, or of a part of one.
        known: each option's name and type.
        where: what errors begin with.

    Raises:
        InputError: a key is no option, or its value is of the wrong kind.
    """
    flags = []
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: unknown key '{key}'; the keys are {', '.join(sorted(known))}")
        if value is None:  # as if it were not there
            continue
        if value == []:
            raise InputError(f"{where}: '{key}' must name one at least")
        if get_origin(known[key]) is list:
            flags += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
        elif isinstance(value, (dict, list)):
            raise InputError(f"{where}: '{key}' must be a single value")
        else:
            flags += [f"--{key}={value}"]
    return flags
