"""`sentiment audit --label_issues`: folds of a run's data, the list of suspected labels, and a verdict without them."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from sentiment.cli import main
from sentiment.data.leaks import assign_clusters
from sentiment.evaluation.label_issues import LabelIssues
from sentiment.exceptions import InputError
from sentiment.pipelines.comparison import compare
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.pipelines.label_audit import audit_label_issues, build_folds, list_issues
from sentiment.runs.results import read_predictions

WRONG = 8


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `a.csv`, whose first rows have the wrong label, and a run on it for each of two seeds."""
    folder = tmp_path_factory.mktemp("label_issues")
    lines = ["text,label"]
    for number in range(120):
        text, label = ("a good film", "positive") if number % 2 else ("a bad film", "negative")
        if number < WRONG:
            label = "negative" if label == "positive" else "positive"
        lines.append(f"{text} of {number},{label}")
    (folder / "a.csv").write_text("\n".join(lines))
    (folder / "few.csv").write_text("\n".join(lines[:41]))
    for name, seed in (("run_1", 1), ("run_2", 2), ("few", 1)):
        source = folder / ("few.csv" if name == "few" else "a.csv")
        options = {"model": tiny_bert, "dataset": source, "output_dir": folder / name, "seed": seed}
        options |= {"lr": 5e-3, "num_train_epochs": 6, "batch_size": 8, "max_seq_length": 16, "split_seed": 1}
        main(["train", *(f"--{name}={value}" for name, value in options.items())])
    return folder


