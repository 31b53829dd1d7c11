import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset

from sentiment.exceptions import InputError
from sentiment.runs.results import (
    read_adaptation_metrics,
    read_finished_run,
    read_predictions,
    stack_probabilities,
    write_predictions,
)

ADAPTATION = {"run_dir": "gone/mlm", "loss_after": 4.1}


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        read_finished_run(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


def test_a_finished_run_is_read(write_finished_run: Callable[..., Path]) -> None:
    run = read_finished_run(write_finished_run("e2e", wrong=[3, 8], seed=7))
    assert (run.options["seed"], run.adaptation, run.metrics["best_epoch"]) == (7, None, 2)
    assert [row for row, is_correct in enumerate(run.correct) if not is_correct] == [3, 8]


def test_folders_without_a_finished_fine_tuning(write_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    assert "pass the folder of a fine-tuning" in refusal(tmp_path / "missing")
    assert "no run in" in refusal(tmp_path)
    assert "holds an adaptation" in refusal(write_finished_run("mlm", strategy="mlm"))
    unfinished = write_finished_run("unfinished")
    (unfinished / "metrics.json").unlink()
    assert "unfinished run: finish it with --resume" in refusal(unfinished)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", '{"strategy": ', "not valid JSON"),
        ("run.json", "[]", "it has no strategy"),
        ("run.json", '{"strategy": "e2e"}', "it has no data.fingerprints"),
        ("metrics.json", '{"test": {"after": 0.9}}', "it has no test.after.accuracy_ci95"),
        ("predictions.parquet", "PAR1", "predictions.parquet is missing or damaged"),
    ],
)
def test_damaged_files(file: str, content: str, message: str, write_finished_run: Callable[..., Path]) -> None:
    folder = write_finished_run("e2e")
    (folder / file).write_text(content)
    assert message in refusal(folder)
    assert "train that run again, with --overwrite" in refusal(folder)


def test_missing_predictions_and_those_of_another_run(write_finished_run: Callable[..., Path]) -> None:
    folder, other = write_finished_run("e2e"), write_finished_run("other", wrong=[2])
    (folder / "predictions.parquet").unlink()
    assert "predictions.parquet is missing or damaged" in refusal(folder)
    (other / "predictions.parquet").rename(folder / "predictions.parquet")
    assert "its labels do not match metrics.json" in refusal(folder)
    pyarrow.parquet.write_table(pa.table({"row": [1], "label": [0]}), folder / "predictions.parquet")
    assert "predictions.parquet is missing or damaged" in refusal(folder)


def test_metrics_of_the_adaptation(write_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    run = read_finished_run(write_finished_run("finetune", record={"adaptation": ADAPTATION}))
    assert read_adaptation_metrics(run) is None
    metrics = {"steps": [{"step": 1, "loss": 9.0}], "history": [], "validation": {"after": {"loss": 4.1}}}
    beside = tmp_path / "mlm" / "metrics.json"
    beside.parent.mkdir()
    beside.write_text(json.dumps(metrics))
    assert read_adaptation_metrics(run) == metrics
    beside.write_text(json.dumps(metrics | {"validation": {"after": {"loss": 3.9}}}))  # another adaptation
    assert read_adaptation_metrics(run) is None
    assert read_adaptation_metrics(read_finished_run(write_finished_run("e2e"))) is None


def test_written_predictions_are_read_back(tmp_path: Path) -> None:
    split = Dataset.from_dict({"row": [4, 7], "text": ["good", "bad"], "label": [1, 0], "key": ["x", "y"]})
    split = split.cast_column("label", ClassLabel(names=["low", "high", "top"]))
    probabilities = np.array([[0.25, 0.75, 0.0], [0.5, 0.0, 0.5]])
    write_predictions(tmp_path / "predictions.parquet", split, probabilities)
    read = read_predictions(tmp_path / "predictions.parquet")
    assert stack_probabilities(read).tolist() == probabilities.tolist()
    assert read == {
        "row": [4, 7], "text": ["good", "bad"], "label": [1, 0], "predicted": [1, 0], "score": [0.75, 0.5],
        "p_low": [0.25, 0.5], "p_high": [0.75, 0.0], "p_top": [0.0, 0.5],
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
