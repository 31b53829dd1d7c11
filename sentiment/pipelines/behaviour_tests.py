"""`sentiment behaviour`: the failure rates of trained classifiers on cases of behaviour tests, and their report."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentiment.data.behaviour_cases import Case, Suite, load_suite
from sentiment.data.cleaning import is_blank
from sentiment.data.labels import align_labels, shorten
from sentiment.data.languages import UNDETERMINED
from sentiment.evaluation.behaviour import (
    Answers,
    find_constant_answer,
    find_worst_failures,
    judge_answers,
    summarize_capabilities,
)
from sentiment.exceptions import InputError, require
from sentiment.inference.backends import load_backend
from sentiment.inference.checkpoint import Checkpoint, load_checkpoint
from sentiment.inference.predictor import Predictor
from sentiment.inference.table_writers import open_writer
from sentiment.models.model_folder import find_model_folder
from sentiment.reporting.behaviour_report import FIGURE, MODEL_STYLES, write_behaviour_report
from sentiment.runs.folder import check_output_dir
from sentiment.runs.results import get_language
from sentiment.storage import read_json, write_atomically, write_json

# In the order in which they are written.
WRITTEN_FILES = (FIGURE, "report.md", "report.html", "cases.csv", "behaviour.json")
CASE_COLUMNS = ("capability", "kind", "text", "original", "expected", "tolerance")


def run_behaviour_tests(
    models: Sequence[str],
    output_dir: str | Path = "outputs/behaviour",
    cases: str | None = None,
    capabilities: Sequence[str] = (),
    count: int | None = None,
    seed: int | None = None,
    **reading: str | None,
) -> dict[str, Any]:
    """Test up to five models, by the folders of their runs or their own; write behaviour.json, cases.csv and a report.

    The other arguments are those of `load_suite`. Returns the content of behaviour.json. An earlier result in
    `output_dir` is replaced; for anything else there, or models that the cases are not for, raises InputError and
    writes nothing.
    """
    output, names = Path(output_dir), name_models(models)
    check_output_dir(output, "behaviour test", WRITTEN_FILES, (WRITTEN_FILES[0], WRITTEN_FILES[-1]))
    is_written = cases is not None and Path(cases).resolve().parent == output.resolve()
    require(not is_written, f"{cases} would be replaced: pass another --output_dir")
    suite = load_suite(cases, capabilities, count, seed, **reading)
    warnings = [*suite.notes, *filter(None, (check_language(suite, model) for model in models))]
    # Every model is checked before the first one answers.
    checkpoints = [load_checkpoint(model) for model in models]
    expected = [align_expected(suite, found.labels, model) for found, model in zip(checkpoints, models, strict=True)]
    described, answers = [], []
    for model, name, checkpoint, classes in zip(models, names, checkpoints, expected, strict=True):
        found, more = answer_cases(checkpoint, suite, classes, name)
        warnings += more
        answers.append(found)
        labels, temperature = list(checkpoint.labels), checkpoint.temperature
        weights = (read_record(model) or {}).get("model", {}).get("weights_sha256")
        described.append(
            {"name": name, "folder": model, "weights_sha256": weights, "labels": labels, "temperature": temperature}
        )
    summaries = summarize_capabilities(suite.cases, [found.failed for found in answers])
    for summary in summaries:
        summary["description"] = suite.descriptions.get(summary["name"], "")
        summary["examples"] = [
            describe_case(suite.cases[place])
            | {
                "answers": [
                    describe_answer(found, place, model) for found, model in zip(answers, described, strict=True)
                ]
            }
            for place in find_worst_failures(suite.cases, answers, summary["name"])
        ]
    result = {
        "cases": {"source": suite.source, "number": len(suite.cases), "count": suite.count, "seed": suite.seed},
        "models": described,
        "warnings": warnings,
        "capabilities": summaries,
    }
    for file in reversed(WRITTEN_FILES):
        (output / file).unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    write_behaviour_report(output, result)
    write_cases(output / "cases.csv", suite.cases, answers, described)
    write_json(output / "behaviour.json", result)
    return result


def name_models(models: Sequence[str]) -> list[str]:
    """Names of the models: those of their runs' folders, or the paths where these are not different."""
    most = len(MODEL_STYLES)
    require(len(models) <= most, f"{len(models)} models: {most} at most side by side")
    paths = [Path(model).resolve() for model in models]
    folders = [path.parent if path.name == "model" else path for path in paths]
    repeated = next((model for model, folder in zip(models, folders, strict=True) if folders.count(folder) > 1), None)
    require(repeated is None, f"{repeated} is given twice: pass different runs")
    names = [folder.name for folder in folders]
    return names if len({*names}) == len(names) else [str(model) for model in models]


def read_record(model: str) -> dict[str, Any] | None:
    """The run.json of a model's run; None for a model that is of no run."""
    path = find_model_folder(model).parent / "run.json"
    return read_json(path) if path.is_file() else None


