"""A whole study on a tiny BERT: what it leaves, interruption and going on, failures, and what is refused before it."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from sentiment.cli import main
from sentiment.exceptions import InputError, TrainingInterrupted
from sentiment.study import runner as module
from sentiment.study.arguments import DEFAULT_STUDY
from sentiment.study.plan import build_study_plan
from sentiment.study.runner import run_study

WORDS = ("film", "story", "plot", "actor", "scene", "ending", "good", "dull")
PLACEBO = {"dataset_name": "snippets_nyt"}
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def write_study_file(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`write_study_file(seeds=[1], ...)` writes a tiny study with these keys, and gives the command's words."""

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
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the fine-tunings and adaptations that are begun, in order."""
    begun: list[str] = []

    def count(name: str) -> None:
        train = getattr(module, name)

        def train_and_count(*args: Any) -> Any:
            begun.append(Path(args[-1].output_dir).name)
            return train(*args)

        monkeypatch.setattr(module, name, train_and_count)

    count("finetune")
    count("adapt")
    return begun


RUNS = ["e2e_40_1", "mlm+decay_40_1", "e2e_all_1", "mlm+decay_all_1", "e2e_40_2", "mlm+decay_40_2", "e2e_all_2",
        "mlm+decay_all_2"]  # fmt: skip


def test_a_study_that_is_ended_by_a_signal_says_how_it_goes_on(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(*_: Any) -> Any:
        raise TrainingInterrupted(signal.SIGTERM)

    monkeypatch.setattr(module, "finetune", interrupt)
    with pytest.raises(SystemExit) as ended:
        run_study(write_study_file())
    assert ended.value.code == 143
    assert "interrupted: the same command goes on from here" in capsys.readouterr().err


def test_a_study_interrupted_and_taken_up_again(
    write_study_file: Callable[..., list[str]],
    counted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    words, folder = write_study_file(), tmp_path / "study"
    finetune = module.finetune

    def interrupt_fourth(*args: Any) -> Any:
        if len(counted) == 4:  # the adaptation and three fine-tunings
            raise KeyboardInterrupt
        return finetune(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "finetune", interrupt_fourth)
        with pytest.raises(KeyboardInterrupt):
            run_study(words)
    assert counted == ["mlm", *RUNS[:3]]
    assert not (folder / "verdict.json").exists()
    printed = capsys.readouterr().err
    assert "8 runs, 0 of them finished already" in printed
    assert "[3/8] e2e, all labels, seed 1: test accuracy 0." in printed
    assert "interrupted: the same command goes on from here" in printed
    assert "epoch 1" not in printed  # that is for the log
    assert "epoch 1" in (folder / "logs" / "e2e_40_1.log").read_text(encoding="utf-8")

    counted.clear()
    verdict = run_study(words)
    assert counted == RUNS[3:]
    printed = capsys.readouterr().err
    assert "8 runs, 3 of them finished already" in printed
    assert "[8/8] mlm+decay, all labels, seed 2: test accuracy 0." in printed

    counted.clear()
    assert run_study(words) == verdict
    assert counted == []
    check_results(folder, verdict)


def check_results(folder: Path, verdict: Any) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "runs", "logs", "mlm", "results.parquet", "verdict.json", "report.md", "report.html", "accuracy.png",
        "effects.png", "cost.png",
    }  # fmt: skip
    assert read(folder / "verdict.json") == json.loads(json.dumps(verdict))
    assert (verdict["arms"], verdict["budgets"], verdict["seeds"]) == (["e2e", "mlm+decay"], [40, 200], [1, 2])
    rows = pyarrow.parquet.read_table(folder / "results.parquet").to_pylist()
    assert [f"{row['arm']}_{row['budget']}_{row['seed']}".replace("_200_", "_all_") for row in rows] == RUNS
    for row, name in zip(rows, RUNS, strict=True):
        metrics, record = read(folder / "runs" / name / "metrics.json"), read(folder / "runs" / name / "run.json")
        assert row["accuracy"] == metrics["test"]["after"]["accuracy"]
        assert row["validation_accuracy"] == metrics["validation"]["accuracy"]
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


def test_one_run_that_fails_stops_no_other_and_the_verdict(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    words = write_study_file(seeds=[1], arms=["e2e", "e2e+decay"], budgets=[40])
    finetune = module.finetune

    def fail_first(*args: Any) -> Any:
        if args[-1].layer_decay == 1:
            raise RuntimeError("no more\nof this")
        return finetune(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "finetune", fail_first)
        with pytest.raises(SystemExit) as end:
            main(["study", *words])
    assert end.value.code == 1
    printed = capsys.readouterr().err
    assert "[1/2] e2e, 40 labels, seed 1: failed: no more (see " in printed
    assert "[2/2] e2e+decay, 40 labels, seed 1: test accuracy" in printed
    assert "error: 1 of 2 runs are missing" in printed
    assert "Traceback" in (tmp_path / "study/logs/e2e_40_1.log").read_text(encoding="utf-8")
    assert not (tmp_path / "study/verdict.json").exists()
    main(["study", *words])
    printed = capsys.readouterr()
    assert "[2/2] e2e, 40 labels, seed 1: test accuracy" in printed.err
    assert printed.out.startswith("The study has not both of e2e and mlm+decay")
    assert printed.out.endswith(f"Report: {tmp_path / 'study' / 'report.html'}\n")


def test_an_adaptation_that_fails_stops_only_those_that_need_it(
    write_study_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, counted: list[str], capsys: Capture
) -> None:
    def fail(*_: Any) -> Any:
        raise InputError("out of words")

    monkeypatch.setattr(module, "adapt", fail)
    assert run_study(write_study_file(seeds=[1], budgets=[40])) is None
    assert counted == ["e2e_40_1"]
    printed = capsys.readouterr().err
    assert "failed: out of words" in printed
    assert "error: 1 of 2 runs are missing" in printed


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
    threads = read(tmp_path / "study/runs/placebo+decay_40_3/run.json")["hardware"]["threads"]
    assert threads <= max(1, read(tmp_path / "study/mlm/run.json")["hardware"]["cores"] // 2)


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"seed": 1}, [], "study.yaml: unknown key 'seed'; the keys are adapt_each_seed, adaptation, arms, budget"),
        (
            {"finetuning": {"rate": 1}},
            [],
            "study.yaml, finetuning: unknown key 'rate'; the keys are adversarial_epsilon",
        ),
        (
            {"finetuning": {"learning_rate": "fast"}},
            [],
            "study.yaml, finetuning: argument --learning_rate/--learning-rate/--lr: invalid float value: 'fast'",
        ),
        ({"finetuning": {"learning_rate": -1}}, [], "study.yaml, finetuning: --learning_rate -1.0: must be above 0"),
        ({"finetuning": {"seed": 1}}, [], "study.yaml, finetuning: 'seed' is the study's to set"),
        ({"finetuning": [1]}, [], "study.yaml, finetuning must hold one 'key: value' a line"),
        ({"finetuning": {"keep_duplicates": True}}, [], "keep_duplicates lets one text be on several sides"),
        ({"adaptation": {"epochs": 1}}, [], "study.yaml, adaptation: unknown key 'epochs'"),
        ({"adaptation": {"target_dataset": "none"}}, [], "adaptation: 'target_dataset' is the study's to set"),
        ({"adaptation": {"seed": 1}}, ["--adapt_each_seed"], "adaptation: 'seed' is the study's to set"),
        (
            {"budget_options": {40: {"dataset_name": "x"}}},
            [],
            "study.yaml, budget_options 40: unknown key 'dataset_name'",
        ),
        (
            {"budget_options": {50: {"learning_rate": 1}}},
            [],
            "study.yaml, budget_options: 50 is none of the budgets 40, all",
        ),
        (
            {"budget_options": {40: {"learning_rate": 0}}},
            [],
            "study.yaml, budget_options 40: --lr 0.0: must be above 0",
        ),
        ({"arms": ["mlm", "placebo+decay"]}, [], "study.yaml, placebo must name the dataset"),
        (
            {"placebo": PLACEBO | {"max_steps": 9}, "arms": ["mlm", "placebo+decay"]},
            [],
            "placebo: 'max_steps' is the stu",
        ),
        ({}, ["--arms", "placebo+decay"], "--arms placebo+decay: add mlm+decay, whose steps it takes"),
        ({}, ["--arms", "e2e", "best"], "--arms best: choose among e2e, e2e+decay, mlm, mlm+decay, placebo+decay"),
        ({}, ["--budgets", "many"], "--budgets many: pass a positive number or 'all'"),
        ({}, ["--seeds", "1", "2", "1"], "--seeds: 1 more than once"),
        ({}, ["--layer_decay", "1.0"], "--layer_decay 1.0: below 1, or nothing decays"),
        ({}, ["--jobs", "0"], "--jobs 0: at least 1"),
        ({}, ["--budgets", "40", "400"], "--budgets 400: the training split has 200 rows"),
        ({}, ["--budgets", "200", "all"], "two are the same, since the training split has 200 rows"),
        ({}, ["--quick"], "unknown option '--quick'"),
        ({"adaptation": {"dataset": "nowhere.txt"}}, [], "no such file: nowhere.txt"),
    ],
)
def test_what_is_refused_before_anything_is_trained(
    changes: dict[str, Any],
    flags: list[str],
    message: str,
    write_study_file: Callable[..., list[str]],
    counted: list[str],
    tmp_path: Path,
) -> None:
    words = write_study_file()
    content = yaml.safe_load(Path(words[0]).read_text(encoding="utf-8"))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) and key in content else value
    Path(words[0]).write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        run_study([*words, *flags])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert counted == []
    assert not (tmp_path / "study").exists()


def test_wrong_input_ends_with_one_line_and_code_2(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["study", "no_such.yaml", "--seeds", "1", "2"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: cannot read no_such.yaml: No such file or directory\n"


def test_a_folder_of_other_things_is_left_alone(
    write_study_file: Callable[..., list[str]], tmp_path: Path, counted: list[str]
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "run.json").touch()
    with pytest.raises(InputError, match=r"study holds run.json, no part of a study: pass another --output_dir"):
        run_study(write_study_file())
    (tmp_path / "study" / "run.json").rename(tmp_path / "study" / "report.html")
    with pytest.raises(InputError, match=r"study is not empty and holds no study: pass another --output_dir"):
        run_study(write_study_file())
    assert counted == []


def test_finished_runs_of_another_kind_are_refused(
    write_study_file: Callable[..., list[str]], counted: list[str], tmp_path: Path
) -> None:
    """Other options, other data, another adapted model: nothing of these may be summed up as one study."""
    words, folder = write_study_file(seeds=[1], budgets=[40], arms=["e2e", "mlm"]), tmp_path / "study"
    assert run_study(words) is not None
    counted.clear()

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
    assert counted == []


def test_shipped_studies_plan_what_they_say() -> None:
    full = build_study_plan([])
    assert len(full.finetunings) == 4 * 3 * 3
    assert [adaptation.corpus_args.dataset_name for adaptation in full.adaptations] == [["imdb"]]
    with_placebo = build_study_plan(["--arms", "mlm+decay", "placebo+decay"])
    assert [adaptation.kind for adaptation in with_placebo.adaptations] == ["mlm", "placebo"]
    of_task_texts = build_study_plan([str(DEFAULT_STUDY.with_name("study_task_texts.yaml"))])
    assert [adaptation.corpus_args.dataset_name for adaptation in of_task_texts.adaptations] == [["sst2"]]
    assert [run.args.num_train_epochs for run in of_task_texts.finetunings] == [
        run.args.num_train_epochs for run in full.finetunings
    ]
    small = build_study_plan([str(DEFAULT_STUDY.with_name("offline_study.yaml"))])
    assert {name for run in small.finetunings for name in (
        run.model_args.model_name_or_path, run.data_args.dataset_name
    )} == {
        "minilm", "snippets", "outputs/study/mlm",
    }  # fmt: skip
    assert small.finetunings[0].args.num_train_epochs == 10
    assert small.finetunings[-1].args.num_train_epochs == 3


def test_a_plan_aims_the_adaptation_at_the_data_of_the_runs(write_study_file: Callable[..., list[str]]) -> None:
    words = write_study_file()
    plan = build_study_plan([*words, "--data_dir", "here", "--adapt_each_seed"])
    assert [adaptation.folder.name for adaptation in plan.adaptations] == ["mlm_1", "mlm_2"]
    assert [adaptation.args.seed for adaptation in plan.adaptations] == [1, 2]
    run, corpus = plan.finetunings[-1], plan.adaptations[-1].corpus_args
    assert run.adaptation == plan.adaptations[-1].folder
    target = {name.removeprefix("target_"): value for name, value in vars(corpus).items() if "target_" in name}
    assert target == {name: getattr(run.data_args, name) for name in target}
    assert (target["split_seed"], corpus.data_dir, corpus.cleaning) == (42, "here", "light")
