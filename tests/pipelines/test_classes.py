"""Three classes through every command, with a tiny BERT: train, evaluate, predict, verify, compare."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import yaml

from sentiment.cli import main
from sentiment.inference.predictor import Predictor

WORDS = {"1": "bad dull", "2": "the story", "3": "good great"}


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    """90 reviews with 1, 2 or 3 stars; 10 of the last ones have 9, which means nothing."""
    with (tmp_path / "reviews.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=";")
        writer.writerow(["id", "review", "stars"])
        for row in range(100):
            label = "123"[row % 3] if row < 90 else "9"
            writer.writerow([row, f"{WORDS.get(label, 'film')} film; number {row}", label])
    return tmp_path / "reviews.csv"


@pytest.fixture
def train(tiny_bert: Path, stars: Path, tmp_path: Path) -> Callable[..., Path]:
    def call(name: str, *flags: str) -> Path:
        options = ["--model", str(tiny_bert), "--dataset", str(stars), "--label_column_name", "stars"]
        options += ["--label_mapping", "1=bad,2=fair,3=good,9=null", "--max_rows", "all", "--max_seq_length", "16"]
        options += ["--num_train_epochs", "2", "--batch_size", "16", "--learning_rate", "1e-3", "--split_seed", "1"]
        main(["train", *options, "--output_dir", str(tmp_path / name), *flags])
        return tmp_path / name

    return call


def test_three_classes_from_training_to_comparison(
    train: Callable[..., Path], stars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = train("first"), train("second", "--seed", "5")
    shown = capsys.readouterr()
    assert "3 classes: bad (24), fair (24), good (24); left out: 10 by --label_mapping" in shown.err
    assert "top-2 accuracy" in shown.out
    record, metrics = (json.loads((first / name).read_text()) for name in ("run.json", "metrics.json"))
    assert record["data"]["classes"] == ["bad", "fair", "good"]
    assert record["data"]["audit"]["dropped"] == {"left_out_by_mapping": 10}
    after = metrics["test"]["after"]
    assert [len(row) for row in after["confusion_matrix"]] == [3, 3, 3]
    table = pyarrow.parquet.read_table(first / "predictions.parquet").to_pydict()
    assert list(table)[4:] == ["score", "p_bad", "p_fair", "p_good"]
    for file in ("report.md", "report.html", "model/README.md"):
        text = (first / file).read_text()
        assert "fair" in text
        assert "positive" not in text

    columns = ["--label_column_name", "stars", "--label_mapping", "1=bad,2=fair,3=good,9=null"]
    main(["evaluate", str(first), "--dataset", str(stars), *columns, "--output", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == 90
    assert f"warning: 72 of 90 texts were training texts of the fine-tuning in {first}" in capsys.readouterr().err
    main(["predict", str(first), "--file", str(stars), "--output", str(tmp_path / "out.csv"), "--probabilities"])
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "review", "stars", "label", "score", "p_bad", "p_fair", "p_good"]
    assert len(rows) == 100
    expected = Predictor.from_pretrained(str(first)).predict([row["review"] for row in rows[:5]])
    assert [row["label"] for row in rows[:5]] == [prediction.label for prediction in expected if prediction]
    main(["verify", str(first)])
    main(["compare", str(first), str(second), "--output_dir", str(tmp_path / "comparison")])
    verdict = json.loads((tmp_path / "comparison" / "verdict.json").read_text())
    assert {"accuracy", "macro_f1", "weighted_f1"} <= verdict["metrics"].keys()

    # On other rows, both models are run again; texts with a label in a run are left out.
    other = tmp_path / "other.csv"
    new = [f"{row};{WORDS['123'[row % 3]]} plot, number {row};{'123'[row % 3]}\n" for row in range(100, 130)]
    other.write_text(stars.read_text() + "".join(new))
    main(["evaluate", str(first), "--dataset", str(other), *columns, "--output", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["rows"], found["new_texts"]["rows"]) == (120, 30)
    assert "accuracy on the 30 texts that are new to the model: " in capsys.readouterr().out
    main(["compare", str(first), str(second), "--output_dir", str(tmp_path / "new"), "--dataset", str(other), *columns])
    verdict = json.loads((tmp_path / "new" / "verdict.json").read_text())
    assert (verdict["dataset"], verdict["split"], verdict["test_rows"]) == (str(other), "train", 30)
    assert any(warning.startswith("90 of 120 texts are left out") for warning in verdict["warnings"])
    assert verdict["metrics"]["accuracy"]["a"] == found["new_texts"]["accuracy"]
    assert f"rows of {other} (split train)" in " ".join((tmp_path / "new" / "report.html").read_text().split())
    seen = ["--output_dir", str(tmp_path / "seen"), "--dataset", str(stars), *columns]
    with pytest.raises(SystemExit):
        main(["compare", str(first), str(second), *seen])
    assert "every text is among the labelled ones" in capsys.readouterr().err

    main(["export", str(first), "--dataset", str(stars), *columns])
    texts = [row["review"] for row in rows[:9]]
    answers = Predictor.from_pretrained(str(first), backend="onnx").predict_probabilities(texts)
    assert np.allclose(answers, Predictor.from_pretrained(str(first)).predict_probabilities(texts), atol=1e-5)
    assert answers.shape == (9, 3)


def test_three_classes_through_a_study(tiny_bert: Path, stars: Path, tmp_path: Path) -> None:
    config = {
        "seeds": [1, 2], "budgets": [30], "arms": ["e2e", "e2e+decay"], "output_dir": str(tmp_path / "study"),
        "finetuning": {
            "model_name_or_path": str(tiny_bert), "dataset_name": str(stars), "label_column_name": "stars",
            "label_mapping": {"1": "bad", "2": "fair", "3": "good", "9": None}, "max_seq_length": 16,
            "num_train_epochs": 1, "batch_size": 16,
        },
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    main(["study", str(tmp_path / "study.yaml")])
    report = (tmp_path / "study" / "report.md").read_text()
    assert "e2e+decay" in report
    assert "positive" not in report


def test_a_checkpoint_of_other_classes_is_not_evaluated(
    train: Callable[..., Path], stars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(run), "--dataset", str(stars), "--label_column_name", "stars"])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "bad" in error
    assert "9" in error
