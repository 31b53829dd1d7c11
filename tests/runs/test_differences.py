from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sentiment.exceptions import InputError
from sentiment.runs.differences import check_same_test, list_differences, list_warnings
from sentiment.runs.results import FinishedRun, read_finished_run


@pytest.fixture
def read_runs(write_finished_run: Callable[..., Path]) -> Callable[..., list[FinishedRun]]:
    """`read_runs(learning_rate=1)`: two runs, the second with these options."""

    def read(record: Any = None, **options: Any) -> list[FinishedRun]:
        first, second = write_finished_run("a"), write_finished_run("b", record=record, **options)
        return [read_finished_run(first), read_finished_run(second)]

    return read


def refusal(runs: list[FinishedRun]) -> str:
    with pytest.raises(InputError) as error:
        check_same_test(*runs)
    assert "were tested on different rows" in str(error.value)
    return str(error.value)


def test_equal_test_rows_are_accepted_with_any_other_difference(read_runs: Callable[..., list[FinishedRun]]) -> None:
    check_same_test(
        *read_runs(seed=9, split_seed=1, learning_rate=3.0, model_name_or_path="outputs/mlm", dataset_name="copy.csv")
    )


def test_different_rows_are_refused_with_the_options_that_explain_them(
    read_runs: Callable[..., list[FinishedRun]],
) -> None:
    runs = read_runs(seed=9, max_rows="all", learning_rate=3.0)
    runs[1].predictions["row"][0] = 700
    assert "(max_rows None and all, seed of the split 1 and 9): train one" in refusal(runs)
    runs[1].options["split_seed"] = 1
    assert "(max_rows None and all): train one" in refusal(runs)


@pytest.mark.parametrize(("column", "value"), [("label", 1), ("text", "another text"), ("row", 77)])
def test_changed_data_is_refused(column: str, value: Any, read_runs: Callable[..., list[FinishedRun]]) -> None:
    runs = read_runs()
    assert runs[1].predictions[column][0] != value
    runs[1].predictions[column][0] = value
    assert "with the same options, so the data changed" in refusal(runs)


def test_another_order_is_refused(read_runs: Callable[..., list[FinishedRun]]) -> None:
    runs = read_runs()
    for values in runs[1].predictions.values():
        values.reverse()
    refusal(runs)


def test_a_different_cleaning_may_change_only_the_texts(read_runs: Callable[..., list[FinishedRun]]) -> None:
    runs = read_runs(cleaning="classic")
    runs[1].predictions["text"][0] = "cleaned another way"
    check_same_test(*runs)
    (warning,) = list_warnings(*runs, "a", "b")
    assert "cleaned differently (light and classic)" in warning
    runs[1].options["dataset_name"] = "imdb"
    assert "dataset_name snippets and imdb" in refusal(runs)


def test_no_warnings_if_only_the_method_differs(read_runs: Callable[..., list[FinishedRun]]) -> None:
    adaptation = {"base_model": "minilm", "test_texts_seen": 0}
    runs = read_runs(record={"adaptation": adaptation}, model_name_or_path="outputs/mlm", layer_decay=0.9)
    assert list_warnings(*runs, "e2e", "finetune") == []


def test_warnings(read_runs: Callable[..., list[FinishedRun]]) -> None:
    record = {
        "data": {"fingerprints": {"train": "ffff", "test": "ef56"}},
        "adaptation": {"base_model": "bert"},
    }
    warnings = list_warnings(*read_runs(record=record, seed=2, split_seed=1), "e2e", "finetune")
    for words in (
        "not trained on the same rows (fingerprints ab12 and ffff)",
        "different base models (minilm and bert)",
        "different seeds (1 and 2)",
    ):
        assert [warning for warning in warnings if words in warning], words
    assert len(warnings) == 3


def test_different_objectives_of_adaptation_are_warned_about(read_runs: Callable[..., list[FinishedRun]]) -> None:
    runs = [
        replace(run, adaptation={"base_model": "minilm", "objective": objective})
        for run, objective in zip(read_runs(), ("masked language modelling", "another"), strict=True)
    ]
    (warning,) = list_warnings(*runs, "a", "b")
    assert warning == "a and b were adapted with different objectives (masked language modelling and another)."


def test_training_times_are_not_comparable_if_threads_or_the_machine_differ(
    read_runs: Callable[..., list[FinishedRun]],
) -> None:
    runs = read_runs()
    for run, threads in zip(runs, (1, 2), strict=True):
        run.hardware.update({"threads": threads, "memory_mb": threads})
    (warning,) = list_warnings(*runs, "e2e", "finetune")
    assert warning == "The training times of e2e and finetune are not comparable (threads: 1 and 2)."
    runs[1].hardware.update({"name": "GPU", "device": "cuda", "threads": 1})
    (warning,) = list_warnings(*runs, "e2e", "finetune")
    assert "(device: cpu and cuda; name: Chip and GPU)" in warning
    runs[1].hardware.update(runs[0].hardware | {"memory_mb": 9})
    assert list_warnings(*runs, "e2e", "finetune") == []


def test_options_without_effect_on_results_are_not_listed(read_runs: Callable[..., list[FinishedRun]]) -> None:
    record = {"precision": "fp32", "versions": {"torch": "2.12.0", "datasets": "5.2.0"}}
    found = list_differences(*read_runs(record=record, max_seq_length=64, head_lr=0.1, preprocessing_num_workers=3))
    assert found == {
        "options": {"max_seq_length": [128, 64], "head_lr": [None, 0.1]},
        "machine": {"precision": ["bf16", "fp32"]},
        "versions": {"torch": ["2.13.0", "2.12.0"], "datasets": [None, "5.2.0"]},
    }
