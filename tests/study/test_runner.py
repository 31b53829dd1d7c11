"""Whole studies on a tiny BERT: results, interruption and resume, failures, and wrong input."""

import json
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from sentiment.cli import main
from sentiment.data.adaptation_data import BUDGET_OPTION, TARGET_OPTIONS
from sentiment.exceptions import InputError, TrainingInterrupted
from sentiment.pipelines import adaptation, finetuning
from sentiment.study.arguments import DEFAULT_STUDY, LAUNCHERS
from sentiment.study.launchers import LauncherError
from sentiment.study.plan import build_study_plan
from sentiment.study.runner import run_study

WORDS = ("film", "story", "plot", "actor", "scene", "ending", "good", "dull")
PLACEBO = {"dataset_name": "snippets_nyt"}
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def write_study_file(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`write_study_file(seeds=[1], ...)` writes a tiny study with these keys, and returns the command's words."""

    def write(**changes: Any) -> list[str]:
        training = {"learning_rate": 5e-3, "num_train_epochs": 1, "precision": "fp32"}
        sections = {
            "seeds": [1, 2],
            "budgets": [40, "all"],
            "arms": ["e2e", "mlm+decay"],
            "finetuning": training
            | {"model_name_or_path": str(tiny_bert), "dataset_name": str(reviews_csv), "max_seq_length": 32},
            "adaptation": training | {"dataset_name": str(reviews_csv), "max_seq_length": 32},
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(sections | changes), encoding="utf-8")
        return [str(path), "--output_dir", str(tmp_path / "study")]

    return write


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def started_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the fine-tunings and adaptations that are started, in order."""
    started: list[str] = []

    def count(module: ModuleType, name: str) -> None:
        train = getattr(module, name)

        def train_and_count(**options: Any) -> Any:
            started.append(Path(options["output_dir"]).name)
            return train(**options)

        monkeypatch.setattr(module, name, train_and_count)

    count(finetuning, "finetune")
    count(adaptation, "adapt")
    return started


RUNS = ["e2e_40_1", "mlm+decay_40_1", "e2e_all_1", "mlm+decay_all_1", "e2e_40_2", "mlm+decay_40_2", "e2e_all_2",
        "mlm+decay_all_2"]  # fmt: skip


def test_a_signal_ends_a_study_with_its_exit_code(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(**_: Any) -> Any:
        raise TrainingInterrupted(signal.SIGTERM)

    monkeypatch.setattr(finetuning, "finetune", interrupt)
    with pytest.raises(SystemExit) as ended:
        run_study(write_study_file())
    assert ended.value.code == 143
    assert "interrupted: rerun the same command to resume" in capsys.readouterr().err


def test_an_interrupted_study_is_resumed(
    write_study_file: Callable[..., list[str]],
    started_runs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    words, folder = write_study_file(), tmp_path / "study"
    finetune = finetuning.finetune

    def interrupt_fourth(**options: Any) -> Any:
        if len(started_runs) == 4:  # the adaptation and three fine-tunings
            raise KeyboardInterrupt
        return finetune(**options)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "finetune", interrupt_fourth)
        with pytest.raises(KeyboardInterrupt):
            run_study(words)
    order = sorted(RUNS, key=lambda name: name.startswith("mlm"))  # those that start from an adaptation come later
    assert started_runs == ["mlm", *order[:3]]
    assert not (folder / "verdict.json").exists()
    printed = capsys.readouterr().err
    assert "8 runs, 0 already finished" in printed
    assert "[3/8] e2e, 40 labels, seed 2: test accuracy 0." in printed
    assert "interrupted: rerun the same command to resume" in printed
    assert "epoch 1" not in printed  # that is for the log
    assert "epoch 1" in (folder / "logs" / "e2e_40_1.log").read_text(encoding="utf-8")

    started_runs.clear()
    verdict = run_study(words)
    assert started_runs == [name for name in RUNS if name not in order[:3]]  # none has to wait any more
    printed = capsys.readouterr().err
    assert "8 runs, 3 already finished" in printed
    assert "[8/8] mlm+decay, all labels, seed 2: test accuracy 0." in printed

    started_runs.clear()
    assert run_study(words) == verdict
    assert started_runs == []
    check_results(folder, verdict)


def check_results(folder: Path, verdict: Any) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "runs", "logs", "mlm", "results.parquet", "verdict.json", "report.md", "report.html", "accuracy.svg",
        "effects.svg", "cost.svg",
    }  # fmt: skip
    assert read(folder / "verdict.json") == json.loads(json.dumps(verdict))
    assert (verdict["arms"], verdict["budgets"], verdict["seeds"]) == (["e2e", "mlm+decay"], [40, 200], [1, 2])
    rows = pyarrow.parquet.read_table(folder / "results.parquet").to_pylist()
    assert [f"{row['arm']}_{row['budget']}_{row['seed']}".replace("_200_", "_all_") for row in rows] == RUNS
    for row, name in zip(rows, RUNS, strict=True):
        metrics, record = read(folder / "runs" / name / "metrics.json"), read(folder / "runs" / name / "run.json")
        assert row["accuracy"] == metrics["test"]["after"]["accuracy"]
        assert row["validation_score"] == metrics["validation"]["accuracy"]
        assert row["budget"] == record["data"]["audit"]["splits"]["train"]["rows"]
        assert record["options"]["layer_decay"] == (0.9 if "decay" in name else 1.0)
        seconds = read(folder / "mlm" / "metrics.json")["resources"]["train_seconds"] if "mlm" in name else 0.0
        assert row["adaptation_seconds"] == seconds
        assert row["total_seconds"] == row["train_seconds"] + seconds
        assert row["amortized_seconds"] == pytest.approx(row["train_seconds"] + seconds / 4)
        assert not (folder / "runs" / name / "checkpoints").exists()
        assert not list((folder / "runs" / name / "model").glob("*.safetensors"))
        assert (folder / "runs" / name / "model" / "tokenizer.json").exists()
    fingerprints = [read(folder / "runs" / name / "run.json")["data"]["fingerprints"] for name in RUNS]
    assert len({found["test"] for found in fingerprints}) == len({found["validation"] for found in fingerprints}) == 1
    # Arms share the rows of a budget and a seed, and seeds draw rows of their own, but where all are used.
    assert [found["train"] for found in fingerprints[::2]] == [found["train"] for found in fingerprints[1::2]]
    assert len({found["train"] for found in fingerprints}) == 3
    adaptation = verdict["adaptations"][0]
    assert (adaptation["name"], adaptation["num_finetunings"]) == ("mlm", 4)
    assert adaptation["dropped_in_test"] == 50  # the reviews that are validated and tested on
    assert not (folder / "mlm" / "checkpoints").exists()


def test_a_failed_run_prevents_the_verdict_but_no_other_run(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    words = write_study_file(seeds=[1], arms=["e2e", "e2e+decay"], budgets=[40])
    finetune = finetuning.finetune

    def fail_first(**options: Any) -> Any:
        if options["layer_decay"] == 1:
            raise RuntimeError("no more\nof this")
        return finetune(**options)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "finetune", fail_first)
        with pytest.raises(SystemExit) as end:
            main(["study", *words])
    assert end.value.code == 1
    printed = capsys.readouterr().err
    assert "[1/2] e2e, 40 labels, seed 1: failed: no more (see " in printed
    assert "[2/2] e2e+decay, 40 labels, seed 1: test accuracy" in printed
    assert "error: no verdict, since 1 of 2 runs are missing: fix the errors above and rerun" in printed
    assert "Traceback" in (tmp_path / "study/logs/e2e_40_1.log").read_text(encoding="utf-8")
    assert not (tmp_path / "study/verdict.json").exists()
    main(["study", *words])
    printed = capsys.readouterr()
    assert "[2/2] e2e, 40 labels, seed 1: test accuracy" in printed.err
    assert printed.out.startswith("The study does not have both e2e and mlm+decay")
    assert printed.out.endswith(f"Report: {tmp_path / 'study' / 'report.html'}\n")


def test_a_failed_adaptation_prevents_only_the_runs_that_need_it(
    write_study_file: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    started_runs: list[str],
    capsys: Capture,
) -> None:
    def fail(**_: Any) -> Any:
        raise InputError("out of words")

    monkeypatch.setattr(adaptation, "adapt", fail)
    assert run_study(write_study_file(seeds=[1], budgets=[40])) is None
    assert started_runs == ["e2e_40_1"]
    printed = capsys.readouterr().err
    assert "failed: out of words" in printed
    assert "left out: 1 that start from it" in printed
    assert "error: no verdict, since 1 of 2 runs are missing: fix the errors above and rerun" in printed


def test_two_jobs_and_a_placebo(write_study_file: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    other_text = tmp_path / "other.txt"
    other_text.write_text("\n".join(f"the {one} and {two} scene" for one in WORDS for two in WORDS), encoding="utf-8")
    words = write_study_file(seeds=[3], budgets=[40], arms=["mlm+decay", "placebo+decay"], jobs=2,
                             placebo={"dataset_name": str(other_text)})  # fmt: skip
    verdict = run_study([*words, "--keep_models"])
    assert verdict is not None
    assert {effect["effect"] for effect in verdict["effects"]} == {"the domain of the text"}
    real, placebo = verdict["adaptations"]
    assert placebo["datasets"] == [str(other_text)]
    assert placebo["steps"] == real["steps"] == 5  # 160 reviews in batches of 32; of the other text there are 51
    printed = capsys.readouterr().err
    assert "[2/2] " in printed
    assert "epoch" not in printed
    assert (tmp_path / "study/runs/placebo+decay_40_3/model/model.safetensors").exists()
    cores = read(tmp_path / "study/mlm/run.json")["hardware"]["cores"]
    beside_the_placebo = read(tmp_path / "study/runs/mlm+decay_40_3/run.json")["hardware"]["threads"]
    assert beside_the_placebo <= max(1, cores // 2)


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        (
            {"seed": 1},
            [],
            "study.yaml: unknown key 'seed' (did you mean 'seeds'?)",
        ),
        (
            {"finetuning": {"pace": 1}},
            [],
            "study.yaml, finetuning: unknown key 'pace'; the keys are accelerator_config",
        ),
        (
            {"finetuning": {"learning_rate": "fast"}},
            [],
            "study.yaml, finetuning: argument --learning_rate/--learning-rate/--lr: invalid float value: 'fast'",
        ),
        ({"finetuning": {"learning_rate": -1}}, [], "study.yaml, finetuning: --learning_rate -1.0: must be above 0"),
        ({"finetuning": {"seed": 1}}, [], "study.yaml, finetuning: 'seed' is set by the study"),
        ({"finetuning": {"push_to_hub": True}}, [], "study.yaml, finetuning: 'push_to_hub' is set by the study"),
        ({"adaptation": {"model": "minilm"}}, [], "study.yaml, adaptation: 'model' is set by the study"),
        ({"finetuning": [1]}, [], "study.yaml, finetuning: must hold one 'key: value' per line"),
        ({"finetuning": {"keep_duplicates": True}}, [], "with keep_duplicates, equal texts may be in several splits"),
        ({"adaptation": {"epochs": 1}}, [], "study.yaml, adaptation: unknown key 'epochs'"),
        ({"adaptation": {"model_revision": "x"}}, [], "study.yaml, adaptation: 'model_revision' is set by the study"),
        ({"arms": {"own": {"adaptation": "none"}}}, [], "study.yaml, adaptations: no 'none', which an arm starts from"),
        ({"arms": {"own": {"pace": 1}}}, [], "study.yaml, arms own: unknown key 'pace'"),
        ({"arms": {"own": {"seed": 1}}}, [], "study.yaml, arms own: 'seed' is set by the study"),
        ({"arms": {"own": {"dropout": 2}}}, [], "study.yaml, arms own: --dropout 2.0: a probability"),
        ({"arms": {"a/b": None}}, [], "study.yaml, arms a/b: use letters, digits"),
        ({"arms": {"own": [1]}}, [], "study.yaml, arms own: must hold one 'key: value' per line"),
        (
            {"arms": {"own": {"adaptation": "logs"}}, "adaptations": {"logs": {}}},
            [],
            "study.yaml, adaptations, logs: use letters, digits, '.', '+', '-' and '_'; runs and logs are taken",
        ),
        (
            {"arms": {"own": {"adaptation": "x"}}, "adaptations": {"x": {"objective": "bert"}}},
            [],
            "study.yaml, adaptations, x: objective bert: choose among mlm, contrastive",
        ),
        (
            {"arms": {"own": {"adaptation": "x"}}, "adaptations": {"x": {"temperature": 0.1}}},
            [],
            "study.yaml, adaptations, x: --temperature 0.1: --objective mlm has no such option",
        ),
        ({"effects": {"gain": ["e2e", "best"]}}, [], "study.yaml, effects gain: name two of the arms e2e, e2e+decay"),
        ({"strategies": ["e2e", "best"]}, [], "--strategies best: choose among the arms e2e"),
        ({}, ["--strategies", "e2e"], "--strategies e2e: name two arms"),
        ({"adaptation": {"target_dataset": "none"}}, [], "adaptation: 'target_dataset' is set by the study"),
        ({"adaptation": {"seed": 1}}, ["--adapt_each_seed"], "adaptation: 'seed' is set by the study"),
        (
            {"budget_options": {40: {"dataset_name": "x"}}},
            [],
            "study.yaml, budget_options 40: unknown key 'dataset_name'",
        ),
        (
            {"budget_options": {50: {"learning_rate": 1}}},
            [],
            "study.yaml, budget_options: 50 is not one of the budgets 40, all",
        ),
        (
            {"budget_options": {40: {"learning_rate": 0}}},
            [],
            "study.yaml, budget_options 40: --learning_rate 0.0: must be above 0",
        ),
        (
            {"finetuning": {"batch_size": 8}, "budget_options": {40: {"per_device_train_batch_size": 8}}},
            [],
            "study.yaml, budget_options 40: --batch_size and --per_device_train_batch_size contradict each other",
        ),
        ({"budget_options": [40]}, [], "study.yaml, budget_options: must hold one 'budget: options' per line"),
        ({"arms": ["mlm", "placebo+decay"]}, [], "study.yaml, placebo: needs a dataset_name"),
        (
            {"placebo": PLACEBO | {"max_steps": 9}, "arms": ["mlm", "placebo+decay"]},
            [],
            "placebo: 'max_steps' is set by the stu",
        ),
        ({}, ["--arms", "placebo+decay"], "--arms placebo+decay: add mlm+decay, whose steps it matches"),
        ({}, ["--arms", "e2e", "best"], "--arms best: choose among e2e, e2e+decay, mlm, mlm+decay, placebo+decay, or"),
        ({}, ["--budgets", "many"], "--budgets many: pass a positive number or 'all'"),
        ({}, ["--seeds", "1", "2", "1"], "--seeds: 1 more than once"),
        ({}, ["--layer_decay", "1.0"], "--layer_decay 1.0: above 0 and below 1"),
        ({}, ["--seeds", "1", "-1"], "--seeds -1: an integer from 0 to 4294967295"),
        ({}, ["--launcher", "cloud"], "--launcher cloud: choose among local"),
        ({}, ["--jobs", "0"], "--jobs 0: at least 1"),
        ({}, ["--budgets", "40", "400"], "--budgets 400: the training split has 200 rows"),
        ({}, ["--budgets", "200", "all"], "two are the same, since the training split has 200 rows"),
        ({}, ["--quick"], "unknown option '--quick'"),
        ({"adaptation": {"dataset_name": "nowhere.txt"}}, [], "no such file: nowhere.txt"),
    ],
)
def test_wrong_input_is_refused_before_training(
    changes: dict[str, Any],
    flags: list[str],
    message: str,
    write_study_file: Callable[..., list[str]],
    started_runs: list[str],
    tmp_path: Path,
) -> None:
    words = write_study_file()
    content = yaml.safe_load(Path(words[0]).read_text(encoding="utf-8"))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) and isinstance(content.get(key), dict) else value
    Path(words[0]).write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        run_study([*words, *flags])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert started_runs == []
    assert not (tmp_path / "study").exists()


def test_wrong_input_is_one_line_and_exit_code_2(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["study", "no_such.yaml", "--seeds", "1", "2"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: cannot read no_such.yaml: No such file or directory\n"


def test_an_adaptation_of_other_arms_may_be_in_the_folder(
    write_study_file: Callable[..., list[str]], tmp_path: Path, started_runs: list[str]
) -> None:
    adaptations = {"own": {"objective": "contrastive", "contrastive_target": "mean", "batch_size": 32}}
    arms = {"e2e": None, "own": {"adaptation": "own"}}
    run_study(write_study_file(seeds=[1], budgets=[40], arms=arms, strategies=["e2e", "own"], adaptations=adaptations))
    assert started_runs == ["own", "e2e_40_1", "own_40_1"]
    words = write_study_file(seeds=[1], budgets=[40], arms=arms, strategies=["e2e", "own"], adaptations=adaptations)
    assert run_study([*words, "--arms", "e2e"]) is not None
    assert len(started_runs) == 3
    assert (tmp_path / "study" / "own" / "run.json").is_file()


def test_a_folder_with_other_files_is_refused(
    write_study_file: Callable[..., list[str]], tmp_path: Path, started_runs: list[str]
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "run.json").touch()
    with pytest.raises(InputError, match=r"study holds run.json, not part of a study: pass another --output_dir"):
        run_study(write_study_file())
    (tmp_path / "study" / "run.json").rename(tmp_path / "study" / "report.html")
    with pytest.raises(InputError, match=r"study is not empty and holds no study: pass another --output_dir"):
        run_study(write_study_file())
    assert started_runs == []


def test_finished_runs_of_another_study_are_refused(
    write_study_file: Callable[..., list[str]], started_runs: list[str], tmp_path: Path
) -> None:
    """Runs with other options, other data or another adapted model are not part of this study."""
    words, folder = write_study_file(seeds=[1], budgets=[40], arms=["e2e", "mlm"]), tmp_path / "study"
    assert run_study(words) is not None
    started_runs.clear()

    other = write_study_file(seeds=[1], budgets=[40], arms=["e2e", "mlm"], budget_options={40: {"dropout": 0.2}})
    refusal = r"e2e_40_1 holds a run with other options \(dropout 0.0 -> 0.2\): pass another --output_dir, or remove"
    with pytest.raises(InputError, match=refusal):
        run_study(other)

    write_study_file(seeds=[1], budgets=[40], arms=["e2e", "mlm"])
    record = read(folder / "mlm" / "run.json")
    (folder / "mlm" / "run.json").write_text(json.dumps(record | {"seconds": 1.5}), encoding="utf-8")
    with pytest.raises(InputError, match=r"mlm_40_1 started from another model than .*mlm holds: remove"):
        run_study(words)
    (folder / "mlm" / "run.json").write_text(json.dumps(record), encoding="utf-8")

    path = folder / "runs" / "e2e_40_1" / "run.json"
    record = read(path)
    record["data"]["fingerprints"]["test"] = "0" * 16
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=r"e2e_40_1 holds a run on other data \(test changed since\)"):
        run_study(words)
    assert started_runs == []


def test_plans_of_the_packaged_studies() -> None:
    full = build_study_plan([])
    assert len(full.finetunings) == 4 * 3 * 3
    assert [adaptation.options["dataset_name"] for adaptation in full.adaptations] == [["imdb"]]
    with_placebo = build_study_plan(["--arms", "mlm+decay", "placebo+decay"])
    assert [adaptation.kind for adaptation in with_placebo.adaptations] == ["mlm", "placebo"]
    of_task_texts = build_study_plan([str(DEFAULT_STUDY.with_name("study_task_texts.yaml"))])
    assert [adaptation.options["dataset_name"] for adaptation in of_task_texts.adaptations] == [["sst2"]]
    assert [run.options["num_train_epochs"] for run in of_task_texts.finetunings] == [
        run.options["num_train_epochs"] for run in full.finetunings
    ]
    small = build_study_plan([str(DEFAULT_STUDY.with_name("offline_study.yaml"))])
    assert {run.options["dataset_name"] for run in small.finetunings} == {"snippets"}
    assert {run.options["model_name_or_path"] for run in small.finetunings} == {"minilm", "outputs/study/mlm"}
    assert small.finetunings[0].options["num_train_epochs"] == 10
    assert small.finetunings[-1].options["num_train_epochs"] == 3


def test_adaptations_are_for_the_data_of_the_fine_tunings(write_study_file: Callable[..., list[str]]) -> None:
    words = write_study_file()
    plan = build_study_plan([*words, "--data_dir", "here", "--adapt_each_seed"])
    assert [adaptation.folder.name for adaptation in plan.adaptations] == ["mlm_1", "mlm_2"]
    assert [adaptation.options["seed"] for adaptation in plan.adaptations] == [1, 2]
    run, corpus = plan.finetunings[-1], plan.adaptations[-1].recorded_options
    assert run.adaptation == plan.adaptations[-1].folder
    target = {name.removeprefix("target_"): value for name, value in corpus.items() if "target_" in name}
    assert target.pop("dataset") == run.recorded_options["dataset_name"]
    assert target == {name: run.recorded_options[name] for name in target}
    assert set(target) == {*TARGET_OPTIONS, BUDGET_OPTION}
    assert (target["split_seed"], corpus["data_dir"], corpus["cleaning"]) == (42, "here", "light")


def test_a_plan_is_plain_data(write_study_file: Callable[..., list[str]]) -> None:
    words = write_study_file(budget_options={40: {"lr": 1e-3, "lr_scheduler_kwargs": {"num_cycles": 2}}})
    plan = build_study_plan(words)
    for run in (*plan.adaptations, *plan.finetunings):
        assert json.loads(json.dumps(run.options)) == run.options
    assert b"TrainingArguments" not in pickle.dumps(plan)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.finetunings[0].options["learning_rate"] == 1e-3
    assert plan.finetunings[0].recorded_options["lr_scheduler_kwargs"] == {"num_cycles": 2}
    assert plan.finetunings[2].options["learning_rate"] == 5e-3


def test_a_launcher_is_one_entry_in_a_table(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    """Outcomes may come in any order; tasks that are lost are reported and run by the next call."""

    def run_last_first(function: Any, tasks: Sequence[Any], jobs: int, log: Path) -> Iterator[Any]:
        assert (jobs, log) == (1, tmp_path / "study" / "logs" / "processes.log")
        yield function(tasks[-1])
        raise LauncherError("a node was lost")

    monkeypatch.setitem(LAUNCHERS, "reversed", run_last_first)
    words = write_study_file(seeds=[1], arms=["e2e"])
    assert run_study([*words, "--launcher", "reversed"]) is None
    printed = capsys.readouterr().err
    assert "[1/2] e2e, all labels, seed 1: test accuracy 0." in printed
    assert "a node was lost\nerror: no verdict, since 1 of 2 runs are missing" in printed
    assert run_study(words) is not None
    assert "2 runs, 1 already finished" in capsys.readouterr().err


def test_a_study_of_own_arms(write_study_file: Callable[..., list[str]], tmp_path: Path) -> None:
    words = write_study_file(
        arms={"plain": None, "sparse": {"adaptation": "gentle", "dropout": 0.2}, "mlm+decay": None},
        adaptations={"gentle": {"mlm_probability": 0.3, "learning_rate": 1e-4}},
        strategies=["plain", "sparse"],
        effects={"all of it": ["plain", "mlm+decay"]},
        budgets=[40, 80, "all"],
    )
    verdict = run_study(words)
    assert verdict is not None
    assert verdict["arms"] == ["mlm+decay", "plain", "sparse"]
    assert {(one["effect"], *one["arms"]) for one in verdict["effects"]} == {
        ("sparse against plain", "plain", "sparse"), ("all of it", "plain", "mlm+decay"),
    }  # fmt: skip
    assert verdict["options"]["arms"]["sparse"] == {
        "adaptation": "gentle", "options": {"dropout": 0.2, "layer_decay": 1.0},
    }  # fmt: skip
    folder = tmp_path / "study"
    for arm, decay, dropout in (("plain", 1.0, 0.0), ("sparse", 1.0, 0.2), ("mlm+decay", 0.9, 0.0)):
        options = read(folder / "runs" / f"{arm}_40_1" / "run.json")["options"]
        assert (options["layer_decay"], options["dropout"]) == (decay, dropout)
    assert read(folder / "gentle" / "run.json")["options"]["mlm_probability"] == 0.3
    assert read(folder / "mlm" / "run.json")["options"]["mlm_probability"] == 0.15
    collapsed = any(cell["collapsed"] for cell in verdict["scores"] if cell["arm"] != "mlm+decay")
    assert (verdict["label_worth"] is None) == collapsed
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "sparse is strategy B" in report
    assert "| gentle | dropout 0.2, layer\\_decay 1.0" in report.replace("\\_", "\\_")
    assert run_study([*words, "--arms", "plain", "sparse"])["arms"] == ["plain", "sparse"]


def test_adaptations_and_runs_that_need_none_share_the_jobs(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waves = []

    def record(function: Any, tasks: Sequence[Any], *_: Any) -> Iterator[Any]:
        waves.append([task.folder.name for task in tasks])
        yield from map(function, tasks)

    monkeypatch.setitem(LAUNCHERS, "recorded", record)
    words = write_study_file(
        arms={"e2e": None, "pairs": {"adaptation": "pairs"}},
        adaptations={"pairs": {"objective": "supervised_contrastive", "max_steps": 2}},
        strategies=["e2e", "pairs"],
        seeds=[1],
        budgets=[40],
    )
    assert run_study([*words, "--launcher", "recorded"]) is not None
    assert waves == [["pairs_40_1", "e2e_40_1"], ["pairs_40_1"]]
    assert read(tmp_path / "study" / "pairs_40_1" / "run.json")["options"]["objective"] == "supervised_contrastive"


def test_an_adaptation_that_reads_labels_is_one_for_each_budget_and_seed(
    write_study_file: Callable[..., list[str]],
) -> None:
    plan = build_study_plan(
        write_study_file(
            arms={"e2e": None, "mlm": None, "labels": {"adaptation": "pairs"}, "probe": {"adaptation": "chosen"}},
            adaptations={
                "pairs": {"objective": "supervised_contrastive"},
                "chosen": {"metric_for_best_model": "probe_accuracy"},
            },
        )
    )
    planned = {one.folder.name: one.options for one in plan.adaptations}
    keys = [(budget, seed) for seed in (1, 2) for budget in ("40", "all")]
    assert {*planned} == {"mlm", *(f"{name}_{budget}_{seed}" for name in ("pairs", "chosen") for budget, seed in keys)}
    assert (planned["pairs_40_2"]["seed"], planned["pairs_40_2"]["target_max_train_samples"]) == (2, 40)
    assert (planned["chosen_all_1"]["seed"], planned["chosen_all_1"]["target_max_train_samples"]) == (1, None)
    assert "dataset_name" not in planned["pairs_40_2"]
    assert {str(one) for one in plan.adaptations if one.kind == "pairs"} == {
        f"adaptation to the labelled rows ({plan.folder / f'pairs_{budget}_{seed}'})" for budget, seed in keys
    }
    assert "seed" not in planned["mlm"]
    starts = {f"{run.arm}_{run.budget}_{run.seed}": run.adaptation for run in plan.finetunings}
    assert starts["labels_40_2"] == plan.folder / "pairs_40_2"
    assert starts["mlm_40_2"] == plan.folder / "mlm"
    assert starts["e2e_40_2"] is None
