"""How a YAML file and command-line flags become a run's options: a flag beats the file, the file beats the default."""

import dataclasses
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import HfArgumentParser

from sentiment.config.data_arguments import join_negative_values
from sentiment.config.recorded_options import CONSTANT_OPTIONS, is_own_option
from sentiment.exceptions import InputError, require, suggest_name
from sentiment.storage import parse_yaml

CONFIG_DIR = Path(__file__).parent
YAML_SUFFIXES = (".yaml", ".yml")


class OptionParser(HfArgumentParser):
    """A parser that raises InputError; its help shows our options first, and transformers' in a group of their own."""

    def __init__(self, argument_classes: Sequence[Any], **options: Any):
        groups = [group for argument_class in argument_classes for group in split_groups(argument_class)]
        super().__init__(groups, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(message)


def split_groups(argument_class: Any) -> list[Any]:
    """The dataclass as groups of the help: its own options, and those that it inherits from `TrainingArguments`."""
    hints = get_type_hints(argument_class)
    own: list[Any] = []
    inherited: list[Any] = []
    for option in fields(argument_class):
        if option.init:
            copied = dataclasses.field(metadata=option.metadata)
            copied.default, copied.default_factory = option.default, option.default_factory
            is_own = is_own_option(argument_class, option.name) and option.name not in CONSTANT_OPTIONS
            (own if is_own else inherited).append((option.name, hints[option.name], copied))
    title = " ".join((argument_class.__doc__ or argument_class.__name__).split("\n")[0].split()).rstrip(".")
    groups = [build_group(title, own)]
    if inherited:
        groups.append(build_group("transformers.TrainingArguments", inherited))
    return groups


def build_group(title: str, options: list[Any]) -> Any:
    """A dataclass that `HfArgumentParser` shows under a heading."""
    return dataclasses.make_dataclass("Group", options, namespace={"_argument_group_name": title}, kw_only=True)


def parse_arguments(
    argument_classes: Sequence[Any],
    argv: Sequence[str] | None = None,
    defaults: dict[str, Any] | None = None,
    **parser_options: Any,
) -> tuple[Any, ...]:
    """One instance of each dataclass.

    Args:
        argument_classes: dataclasses with distinct field names.
        argv: the words after the program's name: at most one `run.yaml` first, then flags.
        defaults: values that replace the dataclasses' own.
        parser_options: passed to the parser (`prog`, `description`).

    Raises:
        InputError: an unknown option, or a YAML file that is missing or malformed or has a key that is no option.
    """
    words = join_negative_values(sys.argv[1:] if argv is None else argv)
    parser = OptionParser(argument_classes, usage="%(prog)s [run.yaml] [--flags]", **parser_options)
    parser.set_defaults(**(defaults or {}))
    try:
        if words and words[0].endswith(YAML_SUFFIXES):
            values = read_yaml(Path(words[0]))
            check_repeated_keys(values, get_canonical_names(argument_classes), words[0])
            words = build_flags(values, list_options(argument_classes), words[0]) + words[1:]
        flags = {word[2:].partition("=")[0] for word in (sys.argv[1:] if argv is None else argv) if word[:2] == "--"}
        check_repeated_keys(flags, get_canonical_names(argument_classes), "flags")
        namespace, unknown = parser.parse_known_args(words)
        if unknown:
            options = [f"--{name}" for name in list_options(argument_classes)]
            nearest = suggest_name(unknown[0].partition("=")[0], options)
            is_file = not unknown[0].startswith("-") and Path(unknown[0]).is_file()
            is_yaml = unknown[-1].endswith(YAML_SUFFIXES)
            way_out = "pass the YAML file before all flags, without an option" if is_yaml else f"see --help{nearest}"
            way_out = "pass a file with --dataset" if is_file and not is_yaml else way_out
            raise InputError(f"unknown option '{' '.join(unknown)}': {way_out}")
        return build_instances(argument_classes, vars(namespace))
    except InputError as error:
        error.is_on_all_ranks = True
        raise


def build_arguments(argument_classes: Sequence[Any], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """One instance of each dataclass from options by their names, as a Python caller gives them.

    Raises:
        InputError: an unknown option, or a value that no run can use.
    """
    canonical = get_canonical_names(argument_classes)
    for name in options:
        require(name in canonical, f"unknown option '{name}'{suggest_name(name, canonical)}")
    check_repeated_keys(options, canonical, "options")
    hints = list_options(argument_classes)
    return build_instances(
        argument_classes, {canonical[name]: convert_value(name, value, hints[name]) for name, value in options.items()}
    )


def convert_value(name: str, value: Any, kind: Any) -> Any:
    """A value as an option of this type: a path or number for text, a list for one value; others are refused."""
    value = str(value) if isinstance(value, Path) else value
    value = [value] if get_origin(kind) is list and isinstance(value, str) else value
    try:
        return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{name}={value!r}: {error.errors()[0]['msg']}") from error


def get_canonical_names(argument_classes: Sequence[Any]) -> dict[str, str]:
    """The field's name for each name and alias of an option."""
    names: dict[str, str] = {}
    for argument_class in argument_classes:
        for option in fields(argument_class):
            names |= {
                alias.removeprefix("--"): option.name for alias in (option.name, *option.metadata.get("aliases", []))
            }
    return names


def check_repeated_keys(keys: Collection[Any], canonical: Mapping[str, str], where: str) -> None:
    """Raises InputError if an option is set twice, by its name and by an alias."""
    for name in set(canonical.values()):
        same = [key for key in keys if canonical.get(key) == name]
        require(len(same) < 2, f"{where}: {' and '.join(map(repr, same))} are the same option: keep one of them")


def build_instances(argument_classes: Sequence[Any], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """An instance of each dataclass with its share of the values."""
    return tuple(
        argument_class(
            **{option.name: values[option.name] for option in fields(argument_class) if option.name in values}
        )
        for argument_class in argument_classes
    )


def list_options(argument_classes: Sequence[Any]) -> dict[str, Any]:
    """Name and type of every option of these dataclasses, aliases included."""
    hints = {name: hint for argument_class in argument_classes for name, hint in get_type_hints(argument_class).items()}
    return {alias: hints[name] for alias, name in get_canonical_names(argument_classes).items()}


def find_yaml(path: Path) -> Path:
    """The file itself, or the ready-made configuration of this name in the package."""
    packaged = CONFIG_DIR / path.name
    return packaged if not path.exists() and path.parent == Path() and packaged.is_file() else path


def read_yaml(path: Path) -> dict[Any, Any]:
    """The keys and values of a YAML file; an empty one has none.

    Raises:
        InputError: it is missing or malformed, has a key twice, or holds something else than keys with values.
    """
    try:
        values = parse_yaml(find_yaml(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one 'key: value' per line")
    return values


def build_flags(values: Mapping[Any, Any], known: Mapping[str, Any], where: str) -> list[str]:
    """Keys and values as flags, so that one parser converts and checks both.

    Args:
        values: of a YAML file, or of a section.
        known: each option's name and type.
        where: prefix of errors.

    Raises:
        InputError: a key is no option, or its value is of the wrong kind.
    """
    flags = []
    for key, value in values.items():
        if key not in known:
            way_out = suggest_name(str(key), known) or f"; the keys are {', '.join(sorted(known))}"
            raise InputError(f"{where}: unknown key '{key}'{way_out}")
        if value is None:  # the default
            continue
        if value == []:
            raise InputError(f"{where}: '{key}' must name at least one")
        if get_origin(known[key]) is list:
            flags += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
        elif isinstance(value, dict) and any(get_origin(kind) is dict or kind is dict for kind in get_args(known[key])):
            flags += [f"--{key}={json.dumps(value)}"]
        elif isinstance(value, (dict, list)):
            raise InputError(f"{where}: '{key}' must be a single value")
        else:
            flags += [f"--{key}={value}"]
    return flags
