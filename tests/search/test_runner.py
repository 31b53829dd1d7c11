"""Whole searches: results, resume after interruptions and kill -9, failures, memory, and wrong input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import sentiment
from sentiment.cli import main
from sentiment.exceptions import DivergenceError, InputError, SaveError
from sentiment.pipelines import adaptation, finetuning
from sentiment.search import tasks
from sentiment.search.arguments import read_search
from sentiment.search.results import choose_best
from sentiment.search.runner import run_search
from sentiment.study.arguments import LAUNCHERS
from sentiment.study.launchers import LauncherError, run_in_process

Write = Callable[..., list[str]]
Score = Callable[..., list[dict[str, Any]]]
Capture = pytest.CaptureFixture[str]
# Parts of search.json that are measured anew in each search.
MEASURED = {"seconds", "train_seconds", "adaptations"}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def drop_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: drop_times(inner) for name, inner in value.items() if name not in MEASURED}
    return [drop_times(inner) for inner in value] if isinstance(value, list) else value


def rate(options: dict[str, Any]) -> float:
    """A score that is highest at a rate of 0.001."""
    return 0.9 - abs(options["learning_rate"] - 1e-3)


@pytest.mark.usefixtures("in_this_process")
def test_results_of_a_search(write_search_file: Write, tmp_path: Path, capsys: Capture) -> None:
    """Trained for real; train_e2e.py takes best.yaml as it is, and trains what the best trial trained."""
    words = write_search_file(trials=3, confirm_seeds=[11, 12])
    main(["search", *words])
    printed, folder = capsys.readouterr(), tmp_path / "search"
    summary = read(folder / "search.json")
    assert {path.name for path in folder.iterdir()} == {
        "search.sqlite3", "search.json", "best.yaml", "report.md", "report.html", "history.svg", "parallel.svg",
        "importance.svg", "trials", "defaults", "confirm", "logs",
    }  # fmt: skip
    records = [read(folder / "trials" / f"{number:03}" / "trial.json") for number in (1, 2, 3)]
    best = max(records, key=lambda record: (record["score"], -record["loss"]))
    assert (summary["best"]["index"], summary["best"]["score"]) == (best["index"], best["score"])
    assert summary["counts"] == {"complete": 3, "pruned": 0, "failed": 0}
    assert set(summary["importances"]) == set(summary["space"])
    assert sum(summary["importances"].values()) == pytest.approx(1)
    assert summary["defaults"]["options"] == {"learning_rate": 5e-3, "num_train_epochs": 2, "dropout": 0.0}
    assert summary["difference"] == best["score"] - summary["defaults"]["score"]
    assert summary["rows"] == {"train": 200, "validation": 25}
    confirmed = summary["confirmation"]
    assert confirmed["seeds"] == [11, 12]
    kinds = {"best": f"trial_{best['index']:03}", "defaults": "defaults"}
    for kind, name in kinds.items():
        scores = [read(folder / "confirm" / f"{name}_seed_{seed}" / "trial.json")["score"] for seed in (11, 12)]
        assert confirmed[kind] == pytest.approx(scores)
    assert confirmed["difference"] == pytest.approx(confirmed["best_mean"] - confirmed["defaults_mean"])
    assert confirmed["drop"] == pytest.approx(best["score"] - confirmed["best_mean"])
    low, high = confirmed["ci95"]
    assert low < confirmed["difference"] < high
    # Nothing of the test split anywhere, but the names of options.
    assert not [
        path for path in folder.rglob("*") if path.name in ("predictions.parquet", "held_out_keys.npy", "model")
    ]
    assert all("test" not in read(path) for path in folder.rglob("metrics.json"))

    assert "[3/3] trial 003: validation accuracy 0." in printed.err
    assert printed.out.startswith(f"The best of 3 trials, trial {best['index']}, has a validation accuracy of")
    assert f"python train_e2e.py {folder / 'best.yaml'}" in printed.out
    assert printed.out.endswith(f"Report: {folder / 'report.html'}\n")
    finetuning.main("e2e", [str(folder / "best.yaml")])
    metrics = read(tmp_path / "search_best" / "metrics.json")
    assert metrics["validation"]["accuracy"] == best["score"]
    assert metrics["validation"]["loss"] == best["loss"]
    assert "after" in metrics["test"]

    # Finished, it is not trained again; with more trials it goes on, and the first ones stay.
    assert run_search(words) == summary
    more = run_search([*words, "--trials", "4"])
    assert more is not None
    assert more["trials"][:3] == summary["trials"]


@pytest.mark.usefixtures("in_this_process")
def test_adaptations_in_trials(
    write_search_file: Write, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both YAML files are taken as they are, and train what the best trial trained."""
    text = {"dataset_name": str(reviews_csv), "num_train_epochs": 1, "precision": "fp32", "max_seq_length": 32}
    space = {
        "finetuning": {"learning_rate": {"choices": [5e-3, 4e-3]}},
        "adaptation": {"learning_rate": {"choices": [1e-3, 2e-3]}},
    }
    monkeypatch.chdir(tmp_path)
    words = [
        *write_search_file(trials=3, adaptation=text | {"learning_rate": 1e-3}, space=space),
        "--output_dir",
        "found",
    ]
    summary = run_search(words)
    assert summary is not None
    names = {(trial["options"]["adaptation.learning_rate"], *trial["adaptations"]) for trial in summary["trials"]}
    assert len(names) == len({name for _, name in names}) <= 2
    folders = {path.name: path for path in Path("found/adaptations").glob("*/")}
    (kept,) = summary["best"]["adaptations"]
    assert {name for name, path in folders.items() if list(path.glob("model/*.safetensors"))} == {kept}
    assert summary["seconds"]["adaptation"] > 0
    assert summary["commands"] == [
        "python train_mlm.py found/best_mlm.yaml",
        "python train_finetune.py found/best.yaml",
    ]
    adaptation.main(["found/best_mlm.yaml"])
    finetuning.main("finetune", ["found/best.yaml"])
    assert read(Path("found_best/metrics.json"))["validation"]["loss"] == summary["best"]["loss"]
    assert Path(read(Path("found_best/run.json"))["adaptation"]["run_dir"]).name == "found_best_mlm"


