"""`sentiment verify`: a run that is what its record says, and each way in which it may not be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sentiment.cli import main
from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.exceptions import InputError
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.pipelines.verification import verify_run


@pytest.fixture
def run_dir(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> Path:
    """A finished fine-tuning."""
    own = tmp_path / "own.csv"
    own.write_bytes(reviews_csv.read_bytes())
    data_args = DataArguments(dataset_name=str(own), max_seq_length=32, max_rows="200")
    args = FinetuningArguments(output_dir=str(tmp_path / "run"), learning_rate=5e-3, batch_size=32, num_train_epochs=1)
    FinetuningRun("e2e", ModelArguments(str(tiny_bert)), data_args, args).execute()
    return tmp_path / "run"


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def find_differences(run_dir: Path) -> str:
    return "\n".join(verify_run(run_dir).differences)


def test_a_run_is_what_its_record_says(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(run_dir)])
    assert "20 test rows: every metric on record is reproduced to 1e-06" in capsys.readouterr().out


def test_each_number_of_the_record_counts(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(metrics: Any) -> None:
        metrics["test"]["after"]["loss"] += 2e-6
        metrics["test"]["after"]["confusion_matrix"][0][1] += 1

    change_json(run_dir / "metrics.json", change)
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(run_dir)])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "test.loss: " in said
    assert "test.confusion_matrix[0][1]: " in said
    assert "where it was trained" not in said


def test_other_weights_are_told(run_dir: Path) -> None:
    weights = load_file(run_dir / "model" / "model.safetensors")
    weights["classifier.weight"] *= 2
    save_file(weights, run_dir / "model" / "model.safetensors", metadata={"format": "pt"})
    differences = find_differences(run_dir)
    assert "model.safetensors: SHA-256" in differences
    assert "test.loss" in differences
    assert "predictions.parquet" in differences


def test_other_rows_are_told(run_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(own.read_text(encoding="utf-8").replace("film", "movie"), encoding="utf-8")
    assert "fingerprint.test: " in find_differences(run_dir)


def test_another_machine_is_told_where_something_differs(run_dir: Path) -> None:
    def change(record: Any) -> None:
        record["versions"]["torch"] = "1.0"
        record["hardware"]["threads"] = 99

    change_json(run_dir / "run.json", change)
    verification = verify_run(run_dir)
    assert not verification.differences
    assert any(line.startswith("versions.torch: ") for line in verification.surroundings)
    assert any(line.startswith("hardware.threads: ") for line in verification.surroundings)


def test_what_cannot_be_verified_is_named(run_dir: Path) -> None:
    (run_dir / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        verify_run(run_dir)
    (run_dir / "metrics.json").unlink()
    with pytest.raises(InputError, match="unfinished run: finish it with --resume"):
        verify_run(run_dir)
    with pytest.raises(InputError, match=r"no run in .*: pass the folder of a finished run"):
        verify_run(run_dir / "model")


def test_an_adaptation_is_verified_on_its_masks(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> None:
    corpus_args = CorpusArguments(
        dataset_name=[str(reviews_csv)], target_dataset="none", max_seq_length=32, max_rows="200"
    )
    args = AdaptationArguments(output_dir=str(tmp_path / "mlm"), learning_rate=5e-3, num_train_epochs=2)
    AdaptationRun("mlm", ModelArguments(str(tiny_bert)), corpus_args, args).execute()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlm").rglob("*")}
    assert find_differences(tmp_path / "mlm") == ""
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mlm").rglob("*")} == before
    change_json(tmp_path / "mlm" / "metrics.json", lambda metrics: metrics["validation"]["after"].update(loss=1.0))
    assert "validation.loss: " in find_differences(tmp_path / "mlm")