@pytest.fixture(scope="module")
def found(trained: Path) -> dict[str, Any]:
    """The summary of three folds."""
    return audit_label_issues(trained / "run_1", trained / "issues", folds=3)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls the command and gives the line with which it ends."""

    def refuse(*words: object) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([*map(str, words)])
        return capsys.readouterr().err.splitlines()[-1]

    return refuse


def read_issues(folder: Path) -> list[dict[str, str]]:
    with (folder / "label_issues.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_wrong_labels_are_listed_with_their_row_and_split(trained: Path, found: dict[str, Any]) -> None:
    issues = read_issues(trained / "issues")
    assert found["suspected"] == len(issues)
    assert found["rows"] == 120
    rows = [int(issue["row"]) - 1 for issue in issues]
    assert len({*range(WRONG)} & {*rows}) >= WRONG - 2
    assert len(rows) <= WRONG + 4
    for issue in issues:
        if (number := int(issue["row"]) - 1) >= WRONG:
            continue
        assert issue["text"] == f"a {'good' if number % 2 else 'bad'} film of {number}"
        assert (issue["label"], issue["suggested_label"]) == (
            ("negative", "positive") if number % 2 else ("positive", "negative")
        )
        assert float(issue["score"]) == pytest.approx(1 - float(issue["label_score"]), abs=2e-6)
    assert sum(found["suspected_by_split"].values()) == len(issues)
    assert sum(count["rows"] for count in found["classes"].values()) == 120
    assert found["estimated_share"] == pytest.approx(WRONG / 120, abs=0.05)
    report = (trained / "issues" / "report.md").read_text()
    assert f"{len(issues)} of 120 labels are suspected to be wrong" in report
    assert issues[0]["text"] in report


def test_every_row_is_judged_once_by_a_model_that_did_not_read_it(trained: Path, found: dict[str, Any]) -> None:
    del found
    tested: list[str] = []
    for number in range(1, 4):
        folder = trained / "issues" / "folds"
        parts = {
            name: Dataset.from_parquet(str(folder / f"fold_{number}_of_3.{name}.parquet"))["text"][:]
            for name in ("train", "validation", "test")
        }
        assert sum(map(len, parts.values())) == 120
        assert not set(parts["test"]) & {*parts["train"], *parts["validation"]}
        assert not set(parts["validation"]) & set(parts["train"])
        tested += parts["test"]
        assert not list((folder / f"fold_{number}_of_3").rglob("*.safetensors"))
    assert len(tested) == len(set(tested)) == 120


def test_finished_folds_are_not_trained_again(
    trained: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: FinetuningRun) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(FinetuningRun, "train", fail)
    assert audit_label_issues(trained / "run_1", trained / "issues", folds=3) == found


def test_texts_that_contain_each_other_are_in_one_fold(tmp_path: Path) -> None:
    texts = [text for number in range(40) for text in (f"long film {number} of the year", f"film {number} of")]
    features = Features(text=Value("string"), label=ClassLabel(names=["bad", "good"]))
    rows = Dataset.from_dict({"text": texts, "label": [number // 2 % 2 for number in range(80)]}, features=features)
    clusters = assign_clusters(texts)
    folds = build_folds(rows, clusters, 4, 1, tmp_path)
    assert sorted(np.concatenate([fold.rows for fold in folds]).tolist()) == list(range(80))
    for fold in folds:
        for name in ("train", "validation", "test"):
            assert not set(clusters[fold.split_of == name]) & set(clusters[fold.split_of != name])


def test_a_second_verdict_without_the_suspected_test_rows(trained: Path, found: dict[str, Any], tmp_path: Path) -> None:
    first, second = trained / "run_1", trained / "run_2"
    plain = compare(first, second, tmp_path / "plain")
    both = compare(first, second, tmp_path / "both", label_issues=trained / "issues")
    assert {name: value for name, value in both.items() if name != "without_label_issues"} == plain
    without = both["without_label_issues"]
    suspected = found["suspected_by_split"].get("test", 0)
    assert (without["suspected"], without["test_rows"]) == (suspected, plain["test_rows"] - suspected)
    assert "suspected to be wrong" in (tmp_path / "both" / "report.md").read_text()
    # The list is by the errors of one of the two.
    assert without["better"] is None
    assert "list the label issues of run_2 too" in without["sentence"]
    summary = found | {"run_dir": str(second)}
    shutil.copytree(trained / "issues", tmp_path / "second", ignore=shutil.ignore_patterns("folds"))
    (tmp_path / "second" / "label_issues.json").write_text(json.dumps(summary))
    lists = [trained / "issues", tmp_path / "second"]
    complete = compare(first, second, tmp_path / "complete", label_issues=lists)["without_label_issues"]
    assert complete["suspected"] == suspected
    assert "No verdict: a list" not in complete["sentence"]


def test_lists_that_do_not_fit_are_refused(
    trained: Path, found: dict[str, Any], tmp_path: Path, refused: Callable[..., str]
) -> None:
    run, other = trained / "run_1", tmp_path / "issues"
    other.mkdir()
    words = ("compare", run, trained / "run_2", "--output_dir", tmp_path / "c", "--label_issues", other)
    assert "no list of label issues in" in refused(*words)
    (other / "label_issues.csv").write_text("row,split,text\n1,train,another text\n")
    (other / "label_issues.json").write_text(json.dumps(found | {"test_fingerprint": "another"}))
    assert "lists rows of other data or another split" in refused(*words)
    rows = read_predictions(run / "predictions.parquet")["row"]
    (other / "label_issues.json").write_text(json.dumps(found))
    (other / "label_issues.csv").write_text("row,split,text\n" + "".join(f"{row + 1},test,x\n" for row in rows))
    assert "the label of every test row is suspected, so that none is left to compare" in refused(*words)
    (other / "label_issues.csv").write_text(f"row,split,text\n{rows[0] + 1},test,{'x' * 200_000}\n")
    assert compare(run, trained / "run_2", tmp_path / "long", label_issues=other)["without_label_issues"]["suspected"]


def test_near_duplicates_with_another_label_are_shown(trained: Path, found: dict[str, Any]) -> None:
    del found
    texts = {issue["text"]: issue for issue in read_issues(trained / "issues") if issue["similar_text"]}
    for issue in texts.values():
        assert issue["similar_label"] != issue["label"]
    rows = Dataset.from_dict(
        {"text": ["a rather good film of the year, with a long and fine end", "a dull one",
                  "a rather good film of the year, with a long and fine ending"],
         "label": [0, 0, 1], "row": [0, 1, 2], "split": ["train"] * 3},
        features=Features(text=Value("string"), label=ClassLabel(names=["bad", "good"]), row=Value("int64"),
                          split=Value("string")),
    )  # fmt: skip
    issues = LabelIssues(rows=np.array([0]), suggested=np.array([1]), share=0.1, shares={})
    (issue,) = list_issues(rows, issues, np.full((3, 2), 0.5), np.arange(3))
    assert (issue["row"], issue["similar_text"], issue["similar_label"]) == (1, rows["text"][2], "good")


def test_wrong_use_is_one_line(
    trained: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained / "run_1"
    assert "--dataset_name: --label_issues reads the data of the run" in refused(
        "audit", "--label_issues", run, "--dataset", trained / "a.csv"
    )
    assert "--folds 1: from 2 to 20" in refused("audit", "--label_issues", run, "--folds", 1)
    assert "no run in" in refused("audit", "--label_issues", tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds notes.txt" in refused("audit", "--label_issues", run, "--output_dir", tmp_path)
    assert "--model, --output, --seed: --label_issues reads" in refused(
        "audit", "--label_issues", run, "--model", "none", "--seed", 3, "--output", tmp_path / "a.json"
    )
    assert "--folds: with --label_issues only" in refused("audit", "--dataset", trained / "a.csv", "--folds", 3)
    assert "pass fewer folds, or train a run that joins or leaves out these classes" in refused(
        "audit", "--label_issues", trained / "few", "--folds", 20, "--output_dir", tmp_path / "many"
    )
    assert not (tmp_path / "many").exists()
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    assert "label issues need cleanlab: pip install 'adapt-or-finetune[labels]'" in refused(
        "audit", "--label_issues", run
    )


def test_a_run_that_starts_from_a_fine_tuning_is_refused(trained: Path, tmp_path: Path) -> None:
    options = {"model": trained / "run_1", "dataset": trained / "a.csv", "output_dir": tmp_path / "run", "seed": 1}
    options |= {"num_train_epochs": 1, "batch_size": 8, "max_seq_length": 16, "split_seed": 1}
    main(["train", *(f"--{name}={value}" for name, value in options.items())])
    with pytest.raises(InputError, match=r"the run starts from .*, which may have seen the labels"):
        audit_label_issues(tmp_path / "run", tmp_path / "issues", folds=3)


def test_summary_is_on_the_disk(trained: Path, found: dict[str, Any]) -> None:
    assert json.loads((trained / "issues" / "label_issues.json").read_text()) == found
