"""Cases of behaviour tests: the built-in suite, a YAML file of templates, or a table."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sentiment.config.data_arguments import LANGUAGE_CODE
from sentiment.config.parsing import YAML_SUFFIXES, read_yaml
from sentiment.data.case_templates import ORIGINAL, check_placeholders, generate_texts
from sentiment.data.columns import ColumnOptions, list_names
from sentiment.data.files import read_rows
from sentiment.data.folders import suggest_file
from sentiment.data.labels import plain_label, shorten
from sentiment.exceptions import InputError, require, suggest_name

BUILT_IN = Path(__file__).with_name("behaviour.yaml")
# Kinds of cases, after Ribeiro et al. 2020 (arXiv:2005.04118), and what each needs beside the text. The last two are
# directional expectations: of the probability of the class `expected`, against the original text.
KINDS = {
    "minimum_functionality": ("expected",),
    "invariance": ("original",),
    "must_not_fall": ("original", "expected"),
    "must_rise": ("original", "expected"),
}
TOLERANCE = 0.1  # of directional expectations
COUNT, SEED = 200, 1
CAPABILITY_KEYS = ("kind", "description", "tolerance", "templates")
TEMPLATE_KEYS = ("text", "original", "expected", "kind", "tolerance")


@dataclass(frozen=True)
class Case:
    """A text and what is expected of its answer; see `KINDS`."""

    capability: str
    kind: str
    text: str
    original: str | None = None
    expected: str | None = None
    tolerance: float = TOLERANCE
    template: int = 0  # its number, or the row of a table


@dataclass(frozen=True)
class Suite:
    """Cases, where they come from, their language if it is known, and what each capability is about."""

    source: str
    cases: list[Case]
    language: str | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    count: int | None = None  # of cases of each capability from templates
    seed: int | None = None


def load_suite(
    path: str | None = None,
    capabilities: Sequence[str] = (),
    count: int | None = None,
    seed: int | None = None,
    **reading: str | None,
) -> Suite:
    """The cases of a file, by default of the built-in suite, of some capabilities or all.

    Args:
        path: a YAML file of templates, or a table in any format that is read.
        capabilities: names; none for all.
        count: cases of each capability from templates; default `COUNT`.
        seed: of the draw from templates; default `SEED`. A capability's cases do not depend on the others.
        reading: columns and encoding of a table, see `ColumnOptions`.

    Raises:
        InputError: with file, row and column, or file, capability and template.
    """
    given = {name: value for name, value in reading.items() if value is not None}
    if path is not None and not path.lower().endswith(YAML_SUFFIXES):
        require(Path(path).is_file(), f"no such file: {path}{suggest_file(Path(path))}")
        require(count is None and seed is None, f"--count, --seed: for templates; all rows of {path} are used")
        suite = read_table(path, **given)
        chosen = choose_capabilities(capabilities, [case.capability for case in suite.cases], path)
        suite = replace(suite, cases=[case for case in suite.cases if case.capability in chosen])
    else:
        require(not given, f"--{', --'.join(given)}: for tables, and not for templates in YAML")
        require(count is None or count > 0, f"--count {count}: 1 or more")
        suite = read_templates(path, capabilities, count or COUNT, SEED if seed is None else seed)
    require(bool(suite.cases), f"{suite.source}: no cases")
    return suite


def choose_capabilities(names: Sequence[str], known: Sequence[str], where: str) -> list[str]:
    """The capabilities with these names, whatever their case, or all; raises InputError for a name that is none."""
    found = {name.casefold(): name for name in known}
    for name in names:
        way_out = suggest_name(name, found.values()) or f"; there are {', '.join(found.values())}"
        require(name.casefold() in found, f"--capabilities: no {name!r} in {where}{way_out}")
    return [found[name.casefold()] for name in names] or [*found.values()]


def read_templates(path: str | None, capabilities: Sequence[str], count: int, seed: int) -> Suite:
    """A suite with up to `count` different cases of each capability from a file of templates (default: built in)."""
    where = path or "the built-in suite"
    content = read_yaml(Path(path) if path else BUILT_IN)
    check_keys(where, content, ("language", "words", "capabilities"))
    language = content.get("language")
    is_code = language is None or (isinstance(language, str) and re.fullmatch(LANGUAGE_CODE, language) is not None)
    require(is_code, f"{where}, language: {language!r} is no code such as en or de; quote codes, such as 'no'")
    lists: Any = content.get("words") or {}
    require(isinstance(lists, dict), f"{where}, words: must hold one 'name: [words]' per line")
    words = {name: check_words(f"{where}, words", name, found) for name, found in lists.items()}
    sections: Any = content.get("capabilities")
    require(isinstance(sections, dict) and bool(sections), f"{where}: no capabilities")
    named = {str(name): section for name, section in sections.items()}
    chosen = choose_capabilities(capabilities, [*named], where)
    cases, descriptions, notes = [], {}, []
    for name, section in named.items():
        if name not in chosen:
            continue
        place = f"{where}: capability {name!r}"
        check_keys(place, section, CAPABILITY_KEYS)
        templates = section.get("templates")
        require(isinstance(templates, list) and bool(templates), f"{place}: no templates")
        shared = {key: section[key] for key in ("kind", "tolerance") if key in section}
        parsed = []
        for number, template in enumerate(templates, start=1):
            here = f"{place}, template {number}"
            check_keys(here, template, TEMPLATE_KEYS)
            case = build_case(f"{here}, key", {"capability": name} | shared | template)
            check_placeholders(here, list_texts(case), words)
            parsed.append(replace(case, template=number))
        generator = random.Random(f"{seed} {name}")
        found = generate_texts([list_texts(case) for case in parsed], words, count, generator)
        cases += [replace(parsed[number], text=text, original=original) for number, text, original in found]
        descriptions[name] = str(section.get("description") or "")
        if len(found) < count:
            notes.append(f"{name}: its templates give {len(found)} different cases, not {count}")
    return Suite(where, cases, language, descriptions, notes, count, seed)


def list_texts(case: Case) -> dict[str, str]:
    """The text, and the original if there is one."""
    return {"text": case.text} | ({ORIGINAL: case.original} if case.original else {})


def check_keys(where: str, section: Any, known: Sequence[str]) -> None:
    """Raises InputError for what is no mapping, or has an unknown key."""
    require(isinstance(section, dict), f"{where}: must hold one 'key: value' per line")
    for key in section:
        way_out = suggest_name(str(key), known) or f"; the keys are {', '.join(known)}"
        require(key in known, f"{where}: unknown key {key!r}{way_out}")


def check_words(where: str, name: str, words: Any) -> list[str]:
    """The words of a list as texts; raises InputError if it is none."""
    is_list = isinstance(words, list) and bool(words) and not any(isinstance(word, (list, dict)) for word in words)
    require(is_list, f"{where}: {name!r} must be a list of words")
    # YAML 1.1 reads no, off and 12 as a boolean and a number.
    wrong = next((word for word in words if not isinstance(word, str)), None)
    require(wrong is None, f"{where}: {name!r} has {wrong!r}, which is no text: put it in quotes")
    return [*words]


def read_table(path: str, **options: str) -> Suite:
    """The cases of a table with columns capability, kind, text, and expected, original, tolerance where needed."""
    cases = []
    rows = read_rows(path, ColumnOptions(**options, with_labels=False, with_record=True))
    for row, found in enumerate(rows, start=1):
        record = {name.strip().lower(): value for name, value in found["record"].items()}
        for name in ("capability", "kind"):
            require(name in record, f"{path}: no column {name!r}; found columns: {list_names(found['record'])}")
        values = {name: record[name] for name in ("capability", *TEMPLATE_KEYS) if name in record}
        case = build_case(f"{path}: row {row}, column", values | {"text": found["text"]})
        cases.append(replace(case, template=row))
    return Suite(path, cases)


def build_case(where: str, values: Mapping[str, Any]) -> Case:
    """A case from the values of a row or template; `where` and the name of a value stand before an error."""

    def refuse(name: str, problem: str) -> InputError:
        return InputError(f"{where} {name!r}: {problem}")

    given = {name: None if isinstance(value, str) and not value.strip() else value for name, value in values.items()}
    found: dict[str, Any] = {}
    for name in ("capability", "kind", "text", "original", "expected"):
        value = given.get(name)
        try:
            found[name] = value if isinstance(value, str) else plain_label(value)
        except ValueError:
            raise refuse(name, f"expected a text, found {shorten(repr(value))}") from None
    for name in ("capability", "kind", "text"):
        if found[name] is None:
            raise refuse(name, "it is empty")
    kind = found["kind"].strip().lower().replace(" ", "_").replace("-", "_")
    if kind not in KINDS:
        raise refuse("kind", f"{shorten(found['kind'])!r} is none of {', '.join(KINDS)}")
    for name in ("original", "expected"):
        is_needed = name in KINDS[kind]
        if is_needed != (found[name] is not None):
            raise refuse(name, f"cases of kind {kind} {'need it' if is_needed else 'have none: leave it empty'}")
    found |= {"kind": kind, "capability": found["capability"].strip()}
    found["expected"] = plain_label(found["expected"])
    try:
        tolerance = float(TOLERANCE if given.get("tolerance") is None else str(given["tolerance"]))
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < 1:
        raise refuse("tolerance", f"{given['tolerance']!r} is no number from 0 to under 1")
    return Case(**found, tolerance=tolerance)