@pytest.mark.usefixtures("in_this_process")
def test_adaptations_that_read_labels_in_trials(
    write_search_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seed has its own, and best_mlm.yaml trains that of the first."""
    text = {"objective": "supervised_contrastive", "num_train_epochs": 1, "precision": "fp32", "max_seq_length": 32}
    monkeypatch.chdir(tmp_path)
    space = {"finetuning": {"learning_rate": {"choices": [5e-3, 4e-3]}}}
    words = write_search_file(trials=1, seeds=[1, 2], adaptation=text, space=space)
    summary = run_search([*words, "--output_dir", "found"])
    assert summary is not None
    folders = {path.name: path for path in Path("found/adaptations").glob("*/")}
    assert folders.keys() == summary["best"]["adaptations"].keys()
    assert sorted(read(path / "run.json")["seed"] for path in folders.values()) == [1, 2]
    adaptation.main(["found/best_mlm.yaml"])
    finetuning.main("finetune", ["found/best.yaml"])
    assert read(Path("found_best/metrics.json"))["validation"]["accuracy"] == summary["best"]["scores"][0]


def test_trials_are_pruned_by_the_median(
    write_search_file: Write, score_by: Score, tmp_path: Path, capsys: Capture
) -> None:
    trained = score_by(lambda _: 0.9 - len(trained) / 100)  # each is worse than the last
    summary = run_search(write_search_file(trials=8))
    assert summary is not None
    assert summary["counts"] == {"complete": 5, "pruned": 3, "failed": 0}
    pruned = summary["trials"][-1]
    assert (pruned["state"], pruned["progress"]) == ("pruned", 0.3)  # the first tenth at which pruning starts
    assert "pruned after 30% at accuracy 0.8100 (" in capsys.readouterr().err
    assert summary["best"]["index"] == 1
    trained.clear()
    summary = run_search([*write_search_file(trials=8)[:1], "--output_dir", str(tmp_path / "all"), "--prune", "False"])
    assert summary is not None
    assert summary["counts"]["complete"] == 8


def test_the_sampler_finds_better_options(write_search_file: Write, score_by: Score, list_attempts: Any) -> None:
    score_by(rate)
    summary = run_search(write_search_file(trials=20, startup_trials=6, seeds=[3]))
    assert summary is not None
    assert summary["best"]["score"] > 0.8997
    # The option that alone decides the score is the most important one.
    assert max(summary["importances"], key=summary["importances"].get) == "learning_rate"
    assert {state for state, _, _ in list_attempts()} <= {"COMPLETE", "PRUNED"}


def test_failed_trials_do_not_stop_the_search(
    write_search_file: Write, score_by: Score, tmp_path: Path, capsys: Capture
) -> None:
    outcomes: Iterator[Any] = iter(
        [
            0.6,
            0.7,
            DivergenceError("training diverged: the loss is nan\n(step 3)", {}),
            InputError("no such thing"),
            0.65,
        ]
    )
    score_by(lambda _: next(outcomes))
    summary = run_search(write_search_file(trials=4))
    assert summary is not None
    assert [trial["state"] for trial in summary["trials"]] == ["complete", "failed", "failed", "complete"]
    assert summary["trials"][1]["reason"] == "training diverged: the loss is nan"
    printed = capsys.readouterr().err
    log = tmp_path / "search" / "logs" / "trials_003.log"
    assert f"[3/4] trial 003: failed: no such thing (see {log})" in printed
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert "no such thing" in (tmp_path / "search" / "report.md").read_text(encoding="utf-8")


def test_defaults_that_cannot_be_trained_end_the_search(
    write_search_file: Write, score_by: Score, capsys: Capture
) -> None:
    score_by(lambda _: InputError("no such thing"))
    with pytest.raises(SystemExit) as end:
        main(["search", *write_search_file()])
    assert end.value.code == 1
    assert "error: the defaults cannot be trained: no such thing (see " in capsys.readouterr().err
    score_by(rate)
    assert run_search(write_search_file()) is not None


def test_no_score_at_all_is_an_error(write_search_file: Write, score_by: Score, capsys: Capture) -> None:
    outcomes: Iterator[Any] = iter([0.5, *(InputError("too slow") for _ in range(3))])
    score_by(lambda _: next(outcomes))
    assert run_search(write_search_file()) is None
    assert "error: none of 3 trials has a score: see their reasons above" in capsys.readouterr().err


def test_a_full_disk_ends_the_search_with_its_exit_code(
    write_search_file: Write, score_by: Score, tmp_path: Path, capsys: Capture
) -> None:
    outcomes: Iterator[Any] = iter([0.5, 0.6, SaveError("cannot write it", tmp_path), 0.6, 0.7])
    score_by(lambda _: next(outcomes))
    with pytest.raises(SystemExit) as end:
        run_search(write_search_file())
    assert end.value.code == 4
    assert "error: cannot write it" in capsys.readouterr().err
    summary = run_search(write_search_file())
    assert summary is not None
    assert [trial["score"] for trial in summary["trials"]] == [0.6, 0.6, 0.7]


@pytest.mark.usefixtures("in_this_process")
def test_an_interrupted_search_finds_the_same(
    write_search_file: Write, list_attempts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Interrupted in the second epoch of a trial with two seeds, it resumes from the checkpoint, and ends the same."""
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "dropout": {"low": 0.0, "high": 0.3}}
    words = write_search_file(seeds=[1, 2], startup_trials=1, space={"finetuning": space})
    whole = run_search([words[0], "--output_dir", str(tmp_path / "whole")])
    assert whole is not None

    def kill(_self: Any, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.epoch and state.epoch > 1.2 and "002" in args.output_dir and "seed_2" in args.output_dir:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sentiment.training.callbacks.ManifestCallback.on_step_begin", kill, raising=False)
        with pytest.raises(KeyboardInterrupt):
            run_search(words)
    run_dir = tmp_path / "search" / "trials" / "002" / "seed_2"
    assert list(run_dir.glob("checkpoints/checkpoint-*"))
    assert [state for state, _, _ in list_attempts()] == ["COMPLETE", "RUNNING"]
    resumed = run_search(words)
    assert resumed is not None
    assert [state for state, _, _ in list_attempts()] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "resumed" in read(run_dir / "run.json")
    for key in ("trials", "best", "defaults", "importances"):
        assert drop_times(resumed[key]) == drop_times(whole[key])


def test_a_killed_search_is_resumed_in_processes_of_its_own(write_search_file: Write, tmp_path: Path) -> None:
    """With kill -9 in the middle of a trial, which resumes from its checkpoint; no process is left behind."""
    words = write_search_file(trials=2)
    content = yaml.safe_load(Path(words[0]).read_text(encoding="utf-8"))
    content["finetuning"] |= {"num_train_epochs": 12, "early_stopping_patience": 12}
    content["space"] = {"finetuning": {"learning_rate": {"low": 1e-4, "high": 1e-3}}}
    write_search_file(**content)
    command = [sys.executable, "-m", "sentiment", "search", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(sentiment.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "search" / "logs" / "trials_001.log"
    search = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: log.exists() and "epoch 2:" in log.read_text(encoding="utf-8"))
        children = psutil.Process(search.pid).children(recursive=True)
        search.send_signal(signal.SIGKILL)
        assert children
        wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    finally:
        search.kill()
        search.communicate()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 trials, 0 already finished" in done.stderr
    summary = read(tmp_path / "search" / "search.json")
    assert summary["counts"]["complete"] == 2
    assert "Resuming from " in log.read_text(encoding="utf-8").partition("epoch 2:")[2]
    assert len(read(tmp_path / "search/trials/001/seed_1/run.json")["resumed"]) == 1


def wait_for(is_there: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < end
        time.sleep(0.05)


def allocate(megabytes: int) -> int:
    """Keeps so much memory, and returns the id of the process."""
    allocate.kept = bytearray(b"x" * (megabytes * 2**20))  # type: ignore[attr-defined]
    return os.getpid()


def test_memory_of_a_trial_is_freed(tmp_path: Path) -> None:
    """Each trial has a process of its own, which ends with it."""
    run_in_process(allocate, 1, tmp_path / "log")
    before = psutil.Process().memory_info().rss
    pids = {run_in_process(allocate, 300, tmp_path / "log") for _ in range(3)}
    assert psutil.Process().memory_info().rss - before < 50 * 2**20
    assert len(pids) == 3
    assert not any(map(psutil.pid_exists, pids))


def test_a_killed_trial_is_recorded(
    write_search_file: Write, score_by: Score, monkeypatch: pytest.MonkeyPatch, list_attempts: Any
) -> None:
    """As one that needs too much memory is: it fails, and the search goes on."""
    score_by(rate)

    def kill_second(function: Any, task: Any, _: Any) -> Any:
        if task.index == 2:
            monkeypatch.setattr(tasks, "score_task", kill)
            try:
                return function(task)
            except KeyError:
                raise LauncherError("its process was killed, perhaps out of memory") from None
            finally:
                monkeypatch.setattr(tasks, "score_task", score_task)
        return function(task)

    def kill(*_: Any) -> Any:
        raise KeyError

    score_task = tasks.score_task
    monkeypatch.setattr(tasks, "run_in_process", kill_second)
    summary = run_search(write_search_file())
    assert summary is not None
    assert summary["trials"][1]["reason"] == "its process was killed, perhaps out of memory"
    assert [state for state, _, _ in list_attempts()] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_a_killed_process_is_a_launcher_error(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="its process was killed, perhaps out of memory"):
        run_in_process(os._exit, 9, tmp_path / "log")


def test_trials_run_in_any_launcher(
    write_search_file: Write, score_by: Score, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    def run_last_first(function: Any, planned: Any, jobs: int, log: Path) -> Iterator[Any]:
        assert (jobs, log) == (2, tmp_path / "search" / "logs" / "processes.log")
        yield function(planned[-1])
        raise LauncherError("a node was lost")

    score_by(rate)
    words = write_search_file()
    assert run_search(words) is not None
    monkeypatch.setitem(LAUNCHERS, "reversed", run_last_first)
    assert run_search([*words, "--trials", "5", "--launcher", "reversed", "--jobs", "2"]) is None
    printed = capsys.readouterr().err
    assert "[4/5] trial 005: validation accuracy" in printed
    assert "error: a node was lost; rerun the same command to resume" in printed
    summary = run_search([*words, "--trials", "5"])
    assert summary is not None
    assert [trial["index"] for trial in summary["trials"]] == [1, 2, 3, 4, 5]


def test_other_options_or_data_in_the_folder_are_refused(
    write_search_file: Write, score_by: Score, tmp_path: Path, reviews_csv: Path
) -> None:
    trained = score_by(rate)
    words = write_search_file(finetuning={})
    content = yaml.safe_load(Path(write_search_file()[0]).read_text(encoding="utf-8"))
    own = tmp_path / "own.csv"
    own.write_text(reviews_csv.read_text(encoding="utf-8"), encoding="utf-8")
    content["finetuning"]["dataset_name"] = str(own)
    words = write_search_file(**content)
    assert run_search(words) is not None
    trained.clear()
    for changes, message in (
        ({"finetuning": content["finetuning"] | {"learning_rate": 1e-3}}, "finetuning.learning_rate 0.005 -> 0.001"),
        ({"space": {"finetuning": {"dropout": {"low": 0.0, "high": 0.5}}}}, "space.dropout {'low': 0.0, "),
        ({"seeds": [2]}, r"search.seeds \[1\] -> \[2\]"),
        ({"seed": 7}, "search.seed 42 -> 7"),
    ):
        with pytest.raises(InputError, match=f"search holds a search with other options or data .*{message}"):
            run_search(write_search_file(**content | changes))
    own.write_text(own.read_text(encoding="utf-8") + "a very good film,1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"other options or data .*data.train rows of seed 1"):
        run_search(write_search_file(**content))
    assert trained == []


def test_wrong_input_is_refused_before_anything_is_written(write_search_file: Write, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    for changes, message in (
        ({"finetuning": {"dataset_name": "nowhere.csv", "model": "minilm"}}, "nowhere.csv"),
        ({"metric": "f2"}, "metric"),
        ({"adaptation": {"dataset_name": "nowhere.txt"}}, "no such file: nowhere.txt"),
        ({"adaptation": {"dataset_name": "imdb", "objective": "guess"}}, "objective guess: choose among mlm"),
    ):
        with pytest.raises(InputError, match=message):
            run_search(write_search_file(**changes))
        assert not folder.exists()
    folder.mkdir()
    (folder / "run.json").touch()
    with pytest.raises(InputError, match=r"search holds run.json, not part of a search: pass another --output_dir"):
        run_search(write_search_file())


def test_the_best_of_equal_scores_has_the_lowest_loss() -> None:
    records = [
        {"state": "complete", "score": score, "loss": loss} for score, loss in ((0.8, 0.5), (0.8, 0.4), (0.7, 0.1))
    ]
    assert choose_best([*records, {"state": "pruned", "score": 0.9, "loss": 0.1}]) == records[1]
    assert choose_best([{"state": "failed"}]) is None


def test_a_task_is_plain_data(write_search_file: Write) -> None:
    options = read_search(write_search_file())
    assert json.loads(json.dumps(options.describe())) == options.describe()
    assert json.loads(json.dumps(options.finetuning)) == options.finetuning