def check_language(suite: Suite, model: str) -> str | None:
    """A warning if the language of a model's run is undetermined; raises InputError if it is not that of the cases."""
    record = read_record(model)
    if not suite.language or record is None:
        return None
    language = get_language(record)
    if language == UNDETERMINED:
        return f"{model} has texts of an undetermined language, and the cases are in {suite.language!r}"
    problem = f"{model} has texts in {language!r}, and the cases of {suite.source} are in {suite.language!r}"
    is_same = language.partition("-")[0] == suite.language.partition("-")[0]
    require(is_same, f"{problem}: pass cases in its language with --cases")
    return None


def answer_cases(checkpoint: Checkpoint, suite: Suite, expected: Sequence[int], name: str) -> tuple[Answers, list[str]]:
    """A model's answers to the cases, and warnings: of truncated texts, and of one answer to all."""
    cases, warnings = suite.cases, []
    texts = list(dict.fromkeys(text for case in cases for text in (case.original, case.text) if text is not None))
    blank = next((text for text in texts if is_blank(checkpoint.clean(text))), None)
    require(blank is None, f"{suite.source}: {shorten(repr(blank))} is empty after the cleaning of {name}: remove it")
    input_ids, truncations = checkpoint.encode_with_truncation(texts)
    is_truncated = dict(zip(texts, truncations, strict=True))
    ids_of = dict(zip(texts, map(tuple, input_ids), strict=True))
    same = Counter(case.capability for case in cases if case.original and ids_of[case.text] == ids_of[case.original])
    for capability, count in same.items():
        total = sum(case.capability == capability for case in cases)
        warnings.append(
            f"{name}: {count} of {total} cases of {capability!r} cannot fail, since its cleaning or tokenizer leaves "
            "nothing of what is changed"
        )
    if truncated := sum(is_truncated[case.text] for case in cases):
        warnings.append(f"{name}: the texts of {truncated:,} cases are truncated to {checkpoint.max_seq_length} tokens")
    predictor = Predictor(checkpoint, load_backend(checkpoint, "torch", "fp32", None))
    found = dict(zip(texts, predictor.predict_probabilities(texts), strict=True))
    missing = np.full(len(checkpoint.labels), np.nan)
    probabilities = np.stack([found[case.text] for case in cases])
    originals = np.stack([missing if case.original is None else found[case.original] for case in cases])
    answers = judge_answers(cases, expected, probabilities, originals)
    constant = find_constant_answer(answers.label)
    if constant is not None and any(case.kind == "invariance" for case in cases):
        label = checkpoint.labels[constant]
        warnings.append(f"{name} answers {label!r} to (nearly) every case: that it passes invariance says nothing")
    return answers, warnings


def align_expected(suite: Suite, labels: Sequence[str], model: str) -> list[int]:
    """The number of the expected class of each case among a model's classes, -1 for invariance.

    Raises InputError if the model has no class of this name.
    """
    names = sorted({case.expected for case in suite.cases if case.expected is not None})
    try:
        numbers = dict(zip(names, align_labels(names, labels, suite.source, model), strict=True))
    except InputError:
        listed = [shorten(", ".join(found), 100) for found in (names, labels)]
        raise InputError(
            f"{suite.source} expects the classes {listed[0]}, and those of {model} are {listed[1]}: pass --cases with "
            "the names of its classes, or --capabilities of invariance alone"
        ) from None
    return [-1 if case.expected is None else numbers[case.expected] for case in suite.cases]


def describe_case(case: Case) -> dict[str, Any]:
    """The fields of a case that a table of cases has."""
    return {name: getattr(case, name) for name in CASE_COLUMNS}


def describe_answer(answers: Answers, place: int, model: dict[str, Any]) -> dict[str, Any]:
    """A model's answer to one case; the probabilities are those of the class that the case is about."""
    original = int(answers.original_label[place])
    return {
        "label": model["labels"][answers.label[place]],
        "probability": round(float(answers.probability[place]), 6),
        "original_label": model["labels"][original] if original >= 0 else None,
        "original_probability": round(float(answers.original_probability[place]), 6) if original >= 0 else None,
        "failed": bool(answers.failed[place]),
    }


def write_cases(
    path: Path, cases: Sequence[Case], answers: Sequence[Answers], models: Sequence[dict[str, Any]]
) -> None:
    """Write each case with the answers of each model as CSV, which --cases reads again."""
    records = []
    for place, case in enumerate(cases):
        record = describe_case(case)
        for found, model in zip(answers, models, strict=True):
            record |= {f"{key} {model['name']}": value for key, value in describe_answer(found, place, model).items()}
        records.append(record)
    with write_atomically(path) as staged, open_writer(staged, ".csv", list(records[0]), records) as writer:
        writer.write(records)


def list_exceeded(result: dict[str, Any], max_failure_rate: float) -> list[str]:
    """Each capability and model whose failure rate is over a limit, in words."""
    return [
        f"{summary['name']} of {model['name']} ({found['failure_rate']:.1%})"
        for summary in result["capabilities"]
        for model, found in zip(result["models"], summary["models"], strict=True)
        if found["failure_rate"] > max_failure_rate
    ]
