"""Cases of behaviour tests: the built-in suite, templates and tables of one's own, and what is refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from sentiment.data.behaviour_cases import KINDS, Case, Suite, load_suite
from sentiment.exceptions import InputError

# Capabilities whose failures would depend on a model's preference for one class.
LABELLED = (
    *("vocabulary", "negation", "double negation", "contrast", "temporal change", "comparisons", "questions"),
    *("intensifiers", "punctuation and emoji", "length"),
)
OWN = """
words:
  film: [film, comedy, drama]
  good: [great, amazing]
capabilities:
  praise:
    kind: minimum functionality
    templates:
      - {text: "{good:a:capital} {film}.", expected: happy}
  pairs:
    kind: invariance
    tolerance: 0.2
    templates:
      - {original: "The {film} and the {film2}.", text: "{original:upper}"}
      - {kind: must_rise, original: "So so.", text: "It is {good}.", expected: happy, tolerance: 0}
"""


def group(suite: Suite) -> dict[str, list[Case]]:
    names = dict.fromkeys(case.capability for case in suite.cases)
    return {name: [case for case in suite.cases if case.capability == name] for name in names}


def refusal(path: Path, content: str, **options: Any) -> str:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_suite(str(path), **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), path.name)


# --- the built-in suite ---


def test_the_built_in_suite_has_200_different_cases_of_each_capability() -> None:
    suite = load_suite()
    groups = group(suite)
    assert len(groups) == 16
    assert suite.notes == []
    assert suite.language == "en"
    assert all(suite.descriptions[name] for name in groups)
    for name, cases in groups.items():
        assert len(cases) == len({case.text for case in cases}) == 200, name
        assert all(case.text != case.original for case in cases), name
    assert {case.kind for case in suite.cases} == set(KINDS)


def test_expected_labels_of_the_built_in_suite_are_balanced() -> None:
    groups = group(load_suite())
    for name in LABELLED:
        counts = Counter(case.expected for case in groups[name] if case.expected)
        assert counts.keys() == {"negative", "positive"}
        assert min(counts.values()) >= 0.47 * counts.total(), name
    assert {name for name, cases in groups.items() if any(case.expected for case in cases)} == {*LABELLED}


def test_texts_of_the_built_in_suite_are_filled_in() -> None:
    for case in load_suite(count=300).cases:
        for text in filter(None, (case.text, case.original)):
            assert "{" not in text
            assert "  " not in text
            assert " a a" not in text.lower().replace("a as", "")
            assert len(text.split()) < 65  # no default of --max_seq_length truncates it


def test_cases_are_those_of_the_seed_and_of_their_capability_alone() -> None:
    first = group(load_suite(count=50))
    assert group(load_suite(count=50, seed=1)) == first
    assert group(load_suite(count=50, seed=2)).keys() == first.keys()
    assert group(load_suite(count=50, seed=2))["negation"] != first["negation"]
    assert group(load_suite(capabilities=["NAMES", "negation"], count=50)) == {
        name: first[name] for name in ("negation", "names")
    }


# --- templates of one's own ---


def test_own_templates(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    suite = load_suite(str(tmp_path / "own.yaml"), count=50)
    assert suite.language is None
    praise, pairs = group(suite).values()
    assert sorted(case.text for case in praise) == [
        *("A great comedy.", "A great drama.", "A great film."),
        *("An amazing comedy.", "An amazing drama.", "An amazing film."),
    ]
    assert {(case.kind, case.expected, case.tolerance) for case in praise} == {("minimum_functionality", "happy", 0.1)}
    first, second = ([case for case in pairs if case.template == number] for number in (1, 2))
    assert {(case.kind, case.expected, case.tolerance) for case in first} == {("invariance", None, 0.2)}
    assert len(first) == 6  # never the same film twice
    assert all(case.original and case.text == case.original.upper() for case in first)
    assert sorted(case.text for case in second) == ["It is amazing.", "It is great."]
    assert (second[0].kind, second[0].tolerance) == ("must_rise", 0.0)
    assert suite.notes == [
        "praise: its templates give 6 different cases, not 50",
        "pairs: its templates give 8 different cases, not 50",
    ]


@pytest.mark.parametrize("change", ["swap", "drop", "double"])
def test_typos_change_one_place_inside_a_long_word(change: str, tmp_path: Path) -> None:
    template = {"original": "a fine thriller", "text": f"{{original:{change}}}"}
    content = {"capabilities": {"x": {"kind": "invariance", "templates": [template]}}}
    (tmp_path / "typos.yaml").write_text(json.dumps(content), encoding="utf-8")  # which is YAML
    texts = {case.text for case in load_suite(str(tmp_path / "typos.yaml")).cases}
    length = {"swap": 15, "drop": 14, "double": 16}[change]
    assert len(texts) > 3
    assert all(len(text) == length and text.startswith("a fine t") and text.endswith("r") for text in texts)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{film2}", "{filn}", "own.yaml: capability 'pairs', template 1, 'original': no list of words 'filn' (did"),
        ("{film2}", "{film2", "capability 'pairs', template 1, 'original': a brace outside a placeholder like {film}"),
        ("{film2}", "{film2}{film3}{film4}", "template 1: 4 different words of 'film', whose list has 3"),
        (":upper", ":uper", "capability 'pairs', template 1, 'text': unknown change 'uper': one of a, capital, upper"),
        ("{good:a:capital}", "{original}", "template 1, 'text': no list of words 'original'"),
        ("kind: invariance", "kind: equal", "capability 'pairs', template 1, key 'kind': 'equal' is none of minimum_"),
        ("expected: happy}\n  p", "expected:}\n  p", "key 'expected': cases of kind minimum_functionality need it"),
        ("tolerance: 0}", "tolerance: 2}", "template 2, key 'tolerance': 2 is no number from 0 to under 1"),
        ("tolerance: 0.2", "tolerence: 0.2", "'pairs': unknown key 'tolerence' (did you mean 'tolerance'?)"),
        ("[great, amazing]", "[great, false]", "own.yaml, words: 'good' has False, which is no text: put it in quotes"),
        ("[great, amazing]", "great", "own.yaml, words: 'good' must be a list of words"),
        ("capabilities:", "capability:", "own.yaml: unknown key 'capability' (did you mean 'capabilities'?)"),
        ("words:", "words: [a", "own.yaml is not valid YAML"),
        ("words:", "language: false\nwords:", "own.yaml, language: False is no code such as en or de; quote codes"),
        ("words:", "language: 5\nwords:", "own.yaml, language: 5 is no code such as en or de"),
    ],
)  # fmt: skip
def test_wrong_templates_are_refused_in_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in OWN
    assert message in refusal(tmp_path / "own.yaml", OWN.replace(old, new))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no 'negaton' in the built-in suite .did you mean 'negation'"):
        load_suite(capabilities=["negaton"])
    with pytest.raises(InputError, match="--count 0: 1 or more"):
        load_suite(count=0)
    with pytest.raises(InputError, match=r"no such file: .*missing.csv"):
        load_suite(str(tmp_path / "missing.csv"))
    assert "--encoding: for tables" in refusal(tmp_path / "own.yaml", OWN, encoding="cp1252")
    assert "own.yaml: no capabilities" in refusal(tmp_path / "own.yaml", "words: {}\n")


# --- tables ---

TABLE = """Kind,Capability,text,expected,original,tolerance,note
minimum functionality,praise,It is great,1.0,,,a
Invariance,names,Ann likes it,,Bob likes it,,b
must-not-fall,praise,It is really great,1,It is great,0.05,c
"""


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(TABLE, encoding="utf-8")
    cases = load_suite(str(path)).cases
    assert cases == [
        Case("praise", "minimum_functionality", "It is great", None, "1", 0.1, 1),
        Case("names", "invariance", "Ann likes it", "Bob likes it", None, 0.1, 2),
        Case("praise", "must_not_fall", "It is really great", "It is great", "1", 0.05, 3),
    ]
    assert load_suite(str(path), ["names"]).cases == cases[1:2]
    columns = {
        "capability": ["praise"] * 2, "kind": ["minimum_functionality", "must_rise"], "text": ["good", "better"],
        "expected": [1, 2], "original": [None, "good"], "tolerance": [None, 0.0],
    }  # fmt: skip
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "cases.parquet")
    assert load_suite(str(tmp_path / "cases.parquet")).cases == [
        Case("praise", "minimum_functionality", "good", None, "1", 0.1, 1),
        Case("praise", "must_rise", "better", "good", "2", 0.0, 2),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Kind,", "Sort,", "cases.csv: no column 'kind'; found columns: 'Sort', 'Capability', 'text'"),
        ("Invariance", "MFT", "cases.csv: row 2, column 'kind': 'MFT' is none of minimum_functionality, invariance,"),
        ("likes it,,Bob likes it", "likes it,,", "row 2, column 'original': cases of kind invariance need it"),
        ("likes it,,Bob", "likes it,1,Bob", "row 2, column 'expected': cases of kind invariance have none: leave it"),
        ("great,1.0,", "great,,", "row 1, column 'expected': cases of kind minimum_functionality need it"),
        ("0.05", "5%", "row 3, column 'tolerance': '5%' is no number from 0 to under 1"),
        ("Ann likes it", " ", "row 2, column 'text': it is empty"),
        (",names,", ",,", "row 2, column 'capability': it is empty"),
        (",text,", ",txt,", "no text column"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in TABLE
    assert message in refusal(tmp_path / "cases.csv", TABLE.replace(old, new, 1))


def test_count_and_seed_are_not_for_tables(tmp_path: Path) -> None:
    assert "--count, --seed: for templates; all rows of" in refusal(tmp_path / "cases.csv", TABLE, count=3)
    assert "no cases" in refusal(tmp_path / "cases.csv", TABLE.partition("\n")[0] + "\n")
