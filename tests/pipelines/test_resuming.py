"""A run that is interrupted anywhere and resumed ends with the same weights, bit for bit."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.exceptions import InputError, SaveError, TrainingInterrupted
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun

ROOT = Path(__file__).parents[2]
Run = Callable[..., Path]
Interrupt = Callable[..., None]


@pytest.fixture
def run(tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path) -> Run:
    """`run(name, learning_rate=...)` fine-tunes the tiny BERT for three epochs of five steps; the run's folder."""

    def finetune_tiny(name: str, **options: Any) -> Path:
        data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32, max_rows="200")
        args = FinetuningArguments(
            output_dir=str(tmp_path / name),
            learning_rate=5e-3,
            batch_size=32,
            num_train_epochs=3,
            precision="fp32",
            dropout=0.1,
            layer_decay=0.8,
        )
        FinetuningRun("e2e", ModelArguments(str(tiny_bert_with_dropout)), data_args, replace(args, **options)).execute()
        return tmp_path / name

    return finetune_tiny


@pytest.fixture
def run_mlm(tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path) -> Run:
    """The same for an adaptation."""

    def adapt_tiny(name: str, **options: Any) -> Path:
        corpus_args = CorpusArguments(
            dataset_name=[str(reviews_csv)], target_dataset="none", max_seq_length=32, max_rows="200"
        )
        args = AdaptationArguments(
            output_dir=str(tmp_path / name),
            learning_rate=5e-3,
            num_train_epochs=3,
            precision="fp32",
            head_warmup_ratio=0.3,
        )
        corpus_options = {key: options.pop(key) for key in list(options) if hasattr(corpus_args, key)}
        model_args = ModelArguments(str(tiny_bert_with_dropout))
        AdaptationRun("mlm", model_args, replace(corpus_args, **corpus_options), replace(args, **options)).execute()
        return tmp_path / name

    return adapt_tiny


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture
def interrupt(signal_at: Callable[[int, int], AbstractContextManager[None]]) -> Callable[..., None]:
    """`interrupt(run, step, number, learning_rate=...)` begins the run `cut`, and ends it by a signal in a step."""

    def run_and_signal(run: Run, step: int, number: int = signal.SIGTERM, **options: Any) -> None:
        with signal_at(step, number), pytest.raises(TrainingInterrupted) as raised:
            run("cut", **options)
        assert raised.value.exit_code == 128 + number

    return run_and_signal


