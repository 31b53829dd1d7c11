"""The whole sequence on a tiny BERT: the folder it leaves, determinism, resuming, and two processes as one."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from safetensors.torch import load_file

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.exceptions import DivergenceError, InputError
from sentiment.inference.predictor import Predictor
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.runs.lineage import check_unseen
from sentiment.training.checkpoints import write_manifest


@pytest.fixture
def run(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> Callable[..., Path]:
    """`run(name, learning_rate=...)` fine-tunes the tiny BERT with these options, and gives the run's folder."""

    def finetune_tiny(name: str = "run", **options: Any) -> Path:
        data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32)
        args = FinetuningArguments(
            output_dir=str(tmp_path / name), learning_rate=5e-3, batch_size=32, num_train_epochs=3, precision="fp32"
        )
        model = str(options.pop("model_name_or_path", tiny_bert))
        data_options = {
            name: options.pop(name) for name in ("dataset_name", "max_rows", "max_seq_length") if name in options
        }
        data_args, args = replace(data_args, **data_options), replace(args, **options)
        FinetuningRun("e2e", ModelArguments(model_name_or_path=model), data_args, args).execute()
        return tmp_path / name

    return finetune_tiny


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_leaves_what_is_promised_and_its_numbers_agree(run: Callable[..., Path]) -> None:
    folder = run(num_train_epochs=10)
    promised = {
        "model", "run.json", "metrics.json", "predictions.parquet", "report.md", "report.html",
        "loss.svg", "metrics.svg", "confusion.svg", "before_after.svg", "text_keys.npy", "held_out_keys.npy",
        "calibration.svg", "coverage.svg", "curves.svg",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == promised
    modes = {path.name: oct(path.stat().st_mode) for path in (folder / "model").iterdir()}
    assert len(set(modes.values())) == 1, modes  # others, such as a service, can read the weights too
    metrics, record = read(folder / "metrics.json"), read(folder / "run.json")
    parts = {"test", "validation", "calibration", "abstention", "baselines", "history", "best_epoch", "resources"}
    assert set(metrics) == parts
    assert set(metrics["test"]) == {"before", "after"}
    after = metrics["test"]["after"]
    assert after["accuracy"] > 0.75 > metrics["test"]["before"]["accuracy"]
    table = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pydict()
    assert list(table) == ["row", "text", "label", "predicted", "score", "p_negative", "p_positive"]
    hits = [label == predicted for label, predicted in zip(table["label"], table["predicted"], strict=True)]
    assert after["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert sum(map(sum, after["confusion_matrix"])) == len(hits) == record["data"]["audit"]["splits"]["test"]["rows"]
    best = max(metrics["history"], key=lambda entry: entry["validation"]["accuracy"])
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["validation"] == best["validation"]
    assert record["precision"] == metrics["resources"]["precision"] == "fp32"
    for name in ("train_seconds", "examples_per_second", "tokens_per_second", "peak_memory_mb"):
        assert metrics["resources"][name] > 0
    assert 0 < metrics["resources"]["padding_share"] < 0.2


def test_predictions_stand_beside_their_texts_in_the_order_of_the_split(run: Callable[..., Path]) -> None:
    """Length groups reorder the loaders of training; each text, scored alone, must get what the file says."""
    folder = run()
    table = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pydict()
    predictor = Predictor.from_pretrained(str(folder))
    lengths = [len(text.split()) for text in table["text"]]
    assert lengths != sorted(lengths)
    assert table["row"] == sorted(table["row"])
    for text, probability in zip(table["text"], table["p_positive"], strict=True):
        assert predictor.predict_probabilities([text])[0, 1] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    run: Callable[..., Path], tiny_bert_with_dropout: Path, precision: str
) -> None:
    options = {"model_name_or_path": tiny_bert_with_dropout, "precision": precision, "num_train_epochs": 2}
    folders = [run(name, seed=seed, **options) for name, seed in zip("abc", (1, 1, 2), strict=True)]
    weights = [hash_file(folder / "model/model.safetensors") for folder in folders]
    assert weights[0] == weights[1] != weights[2]


def test_layer_decay_and_head_rate_reach_the_optimizer(run: Callable[..., Path], tiny_bert: Path) -> None:
    start = load_file(tiny_bert / "model.safetensors")
    moved = {}
    for name, decay in (("even", 1.0), ("decayed", 0.01)):
        end = load_file(run(name, layer_decay=decay, num_train_epochs=1) / "model/model.safetensors")
        layer = "encoder.layer.0.output.dense.weight"
        moved[name] = float((end[f"bert.{layer}"] - start[layer]).abs().mean())
    assert moved["decayed"] < moved["even"] / 50  # the first of two layers is scaled by 0.01 ** 2


def test_a_finished_run_is_not_run_again(run: Callable[..., Path]) -> None:
    folder = run()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_checkpoints_are_kept_only_if_asked_for(run: Callable[..., Path]) -> None:
    checkpoints = run(keep_checkpoints=True) / "checkpoints"
    assert list(checkpoints.glob("checkpoint-*"))
    run(keep_checkpoints=True)
    assert list(checkpoints.glob("checkpoint-*"))
    run()  # the same run, which is not trained again
    assert not checkpoints.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_checkpoints_outlive_the_results_and_go_with_the_next_command(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resume: bool
) -> None:
    folder = tmp_path / "run"

    def check_and_die(run_dir: Path) -> None:
        assert read(run_dir / "metrics.json")["best_epoch"]
        assert (run_dir / "model" / "model.safetensors").exists()
        (newest, *_) = sorted((run_dir / "checkpoints").glob("checkpoint-*"), reverse=True)
        (newest / "manifest.json").unlink()  # killed while it removed them
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sentiment.pipelines.run.remove_checkpoints", check_and_die)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert list((folder / "checkpoints").glob("checkpoint-*"))
    weights = hash_file(folder / "model/model.safetensors")
    run(resume=resume)
    assert not (folder / "checkpoints").exists()
    assert hash_file(folder / "model/model.safetensors") == weights


def test_a_run_on_data_that_changed_since_is_not_taken_for_finished(
    run: Callable[..., Path], reviews_csv: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    lines = reviews_csv.read_text(encoding="utf-8").splitlines()
    own.write_text("\n".join(lines), encoding="utf-8")
    run(dataset_name=str(own))
    own.write_text("\n".join(lines[:-20]), encoding="utf-8")
    for options in ({}, {"resume": True}):
        with pytest.raises(InputError, match=r"other data \(train, .* changed since"):
            run(dataset_name=str(own), **options)


def test_a_run_that_failed_before_it_began_leaves_a_usable_folder(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert (run(num_train_epochs=1) / "metrics.json").exists()


def test_other_options_need_another_folder_or_overwrite(run: Callable[..., Path]) -> None:
    folder = run()
    weights = hash_file(folder / "model/model.safetensors")
    with pytest.raises(InputError, match=r"learning_rate 0\.005 -> 0\.001.*--overwrite"):
        run(learning_rate=1e-3)
    assert hash_file(folder / "model/model.safetensors") == weights
    run(learning_rate=1e-3, overwrite=True)
    assert hash_file(folder / "model/model.safetensors") != weights
    assert read(folder / "run.json")["options"]["learning_rate"] == 1e-3


def test_a_resumed_run_ends_like_one_that_was_never_cut_off(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole", layer_decay=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(
            "sentiment.training.callbacks.ManifestCallback.on_epoch_begin", stop_in_second_epoch, raising=False
        )
        with pytest.raises(KeyboardInterrupt):
            run("cut", layer_decay=0.5)
    with pytest.raises(InputError, match="unfinished run: pass --resume"):
        run("cut", layer_decay=0.5)
    cut = run("cut", layer_decay=0.5, resume=True)
    assert hash_file(cut / "model/model.safetensors") == hash_file(whole / "model/model.safetensors")
    ends = [read(folder / "metrics.json") for folder in (cut, whole)]
    assert ends[0]["history"] == ends[1]["history"]
    assert ends[0]["resources"]["padding_share"] == ends[1]["resources"]["padding_share"]


def test_padding_is_unknown_where_a_part_of_it_was_not_counted(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "sentiment.training.callbacks.ManifestCallback.on_epoch_begin", stop_in_second_epoch, raising=False
        )
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    (checkpoint,) = (tmp_path / "cut" / "checkpoints").glob("checkpoint-*")
    state = checkpoint / "trainer_state.json"
    state.write_text(json.dumps(read(state) | {"num_input_tokens_seen": 0}), encoding="utf-8")
    write_manifest(checkpoint, world_size=1)
    assert read(run("cut", resume=True) / "metrics.json")["resources"]["padding_share"] is None


def stop_in_second_epoch(_self: Any, _args: Any, state: Any, *_: Any, **__: Any) -> None:
    if state.epoch and state.epoch >= 1:
        raise KeyboardInterrupt


def test_a_diverging_run_says_so_and_leaves_no_result(run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        DivergenceError, match=r"diverged.*\(step 3, learning rate 1e\+30, .* and 16 more\); lower --lr"
    ):
        run(learning_rate=1e30, max_grad_norm=1e30)
    assert len(read(tmp_path / "run" / "divergence.json")["rows"]) == 32
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rows": "12"}, "too few rows"),
        ({"dataset_name": "missing.csv"}, r"missing\.csv"),
        ({"max_seq_length": 65}, "takes at most 64 tokens"),
        ({"precision": "fp16"}, "needs a CUDA device"),
    ],
)
def test_wrong_input_writes_nothing(
    run: Callable[..., Path], tmp_path: Path, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        run(**options)
    assert not (tmp_path / "run").exists()


def test_warm_up_is_a_share_of_the_steps(tmp_path: Path) -> None:
    args = FinetuningArguments(output_dir=str(tmp_path), batch_size=32, precision="fp32")
    assert args.build_trainer_arguments().get_warmup_steps(1000) == 60
    assert replace(args, warmup_steps=0.0).build_trainer_arguments().get_warmup_steps(1000) == 0


def test_the_global_batch_is_divided_among_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("transformers.TrainingArguments.world_size", 2)
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", 1)
    args = FinetuningArguments(output_dir=str(tmp_path), batch_size=32, precision="fp32")
    assert args.build_trainer_arguments().per_device_train_batch_size == 16
    with pytest.raises(InputError, match="--batch_size 33: not divisible by 2 processes"):
        replace(args, batch_size=33)


def test_two_processes_see_each_row_once_an_epoch(
    launch: Callable[..., Path], tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    """In length groups, and though they use random numbers unequally, the processes share the rows."""
    flags = ["--model", str(tiny_bert_with_dropout), "--dataset", str(reviews_csv), "--max_seq_length", "32"]
    flags += ["--precision", "fp32", "--batch_size", "40", "--num_train_epochs", "3", "--seed", "3"]
    folder = launch(2, "tests/pipelines/record_rows.py", tmp_path / "run", *flags)
    seen = [read(folder / f"rows_{rank}.json") for rank in (0, 1)]
    assert len(seen[0]) == len(seen[1]) == 3 * 100
    for epoch in range(3):
        rows = [row for rank in (0, 1) for row in seen[rank][100 * epoch : 100 * (epoch + 1)]]
        assert len(set(rows)) == 200


@pytest.mark.parametrize("epsilon", ["0", "0.5"])
def test_two_processes_train_as_one(
    launch: Callable[..., Path], tiny_bert: Path, reviews_csv: Path, tmp_path: Path, epsilon: str
) -> None:
    """Same rows in the same order, no dropout: the losses, weights and metrics of one process, within rounding.

    A loss that ignores the Trainer's count of rows is logged twice as high here, and moves the weights otherwise.
    """
    flags = ["--model", str(tiny_bert), "--dataset", str(reviews_csv), "--precision", "fp32", "--lr", "1e-3"]
    flags += ["--batch_size", "40", "--num_train_epochs", "2", "--max_seq_length", "32"]
    flags += ["--train_sampling_strategy", "sequential", "--adversarial_epsilon", epsilon]
    one, two = (launch(processes, "train_e2e.py", tmp_path / str(processes), *flags) for processes in (1, 2))
    assert read(two / "run.json")["hardware"]["processes"] == 2
    first, second = read(one / "metrics.json"), read(two / "metrics.json")
    for alone, together in zip(first["history"], second["history"], strict=True):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
        assert together["validation"]["loss"] == pytest.approx(alone["validation"]["loss"], rel=1e-4)
        # Every row counts once: 25 validation rows do not divide by two, and a repeated one would show here.
        assert together["validation"]["confusion_matrix"] == alone["validation"]["confusion_matrix"]
    weights, others = (load_file(folder / "model/model.safetensors") for folder in (one, two))
    assert weights.keys() == others.keys()
    # A key bias shifts all scores of a query alike, which softmax ignores: its gradient is rounding alone, and Adam
    # scales that up to the learning rate. Every other weight must agree.
    compared = [name for name in weights if not name.endswith("attention.self.key.bias")]
    assert max(float((weights[name] - others[name]).abs().max()) for name in compared) < 1e-6
    assert all(math.isfinite(entry["train_loss"]) for entry in second["history"])


def test_no_model_is_tested_on_texts_that_an_earlier_run_was_trained_on(run: Callable[..., Path]) -> None:
    first = run("first", max_steps=2)
    second = run("second", max_steps=2, model_name_or_path=first)  # of the same split
    for base in (first, second / "model"):
        with pytest.raises(InputError, match=r"the fine-tuning in .* was trained on \d+ texts of the test split"):
            run("third", max_steps=2, seed=7, model_name_or_path=base)


def test_no_model_is_chosen_by_labels_that_an_earlier_run_was_trained_on(
    run: Callable[..., Path], reviews_csv: Path
) -> None:
    first = run("first", max_steps=2)
    seed = read(first / "run.json")["options"]["seed"]
    splits = load_split_reviews(DataArguments(dataset_name=str(reviews_csv)), seed).splits
    texts = {name: part["text"][:] for name, part in splits.items()}
    check_unseen(str(first), texts["test"], texts["validation"])
    with pytest.raises(InputError, match="first was trained on the labels of 2 texts of the validation split: pass"):
        check_unseen(str(first), texts["test"], [*texts["validation"], *texts["train"][:2]])
