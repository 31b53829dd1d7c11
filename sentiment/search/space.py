"""The space of a search: for each option a range or a list of choices, read from YAML and checked as flags are."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sentiment.config import parsing
from sentiment.exceptions import InputError, require, suggest_name
from sentiment.study.arguments import parse_section

RANGE_KEYS = ("low", "high", "log", "step")
DIGITS = 4  # significant ones of a number from a range without steps
FORMS = "a range is {low: 1.0e-5, high: 1.0e-4} with log: true or a step, a choice is {choices: [1, 2]}"


@dataclass(frozen=True)
class Dimension:
    """An option to search for.

    Args:
        stage: `finetuning` or `adaptation`, whose option it is.
        name: the option's name.
        distribution: what the sampler draws from.
        choices: the option's values in the order of the distribution's choices; empty for a range.
    """

    stage: str
    name: str
    distribution: BaseDistribution
    choices: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        """Its name in the search, where both stages may have an option of this name."""
        return self.name if self.stage == "finetuning" else f"{self.stage}.{self.name}"

    def convert(self, value: Any) -> Any:
        """The option's value for one that the sampler drew: a choice, or a number with as many digits as matter."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.choices[self.distribution.choices.index(value)]
        if isinstance(self.distribution, FloatDistribution):
            digits = DIGITS if self.distribution.step is None else 12
            return min(max(float(f"{value:.{digits}g}"), self.distribution.low), self.distribution.high)
        return value

    def describe(self) -> dict[str, Any]:
        """The range or the choices, as in YAML."""
        if isinstance(self.distribution, CategoricalDistribution):
            return {"choices": list(self.choices)}
        found = {name: getattr(self.distribution, name) for name in RANGE_KEYS}
        return {name: value for name, value in found.items() if value is not None and value is not False}


def parse_space(
    section: Any,
    classes: Sequence[Any],
    where: str,
    stage: str,
    reserved: Collection[str],
    fixed: Collection[str],
    base: Mapping[str, Any],
) -> list[Dimension]:
    """The dimensions in a section of the space; every bound and choice is checked together with the options in `base`.

    Raises:
        InputError: an unknown option, one in `reserved` or `fixed`, or a value that it cannot have; the message begins
            with `where`, the file and section.
    """
    require(isinstance(section, dict), f"{where}: must hold one 'option: range' per line; {FORMS}")
    names, kinds = parsing.get_canonical_names(classes), parsing.list_options(classes)
    parsing.check_repeated_keys(section, names, where)
    found = []
    for key, declared in section.items():
        name = names.get(key, key)
        if name in fixed:
            raise InputError(f"{where}: '{key}' decides what is scored, the same for all trials: set it in {stage}")

        def parse(value: Any, key: str = key, name: str = name) -> Any:
            options = parse_section({key: value}, classes, f"{where}", reserved, base, "search")
            return options[name]

        parse(None)  # an unknown or reserved option
        require(isinstance(declared, dict), f"{where}, {key}: {declared!r} is no range or choice; {FORMS}")
        for unknown in declared:
            known = (*RANGE_KEYS, "choices")
            require(
                unknown in known, f"{where}, {key}: unknown key '{unknown}'{suggest_name(str(unknown), known)}; {FORMS}"
            )
        if "choices" in declared:
            found.append(Dimension(stage, name, *parse_choices(declared, f"{where}, {key}", parse)))
        else:
            found.append(Dimension(stage, name, parse_range(declared, kinds[key], f"{where}, {key}", parse)))
    return found


def parse_choices(
    declared: Mapping[str, Any], where: str, parse: Any
) -> tuple[CategoricalDistribution, tuple[Any, ...]]:
    """The distribution over the choices, and the option's value for each."""
    require(len(declared) == 1, f"{where}: choices stand alone, without {', '.join(RANGE_KEYS)}")
    given = declared["choices"]
    require(isinstance(given, list) and len(given) > 0, f"{where}: choices must be a list, such as [1, 2]")
    values = tuple(parse(value) for value in given)
    # The sampler takes plain values; others are known to it by their JSON.
    plain = [value if isinstance(value, (str, int, float, bool, type(None))) else json.dumps(value) for value in values]
    repeated = [str(value) for place, value in enumerate(plain) if value in plain[:place]]
    require(not repeated, f"{where}: {', '.join(repeated)} more than once in choices")
    return CategoricalDistribution(plain), values


def parse_range(declared: Mapping[str, Any], kind: Any, where: str, parse: Any) -> BaseDistribution:
    """The distribution over a range of whole numbers or, as the option's type says, of any."""
    types = {kind, *get_args(kind)}
    require(bool(types & {int, float}), f"{where}: is not a number; {FORMS}")
    for end in ("low", "high"):
        require(declared.get(end) is not None, f"{where}: lacks '{end}'; {FORMS}")
    low, high = (parse(declared[end]) for end in ("low", "high"))
    require(low < high, f"{where}: low {low} must be below high {high}")
    log, step = declared.get("log", False), declared.get("step")
    require(isinstance(log, bool), f"{where}: log must be true or false, not {log!r}")
    require(not log or step is None, f"{where}: log and step exclude each other: keep one of them")
    require(not log or low > 0, f"{where}: with log, low must be above 0")
    is_whole = float not in types
    if step is not None:
        is_number = isinstance(step, (int, float)) and not isinstance(step, bool) and step > 0
        require(is_number and (not is_whole or step == int(step)), f"{where}: step {step!r} must be a number above 0")
        steps = (high - low) / step
        require(
            abs(steps - round(steps)) < 1e-9, f"{where}: high {high} is not a whole number of steps above low {low}"
        )
    if is_whole:
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=None if step is None else float(step))
