"""Comparison of synthetic runs: what is written, what is refused, and that nothing is written then."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from sentiment.exceptions import InputError
from sentiment.pipelines.comparison import compare
from sentiment.reporting.terminal import render_comparison

WRITTEN = {"report.html", "report.md", "verdict.json", "history.svg", "test_metrics.svg", "before_after.svg"}


def refusal(first: Path, second: Path, output: Path) -> str:
    before = sorted(output.rglob("*")) if output.exists() else None
    with pytest.raises(InputError) as error:
        compare(first, second, output)
    assert (sorted(output.rglob("*")) if output.exists() else None) == before
    return str(error.value)


def test_files_and_verdict(write_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    adaptation = {
        "run_dir": str(tmp_path / "mlm"), "base_model": "minilm", "datasets": ["imdb"], "rows": 8000, "steps": 1520,
        "num_train_epochs": 2, "train_seconds": 400.0, "loss_before": 10.8, "loss_after": 4.1, "test_texts_seen": 0,
    }  # fmt: skip
    first = write_finished_run("a", wrong=range(12))
    second = write_finished_run("b", wrong=[0, 20], strategy="finetune", record={"adaptation": adaptation})
    comparison = compare(first, second, tmp_path / "deep" / "out")
    assert {path.name for path in (tmp_path / "deep" / "out").iterdir()} == WRITTEN
    assert json.loads((tmp_path / "deep" / "out" / "verdict.json").read_text()) == comparison
    assert comparison["sentence"].startswith("finetune is better than e2e by 25.0 points")
    assert (comparison["better"], comparison["fixes"], comparison["regressions"]) == ("b", 11, 1)
    assert comparison["metrics"]["accuracy"]["a_ci95"] == pytest.approx([0.5457, 0.8193], abs=1e-3)
    assert comparison["metrics"]["loss"] == {"a": 0.3, "b": 0.3, "difference": 0.0}
    assert comparison["slices"][0] | {"name": ""} == {
        "name": "", "rows": 40, "errors_a": 12, "errors_b": 2, "fixes": 11, "regressions": 1, "net": 10,
    }  # fmt: skip
    assert [flip["row"] for flip in comparison["flips"]["regressions"]] == [20]
    assert comparison["cost"]["ratio"] == 5.0
    assert comparison["runs"]["b"]["fingerprints"]["test"] == "ef56"


@pytest.mark.parametrize(
    ("strategies", "folders", "names"),
    [
        (["e2e", "finetune"], ["x", "y"], ["e2e", "finetune"]),
        (["e2e", "e2e"], ["x", "y"], ["x", "y"]),
        (["e2e", "e2e"], ["x/run", "y/run"], ["x/run", "y/run"]),
    ],
)
def test_names_of_runs(
    strategies: list[str], folders: list[str], names: list[str], write_finished_run: Callable[..., Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for strategy, folder in zip(strategies, folders, strict=True):
        write_finished_run(folder, strategy=strategy)
    monkeypatch.chdir(tmp_path)
    comparison = compare(*folders, "out")
    assert [run["name"] for run in comparison["runs"].values()] == names


def test_a_finetune_run_without_an_adaptation_is_no_strategy_b(
    write_finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = write_finished_run("a", wrong=range(12)), write_finished_run("b", [0, 20], strategy="finetune")
    warnings = compare(first, second, tmp_path / "out")["warnings"]
    assert "finetune started from a model that was not adapted: it is not strategy B." in warnings


def test_behaviour_tests_of_both_runs_are_in_the_report(
    write_finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = (
        write_finished_run(name, wrong, strategy, {"model": {"weights_sha256": name}})
        for name, wrong, strategy in (("a", range(12), "e2e"), ("b", [0, 20], "finetune"))
    )
    tested: Any = {
        "models": [{"weights_sha256": "b"}, {"weights_sha256": "a"}],
        "capabilities": [{"name": "negation", "cases": 200, "models": [{"failure_rate": 0.25}, {"failure_rate": 0.5}]}],
    }
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "behaviour.json").write_text(json.dumps(tested))
    comparison = compare(first, second, tmp_path / "out", behaviour=tmp_path / "tests")
    assert comparison["behaviour"]["failure_rates"] == [["negation", 200, 0.5, 0.25]]
    assert "| negation | 200 | 50.0% | 25.0% |" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(InputError, match="no behaviour tests in"):
        compare(first, second, tmp_path / "other", behaviour=tmp_path)
    for models, message in (
        ([{"weights_sha256": "b"}, {"weights_sha256": "of a before it was trained again"}], "tests of other models"),
        ([{"weights_sha256": "b"}, {"weights_sha256": None}], "behaviour tests of other models"),
        ([{"folder": "a"}], "no behaviour tests in"),
        (None, "no behaviour tests in"),
    ):
        (tmp_path / "tests" / "behaviour.json").write_text(json.dumps(tested | {"models": models}))
        with pytest.raises(InputError, match=message):
            compare(first, second, tmp_path / "other", behaviour=tmp_path / "tests")
    assert not (tmp_path / "other").exists()


def test_only_an_earlier_comparison_is_replaced(write_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    first, second = write_finished_run("a"), write_finished_run("b", wrong=[1])
    output = tmp_path / "out"
    compare(first, second, output)
    (output / "mlm_loss.svg").write_bytes(b"of an earlier comparison")
    compare(first, second, output)
    assert {path.name for path in output.iterdir()} == WRITTEN
    (output / "verdict.json").unlink()  # one that was interrupted
    (output / "report.html.part").write_text("staged")  # by a process that was killed
    compare(first, second, output)
    (output / "notes.txt").write_text("mine")
    assert "out holds notes.txt, not part of a comparison: pass another --output_dir" in refusal(first, second, output)
    assert "not part of a comparison" in refusal(first, second, first)
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.md").write_text("mine")
    assert "holds no comparison" in refusal(first, second, other)
    assert "is a file" in refusal(first, second, other / "report.md" / "deeper")


def test_rows_of_texts_that_contain_each_other_are_resampled_in_clusters(
    write_finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    folders = [write_finished_run("a", wrong=range(12)), write_finished_run("b", wrong=[0, 20])]
    independent = compare(*folders, tmp_path / "independent")
    assert (independent["test_rows"], independent["test_clusters"]) == (40, 40)
    assert "cluster" not in independent["sentence"]
    for folder in folders:
        table = pyarrow.parquet.read_table(folder / "predictions.parquet")
        texts = [f"a long text number {row // 4}" + " and more" * (row % 4) for row in range(40)]
        table = table.set_column(table.column_names.index("text"), "text", pa.array(texts))
        pyarrow.parquet.write_table(table, folder / "predictions.parquet")
    clustered = compare(*folders, tmp_path / "clustered")
    assert (clustered["test_rows"], clustered["test_clusters"]) == (40, 10)
    assert "40 test rows in 10 clusters of texts that contain each other" in clustered["sentence"]
    assert clustered["fixes"] == independent["fixes"]
    assert clustered["mcnemar_p"] > independent["mcnemar_p"]
    report = " ".join((tmp_path / "clustered" / "report.md").read_text(encoding="utf-8").split())
    assert "the same 40 test rows in 10 clusters of texts" in report


def test_different_threads_are_a_warning_in_the_verdict_and_the_report(
    write_finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    hardware = [{"hardware": {"device": "cpu", "name": "Chip", "cores": 2, "threads": threads}} for threads in (1, 2)]
    folders = [write_finished_run(name, record=record) for name, record in zip("ab", hardware, strict=True)]
    comparison = compare(*folders, tmp_path / "out")
    (warning,) = comparison["warnings"]
    assert "not comparable (threads: 1 and 2)" in warning
    assert warning in render_comparison(comparison)
    assert "not comparable (threads: 1 and 2)" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_refused_runs(write_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    first, second = write_finished_run("a"), write_finished_run("b", seed=2)
    output = tmp_path / "out"
    assert "pass two different runs" in refusal(first, tmp_path / "b" / ".." / "a", output)
    assert "no run in" in refusal(first, tmp_path / "missing", output)
    (second / "model" / "tokenizer.json").write_text("{")
    assert "cannot read the tokenizer" in refusal(second, first, output)
    compare(first, second, output)  # the slices are those of the first


def test_the_command_imports_neither_torch_nor_the_libraries_of_metrics(
    write_finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    """Importing them takes longer than a comparison."""
    folders = [str(write_finished_run(name, wrong=wrong)) for name, wrong in (("a", [1]), ("b", [2]))]
    program = (
        "import sys; from sentiment.cli import main; main(sys.argv[1:]); "
        "print(*sorted({'torch', 'datasets', 'evaluate', 'sklearn'} & set(sys.modules)), sep=',')"
    )
    words = [sys.executable, "-c", program, "compare", *folders, "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_the_metric_of_both_runs_decides(write_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    first = write_finished_run("a", wrong=[3, 8], metric_for_best_model="macro_f1")
    second = write_finished_run("b", wrong=[5], metric_for_best_model="macro_f1")
    assert "macro F1" in compare(first, second, tmp_path / "c")["rule"]
    other = write_finished_run("other", wrong=[1], metric_for_best_model="mcc")
    rules = {compare(first, other, tmp_path / "d", metric=metric)["rule"] for metric in (None, "accuracy")}
    assert len(rules) == 1
