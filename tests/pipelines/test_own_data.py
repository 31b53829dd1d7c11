"""Runs on data of one's own: files of splits, options that follow the rows, weights of classes, and targets."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from transformers import EvalPrediction

from sentiment.cli import main
from sentiment.pipelines.evaluation import compute_trainer_metrics
from sentiment.training.history import SELECTION

Rows = Sequence[tuple[str, str]]


def write_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return path


def build_rows(negative: int, positive: int, word: str = "film") -> list[tuple[str, str]]:
    bad = [(f"bad {word} {number}", "neg") for number in range(negative)]
    return [*bad, *((f"good {word} {number}", "pos") for number in range(positive))]


@pytest.fixture
def train(tiny_bert: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`train(*flags)`: the record and the metrics of a run in `run`."""

    def call(*flags: object) -> dict[str, Any]:
        options = ["--model", tiny_bert, "--output_dir", tmp_path / "run", "--lr", "5e-3", "--precision", "fp32"]
        options += ["--max_seq_length", 16]
        main(["train", *map(str, options), *map(str, flags)])
        return {name: json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("run", "metrics")}

    return call


def test_files_of_splits_are_used_as_they_are(train: Callable[..., Any], tmp_path: Path) -> None:
    files = [
        *("--train_file", write_csv(tmp_path / "a.csv", build_rows(20, 20))),
        *("--validation_file", write_csv(tmp_path / "b.csv", build_rows(5, 6, "story"))),
        *("--test_file", write_csv(tmp_path / "c.csv", build_rows(7, 4, "plot"))),
    ]
    record = train(*files, "--num_train_epochs", 1)["run"]
    audit = record["data"]["audit"]
    assert audit["split"] == "official"
    assert {name: part["labels"] for name, part in audit["splits"].items()} == {
        "train": {"negative": 20, "positive": 20, "unlabelled": 0},
        "validation": {"negative": 5, "positive": 6, "unlabelled": 0},
        "test": {"negative": 7, "positive": 4, "unlabelled": 0},
    }
    texts = pyarrow.parquet.read_table(tmp_path / "run" / "predictions.parquet")["text"].to_pylist()
    assert texts == [text for text, _ in build_rows(7, 4, "plot")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--test_file", "c.csv"], "--validation_file and --test_file: pass --train_file too"),
        (["--train_file", "a.csv", "--validation_file", "b.csv"], "--validation_file: pass --test_file too"),
        (["--train_file", "a.csv", "--test_file", "c.csv", "--preset", "lab"], "--test_file: without --split and"),
        (["--train_file", "a.csv", "--test_file", "c.csv", "--split", "grouped"], "--test_file: without --split and"),
        (["--train_file", "a.csv", "--dataset", "imdb"], "--dataset imdb and --train_file contradict each other"),
        (["--train_file", "a.csv"], "no such file: a.csv"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(
    flags: list[str], message: str, train: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        train(*flags)
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err


def test_size_of_training_follows_the_rows_and_is_on_record(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "a.csv", build_rows(120, 120))
    record = train("--dataset", data, "--max_steps", 3)["run"]
    shown = capsys.readouterr().err
    assert "options by the number of training rows, 192: --batch_size 16, --num_train_epochs 20" in shown
    assert record["chosen_options"] == {"batch_size": 16, "num_train_epochs": 20}
    assert (record["options"]["batch_size"], record["options"]["num_train_epochs"]) == (16, 20)
    assert "batch_size" not in record["non_default_options"]
    for flags in ([], ["--batch_size", 16]):
        train("--dataset", data, "--max_steps", 3, *flags)
        assert "finished: nothing to do" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train("--dataset", data, "--max_steps", 3, "--batch_size", 8)
    assert "batch_size 16 -> 8" in capsys.readouterr().err
    main(["verify", str(tmp_path / "run")])


def test_weights_of_classes_help_a_rare_class(train: Callable[..., Any], tmp_path: Path) -> None:
    # Of texts that say nothing, one in five is positive: without weights, negative is the best answer.
    rows = [(f"film {number}", "pos" if number % 5 == 0 else "neg") for number in range(200)]
    data = write_csv(tmp_path / "a.csv", rows)
    flags = ["--dataset", data, "--num_train_epochs", 1, "--metric", "loss", "--overwrite"]
    predicted = {}
    for weights in ("none", "1,50"):
        metrics = train(*flags, "--class_weights", weights)["metrics"]
        predicted[weights] = sum(row[1] for row in metrics["test"]["after"]["confusion_matrix"])
    assert predicted == {"none": 0, "1,50": 20}


def test_a_metric_of_two_classes_is_refused_for_three(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{label} film {number}", label) for number in range(12) for label in ("bad", "fair", "good")]
    data = write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(SystemExit) as refusal:
        train("--dataset", data, "--metric", "f1")
    assert refusal.value.code == 2
    assert "--metric f1: of two classes only, and there are 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    metrics = train("--dataset", data, "--metric", "mcc", "--num_train_epochs", 2)["metrics"]
    found = [entry["validation"]["mcc"] for entry in metrics["history"]]
    assert metrics["validation"]["mcc"] == max(found)


def test_a_missing_file_is_called_missing_and_not_another_run(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "reviews.csv", build_rows(50, 50))
    train("--dataset", data, "--max_steps", 1)
    for name, nearest in (("reviws.csv", f" (did you mean '{data}'?)"), ("other.csv", "")):
        with pytest.raises(SystemExit) as refusal:
            train("--dataset", tmp_path / name, "--max_steps", 1)
        assert refusal.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"error: no such file: {tmp_path / name}{nearest}"


def test_reports_and_cards_name_files_without_their_folders(train: Callable[..., Any], tmp_path: Path) -> None:
    train("--dataset", write_csv(tmp_path / "reviews.csv", build_rows(50, 50)), "--max_steps", 1)
    card, report = ((tmp_path / "run" / name).read_text() for name in ("model/README.md", "report.md"))
    assert str(tmp_path) not in card
    assert str(tmp_path) not in report.splitlines()[0]
    assert report.splitlines()[0].endswith("on reviews.csv")


def adapt(*flags: object) -> None:
    main(["adapt", "--max_steps", "1", "--max_seq_length", "16", *map(str, flags)])


def test_target_of_an_adaptation_follows_its_own_labelled_data(tiny_bert: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "a.csv", build_rows(50, 50))
    adapt("--model", tiny_bert, "--dataset", data, "--output_dir", tmp_path / "mlm")
    record = json.loads((tmp_path / "mlm" / "run.json").read_text())
    # 20 texts are in the validation and test splits of the fine-tuning to come.
    assert record["data"]["audit"]["dropped"]["in_test"] == 20


def test_target_of_files_of_splits(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"good story {number}\n" for number in range(40)))
    files = [
        *("--target_train_file", write_csv(tmp_path / "a.csv", build_rows(20, 20))),
        *("--target_test_file", write_csv(tmp_path / "c.csv", build_rows(7, 4, "story"))),
    ]
    adapt("--model", tiny_bert, "--dataset", tmp_path / "texts.txt", "--output_dir", tmp_path / "mlm", *files)
    record = json.loads((tmp_path / "mlm" / "run.json").read_text())
    assert record["data"]["audit"]["dropped"]["in_test"] == 4


def test_without_a_target_an_adaptation_asks_for_one(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"good film {number}\n" for number in range(40)))
    with pytest.raises(SystemExit) as refusal:
        adapt("--model", tiny_bert, "--dataset", tmp_path / "texts.txt", "--output_dir", tmp_path / "mlm")
    assert refusal.value.code == 2
    assert "--target_dataset" in capsys.readouterr().err


def test_of_equal_epochs_the_one_with_the_lower_loss_is_kept() -> None:
    labels = np.array([0, 1, 1, 0])
    losses = {}
    for name, scale in (("sure", 3.0), ("unsure", 0.5)):
        logits = np.eye(2)[[0, 1, 1, 0]] * scale  # all right, with other confidence
        metrics = compute_trainer_metrics(["a", "b"], "accuracy", EvalPrediction(logits, labels))
        losses[name] = metrics["loss"]
        assert metrics["accuracy"] == 1.0
        assert metrics[SELECTION] == pytest.approx(1.0, abs=1e-8)
    assert losses["sure"] < losses["unsure"]
    wrong = compute_trainer_metrics(["a", "b"], "accuracy", EvalPrediction(np.eye(2)[[0, 1, 1, 1]] * 9.0, labels))
    selections = [
        compute_trainer_metrics(["a", "b"], "accuracy", EvalPrediction(np.eye(2)[labels] * scale, labels))[SELECTION]
        for scale in (0.5, 3.0)
    ]
    assert wrong[SELECTION] < selections[0] < selections[1]


def test_imbalanced_classes_are_a_hint(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "a.csv", build_rows(120, 30))
    train("--dataset", data, "--max_steps", 1)
    assert "80% of the training rows are of one class: --metric macro_f1" in capsys.readouterr().err


def test_a_misspelt_class_is_named(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*build_rows(60, 60), *((f"fair film {number}", "positiv") for number in range(12))]
    names = {"pos": "positive", "neg": "negative"}
    data = write_csv(tmp_path / "a.csv", [(text, names.get(label, label)) for text, label in rows])
    train("--dataset", data, "--max_steps", 1)
    expected = "warning: class 'positiv' (12 rows) is one letter from 'positive': if that is a misspelling, join them: "
    expected += "--label_mapping negative=negative,positiv=positive,positive=positive\n"
    assert expected in capsys.readouterr().err


def test_a_class_with_the_name_of_a_missing_value_is_named(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*build_rows(30, 30), *((f"fair film {number}", "N/A") for number in range(12))]
    train("--dataset", write_csv(tmp_path / "a.csv", rows), "--max_steps", 1)
    expected = "class 'N/A' (12 rows): if that is a missing value, pass --unlabelled_value N/A"
    assert expected in capsys.readouterr().err


def test_a_model_that_does_not_know_the_script_is_called_so(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"\u7535\u5f71 good {number}", "pos") for number in range(40)]
    data = write_csv(tmp_path / "a.csv", [*rows, *((f"\u7535\u5f71 bad {number}", "neg") for number in range(40))])
    audit = train("--dataset", data, "--max_steps", 1)["run"]["data"]["audit"]
    share = audit["splits"]["train"]["share_unknown"]
    assert share == 0.75  # two characters and the number of four tokens
    assert "warning: 75% of the tokens are unknown to this model" in capsys.readouterr().err


def test_training_texts_that_are_all_in_test_are_refused(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "a.csv", build_rows(20, 20))
    with pytest.raises(SystemExit):
        train("--train_file", data, "--test_file", data)
    assert "all 40 training texts are also in the test split" in capsys.readouterr().err


def test_published_splits_that_are_joined_or_not_used_are_named(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    write_csv(folder / "train.csv", build_rows(30, 30))
    write_csv(folder / "dev.csv", build_rows(10, 10, "story"))
    write_csv(folder / "test.csv", [("good plot", "")])
    train("--dataset", folder, "--max_steps", 1)
    shown = capsys.readouterr().err
    assert "(split stratified of published train and validation; not used: test)" in shown