def find_newest(run_dir: Path) -> Path:
    return max((run_dir / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def check_equal(cut: Path, whole: Path) -> None:
    """Weights bit for bit, and the same history, but for the rounding of sums that were taken in two parts."""
    assert read_weights(cut) == read_weights(whole)
    found, expected = (read(folder / "metrics.json") for folder in (cut, whole))
    assert found["validation"] == expected["validation"]
    assert found["best_epoch"] == expected["best_epoch"]
    for after, before in zip(found["history"], expected["history"], strict=True):
        assert after["validation"] == before["validation"]
        assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-5)


@pytest.mark.parametrize("step", [1, 4, 5, 6, 15])
@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_fine_tuning_ends_the_same(run: Run, tmp_path: Path, step: int, strategy: str, interrupt: Interrupt) -> None:
    options = {"train_sampling_strategy": strategy}
    whole = run("whole", **options)
    interrupt(run, step, **options)
    assert find_newest(tmp_path / "cut").name == f"checkpoint-{step}"
    check_equal(run("cut", resume=True, **options), whole)


def test_adaptation_ends_the_same(run_mlm: Run, tmp_path: Path, interrupt: Interrupt) -> None:
    whole = run_mlm("whole")
    interrupt(run_mlm, 2, signal.SIGINT)  # while only the head learns
    assert find_newest(tmp_path / "cut").name == "checkpoint-2"
    interrupt(run_mlm, 8, resume=True)
    check_equal(run_mlm("cut", resume=True), whole)


@pytest.mark.parametrize("step", [3, 7, 8, 12])
def test_so_does_one_on_a_stream(
    run_mlm: Run, interrupt: Interrupt, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is evaluated every three steps, and comes to its end and begins anew."""
    monkeypatch.setattr("sentiment.data.adaptation_data.STREAM_VALIDATION_ROWS", 150)
    options = {"streaming": True, "max_steps": 13, "shuffle_buffer_size": 20, "batch_size": 16}
    whole = run_mlm("whole", **options)
    interrupt(run_mlm, step, **options)
    check_equal(run_mlm("cut", resume=True, **options), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 4},
        {"gradient_accumulation_steps": 3, "batch_size": 30},  # of 16 micro-batches the last is a step by itself
        {"adversarial_epsilon": 0.5},
    ],
)
def test_so_does_a_step_of_micro_batches_or_of_two_passes(
    run: Run, options: dict[str, Any], interrupt: Interrupt
) -> None:
    whole = run("whole", **options)
    interrupt(run, 7, **options)
    check_equal(run("cut", resume=True, **options), whole)


def test_an_earlier_checkpoint_can_be_named(run: Run, tmp_path: Path, interrupt: Interrupt) -> None:
    whole = run("whole")
    assert not (whole / "checkpoints").exists()
    interrupt(run, 12)
    folder = tmp_path / "cut" / "checkpoints"
    resumed = run("cut", resume_from_checkpoint=str(folder / "checkpoint-10"), keep_checkpoints=True)
    check_equal(resumed, whole)
    assert (folder / "corrupted" / "checkpoint-12").is_dir()  # a later --resume must not return to it
    with pytest.raises(InputError, match=r"--resume_from_checkpoint .*missing: manifest.json is missing"):
        run("other", resume_from_checkpoint=str(tmp_path / "other" / "checkpoints" / "missing"))
    with pytest.raises(InputError, match=r"--resume_from_checkpoint .*checkpoint-10: not in .*other"):
        run("other", resume_from_checkpoint=str(folder / "checkpoint-10"))


def test_a_run_that_had_stopped_early_is_not_trained_on(run: Run, tmp_path: Path) -> None:
    """It was killed when all that was left was to write what it found."""
    options = {"early_stopping_patience": 1, "num_train_epochs": 8, "learning_rate": 0.05, "keep_checkpoints": True}
    whole = run("whole", **options)
    epochs = len(read(whole / "metrics.json")["history"])
    assert epochs < 8
    shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "model")
    (tmp_path / "cut" / "metrics.json").unlink()
    check_equal(run("cut", resume=True, **options), whole)


def test_a_folder_may_be_moved_between(run: Run, tmp_path: Path, interrupt: Interrupt) -> None:
    """The best epoch's weights are found where they are now."""
    options = {"learning_rate": 0.02}
    whole = run("whole", **options)
    interrupt(run, 12, **options)
    (tmp_path / "cut").rename(tmp_path / "moved")
    check_equal(run("moved", resume=True, **options), whole)


def test_the_record_keeps_its_beginning_and_tells_what_changed(
    run: Run, interrupt: Interrupt, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(run, 2)
    begun = read(tmp_path / "cut" / "run.json")
    assert "resumed" not in begun
    changed = begun | {"started": "2020-01-01T00:00:00+00:00", "versions": begun["versions"] | {"torch": "1.0"}}
    (tmp_path / "cut" / "run.json").write_text(json.dumps(changed), encoding="utf-8")
    interrupt(run, 4, resume=True)
    assert "was started in another environment (torch 1.0 -> " in caplog.text
    caplog.clear()
    ended = read(run("cut", resume=True) / "run.json")
    assert ended["started"] == "2020-01-01T00:00:00+00:00"
    assert len(ended["resumed"]) == 2
    assert caplog.text == ""


def test_checkpoints_are_written_now_and_then(run: Run) -> None:
    whole = run("whole")
    often = run("often", save_minutes=0)
    check_equal(often, whole)


def test_damage_costs_the_way_from_the_checkpoint_before(run: Run, tmp_path: Path, interrupt: Interrupt) -> None:
    whole = run("whole")
    interrupt(run, 8)
    newest = find_newest(tmp_path / "cut")
    content = bytearray((newest / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(content)
    check_equal(run("cut", resume=True), whole)


def test_a_checkpoint_that_cannot_be_written_leaves_those_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole")
    save = torch.save
    calls = []

    def fill_disk(value: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(path)
        if len(calls) > 6:  # of the second checkpoint
            Path(path).write_bytes(b"a part")
            raise RuntimeError("[enforce fail at inline_container.cc:827] . PytorchStreamWriter failed writing file")
        save(value, path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill_disk)
        with pytest.raises(SaveError, match=r"cannot write .*checkpoint-10: .*failed writing.* MB free"):
            run("cut")
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["checkpoint-5"]
    check_equal(run("cut", resume=True), whole)


def test_two_runs_in_one_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = "import pathlib, sys, sentiment.runs.folder as f; f.lock_run_dir(pathlib.Path(sys.argv[1])).__enter__()"
    said = []

    def start_another(*_: Any, **__: Any) -> None:
        command = [sys.executable, "-c", hold, str(tmp_path / "run")]
        said.append(subprocess.run(command, capture_output=True, text=True, check=False).stderr)

    monkeypatch.setattr("sentiment.training.callbacks.ManifestCallback.on_train_end", start_another, raising=False)
    run("run", num_train_epochs=1)
    assert "another run is writing to" in said[0]
    start_another()  # the first has ended
    assert said[1] == ""


def test_kill_9(run: Run, tmp_path: Path) -> None:
    """Within a save, and some time after one; `tests/faults/killed_runs.py` does it more often."""
    whole = run("whole", save_minutes=0)
    options = read(whole / "run.json")["options"] | {"output_dir": str(tmp_path / "cut")}
    flags = [f"--{name}={value}" for name, value in options.items() if value not in (None, False)]
    command = [sys.executable, str(ROOT / "train_e2e.py"), *flags, "--resume"]
    checkpoints = tmp_path / "cut" / "checkpoints"
    for wait in (0.0, 0.05):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not list(checkpoints.glob("checkpoint-*")):
                time.sleep(0.001)
            time.sleep(wait)
            process.kill()
    check_equal(run("cut", resume=True, save_minutes=0), whole)
