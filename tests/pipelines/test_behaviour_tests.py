"""Behaviour tests of tiny models from their folders to the report, and what is refused before anything is written."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentiment.exceptions import InputError
from sentiment.inference.predictor import Predictor
from sentiment.pipelines.behaviour_tests import WRITTEN_FILES, list_exceeded, run_behaviour_tests

TABLE = """capability,kind,text,expected,original
praise,minimum functionality,a good film,positive,
praise,minimum functionality,a bad film,negative,
praise,minimum functionality,the plot is great,positive,
same,invariance,the actor is very funny,,the actor is funny
same,invariance,THE ACTOR IS FUNNY,,the actor is funny
more,must not fall,a very good film,positive,a good film
"""


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "own" / "cases.csv"
    path.parent.mkdir()
    path.write_text(TABLE, encoding="utf-8")
    return path


def write_language(model: Path, language: str) -> None:
    record = {"options": {}, "data": {"fingerprints": {}, "audit": {"language": language}}}
    (model.parent / "run.json").write_text(json.dumps(record), encoding="utf-8")


def refusal(*models: Path, output: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        run_behaviour_tests([str(model) for model in models], output, **options)
    assert "\n" not in str(error.value)
    assert not (output / "behaviour.json").exists()
    return str(error.value)


def test_two_models_on_a_table(build_classifier: Callable[..., Path], cases: Path, tmp_path: Path) -> None:
    """The second model has its classes in the other order."""
    models = [build_classifier(["negative", "positive"]), build_classifier(["positive", "negative"])]
    output = tmp_path / "deep" / "out"
    result = run_behaviour_tests([*map(str, models)], output, str(cases))
    assert {path.name for path in output.iterdir()} == {*WRITTEN_FILES}
    assert json.loads((output / "behaviour.json").read_text(encoding="utf-8")) == result
    with (output / "cases.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == [line.split(",")[2] for line in TABLE.splitlines()[1:]]
    failed: list[list[bool]] = []
    for model, described in zip(models, result["models"], strict=True):
        predictor, name = Predictor.from_pretrained(str(model)), described["name"]
        (good, bad, plot, funnier, upper, very, funny) = predictor.predict(
            [*(row["text"] for row in rows), "the actor is funny"]
        )
        assert good
        assert bad
        assert plot
        assert funnier
        assert upper
        assert very
        assert funny
        found = [good.label != "positive", bad.label != "negative", plot.label != "positive"]
        found += [funnier.label != funny.label, upper.label != funny.label]
        fall = good.probabilities["positive"] - very.probabilities["positive"]
        failed.append([*found, fall > 0.1])
        assert [row[f"failed {name}"] for row in rows] == [str(flag).lower() for flag in failed[-1]]
        assert [row[f"label {name}"] for row in rows] == [
            answer.label for answer in (good, bad, plot, funnier, upper, very)
        ]
        assert float(rows[1][f"probability {name}"]) == pytest.approx(bad.probabilities["negative"], abs=1e-6)
        assert float(rows[3][f"probability {name}"]) == pytest.approx(funnier.probabilities[funny.label], abs=1e-6)
    assert [found["name"] for found in result["capabilities"]] == ["praise", "same", "more"]
    for place, flags in enumerate(failed):
        rates = [found["models"][place]["failures"] for found in result["capabilities"]]
        assert rates == [sum(flags[:3]), sum(flags[3:5]), flags[5]]
    difference = result["capabilities"][0]["difference"]["difference"]
    assert difference == pytest.approx((sum(failed[1][:3]) - sum(failed[0][:3])) / 3)
    exceeded = list_exceeded(result, 0.0)
    assert len(exceeded) == sum(found["failures"] > 0 for each in result["capabilities"] for found in each["models"])
    # What it wrote is a table of cases.
    again = run_behaviour_tests([*map(str, models)], tmp_path / "again", str(output / "cases.csv"))
    assert again["capabilities"] == result["capabilities"]


def test_the_built_in_suite_and_its_warnings(build_classifier: Callable[..., Path], tmp_path: Path) -> None:
    model = build_classifier(["negative", "positive"])
    result = run_behaviour_tests([str(model)], tmp_path / "out", capabilities=["length", "names"], count=20)
    assert result["cases"] == {"source": "the built-in suite", "number": 40, "count": 20, "seed": 1}
    assert [(found["name"], found["cases"]) for found in result["capabilities"]] == [("names", 20), ("length", 20)]
    (warning,) = [line for line in result["warnings"] if "truncated" in line]
    assert warning.endswith("cases are truncated to 16 tokens")
    assert "difference" not in result["capabilities"][0]


def test_cases_that_cannot_fail_are_named(build_classifier: Callable[..., Path], tmp_path: Path) -> None:
    model = build_classifier(["negative", "positive"])
    (tmp_path / "cases.csv").write_text(
        "capability,kind,text,original\n"
        "html,invariance,a <b>good</b> film,a good film\nhtml,invariance,a good plot,a good film\n"
        "casing,invariance,A GOOD FILM,a good film\n"
    )
    warnings = run_behaviour_tests([str(model)], tmp_path / "out", str(tmp_path / "cases.csv"))["warnings"]
    assert any("1 of 2 cases of 'html' cannot fail" in line for line in warnings)
    assert any("1 of 1 cases of 'casing' cannot fail" in line for line in warnings)


def test_a_model_that_gives_one_answer_is_named(tiny_classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(
        "capability,kind,text,original\nsame,invariance,a film,the film\nsame,invariance,a plot,the plot\n"
    )
    result = run_behaviour_tests([str(tiny_classifier)], tmp_path / "out", str(tmp_path / "cases.csv"))
    assert any("to (nearly) every case: that it passes invariance says nothing" in line for line in result["warnings"])


def test_other_classes(build_classifier: Callable[..., Path], cases: Path, tmp_path: Path) -> None:
    model, output = build_classifier(["1", "2", "3"]), tmp_path / "out"
    message = refusal(model, output=output)
    assert f"the built-in suite expects the classes negative, positive, and those of {model} are 1, 2, 3" in message
    assert "pass --cases with the names of its classes, or --capabilities of invariance alone" in message
    result = run_behaviour_tests([str(model)], output, capabilities=["names", "casing"], count=30)
    assert [found["kinds"] for found in result["capabilities"]] == [["invariance"]] * 2
    cases.write_text(TABLE.replace("positive", "3").replace("negative", "1.0"), encoding="utf-8")
    assert len(run_behaviour_tests([str(model)], output, str(cases))["capabilities"]) == 3


def test_language_of_the_run(build_classifier: Callable[..., Path], cases: Path, tmp_path: Path) -> None:
    model = build_classifier(["negative", "positive"])
    options: dict[str, Any] = {"capabilities": ["names"], "count": 5}
    for language, warnings in (("en", 0), ("en-GB", 0), ("und", 1)):
        write_language(model, language)
        found = run_behaviour_tests([str(model)], tmp_path / "out", **options)["warnings"]
        assert len([line for line in found if "language" in line]) == warnings
    write_language(model, "zh")
    message = refusal(model, output=tmp_path / "other", **options)
    assert (
        "has texts in 'zh', and the cases of the built-in suite are in 'en': pass cases in its language with" in message
    )
    assert run_behaviour_tests([str(model)], tmp_path / "out", str(cases))["cases"]["number"] == 6
    (model.parent / "run.json").unlink()


def test_what_is_refused(build_classifier: Callable[..., Path], cases: Path, tmp_path: Path) -> None:
    model, output = build_classifier(["negative", "positive"]), tmp_path / "out"
    assert "is given twice: pass different runs" in refusal(
        model, model.parent / "x" / ".." / model.name, output=output
    )
    assert "6 models: 5 at most side by side" in refusal(*[model] * 6, output=output)
    assert "no model in" in refusal(model, tmp_path / "missing", output=output)
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    assert "out holds notes.txt, not part of a behaviour test" in refusal(model, output=output)
    (output / "notes.txt").rename(output / "cases.csv")
    assert "holds no behaviour test" in refusal(model, output=output)
    cases.write_text(TABLE.replace("a bad film", "<br />"), encoding="utf-8")
    assert "'<br />' is empty after the cleaning of" in refusal(model, output=tmp_path / "new", cases=str(cases))


def test_an_earlier_result_is_replaced(build_classifier: Callable[..., Path], cases: Path, tmp_path: Path) -> None:
    model, output = str(build_classifier(["negative", "positive"])), tmp_path / "out"
    run_behaviour_tests([model], output, str(cases))
    (output / "behaviour.json").unlink()  # one that was interrupted
    message = refusal(Path(model), output=output, cases=str(output / "cases.csv"))
    assert "cases.csv would be replaced: pass another --output_dir" in message
    run_behaviour_tests([model], output, str(cases))
    assert {path.name for path in output.iterdir()} == {*WRITTEN_FILES}
