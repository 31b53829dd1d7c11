"""The sequence of an adaptation on a tiny BERT: what it leaves, what it learns, and what it may not read."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import BertForMaskedLM

from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.data.adaptation_data import build_target_arguments, collect_held_out_keys, load_training_corpus
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.exceptions import InputError
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun

# Each opening has one ending: a masked word can be told from the words around it.
SENTENCES = [
    f"{start} {middle} {end}"
    for start, end in (("the film is", "good ."), ("a story but", "dull ."), ("actor and scene", "not moving ."))
    for middle in ("very", "the plot", "funny", "a great ending", "empty", "tired and", "bright", "awful", "boring")
]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 distinct reviews of two to five such sentences, one a line."""
    generator = random.Random(0)
    path = tmp_path_factory.mktemp("corpus") / "reviews.txt"
    lines = {" ".join(generator.choices(SENTENCES, k=generator.randint(2, 5))) for _ in range(320)}
    path.write_text("\n".join(sorted(lines)[:300]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(tiny_bert: Path, corpus_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """`run(name, learning_rate=...)` adapts the tiny BERT with these options, and gives the run's folder."""

    def adapt_tiny(name: str = "mlm", **options: Any) -> Path:
        corpus_args = CorpusArguments(dataset_name=[str(corpus_file)], target_dataset="none", max_seq_length=32)
        args = AdaptationArguments(
            output_dir=str(tmp_path / name), learning_rate=5e-3, batch_size=16, num_train_epochs=3, precision="fp32"
        )
        model = str(options.pop("model_name_or_path", tiny_bert))
        own = {key: options.pop(key) for key in list(options) if hasattr(corpus_args, key)}
        AdaptationRun(
            "mlm", ModelArguments(model_name_or_path=model), replace(corpus_args, **own), replace(args, **options)
        ).execute()
        return tmp_path / name

    return adapt_tiny


def test_a_run_leaves_what_is_promised_and_learns(run: Callable[..., Path]) -> None:
    folder = run()
    promised = {
        "model", "run.json", "metrics.json", "report.md", "report.html", "loss.svg", "text_keys.npy",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == promised
    metrics, record = read(folder / "metrics.json"), read(folder / "run.json")
    before, after = metrics["validation"]["before"], metrics["validation"]["after"]
    assert 1 < after["loss"] < before["loss"] - 0.6  # learned, and not to copy: that would be near 0
    assert after["perplexity"] == pytest.approx(math.exp(after["loss"]))
    assert after["masked_tokens"] == before["masked_tokens"] > 100
    assert [entry["epoch"] for entry in metrics["history"]] == [1, 2, 3]
    assert min(entry["validation"]["loss"] for entry in metrics["history"]) == after["loss"]
    assert metrics["head_warmup_steps"] == round(0.1 * metrics["history"][-1]["step"]) > 0
    assert len(metrics["examples"]) == 20
    assert {"text", "word", "before", "after"} <= set(metrics["examples"][0])
    rows = record["data"]["audit"]["rows"]
    assert rows == {"read": 300, "train": 240, "validation": 60}
    assert set(metrics["resources"]) == {
        "train_seconds", "examples_per_second", "tokens_per_second", "padding_share", "peak_memory_mb", "precision",
    }  # fmt: skip
    assert BertForMaskedLM.from_pretrained(folder / "model").config.architectures == ["BertForMaskedLM"]
    assert len(np.load(folder / "text_keys.npy")) == 240


def test_the_pooler_stays_and_the_body_moves(run: Callable[..., Path], tiny_bert: Path) -> None:
    adapted, base = load_file(run() / "model/model.safetensors"), load_file(tiny_bert / "model.safetensors")
    for name, tensor in base.items():
        is_kept = bool((adapted[f"bert.{name}"] == tensor).all())
        assert is_kept == name.startswith("pooler."), name


def test_while_the_fresh_head_warms_up_the_body_stays(run: Callable[..., Path], tiny_bert: Path) -> None:
    """Nearly all steps are the head's, and what little is left moves the body only a little."""
    moved = {}
    base = load_file(tiny_bert / "model.safetensors")
    for name, ratio in (("head first", 0.9), ("together", 0.0)):
        folder = run(name, head_warmup_ratio=ratio, num_train_epochs=1, weight_decay=0.0)
        adapted = load_file(folder / "model/model.safetensors")
        layer = "encoder.layer.0.output.dense.weight"
        moved[name] = float((adapted[f"bert.{layer}"] - base[layer]).abs().mean())
    assert 0 < moved["head first"] < moved["together"] / 3


def test_a_head_that_comes_with_the_checkpoint_needs_no_warm_up(run: Callable[..., Path]) -> None:
    folder = run(num_train_epochs=1)
    again = run("again", model_name_or_path=folder, num_train_epochs=1)
    metrics = read(again / "metrics.json")
    assert metrics["head_warmup_steps"] == 0
    first = read(folder / "metrics.json")["validation"]["after"]["loss"]
    assert metrics["validation"]["before"]["loss"] == pytest.approx(first, rel=1e-4)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    run: Callable[..., Path], tiny_bert_with_dropout: Path
) -> None:
    options = {"model_name_or_path": tiny_bert_with_dropout, "num_train_epochs": 1}
    weights = [
        (run(name, seed=seed, **options) / "model/model.safetensors").read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert weights[0] == weights[1] != weights[2]


def test_a_finished_run_is_not_run_again_and_one_on_other_reviews_is_refused(
    run: Callable[..., Path], corpus_file: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.txt"
    lines = corpus_file.read_text(encoding="utf-8").splitlines()
    own.write_text("\n".join(lines), encoding="utf-8")
    folder = run(dataset_name=[str(own)], num_train_epochs=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run(dataset_name=[str(own)], num_train_epochs=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    own.write_text("\n".join(lines[:-40]), encoding="utf-8")
    with pytest.raises(InputError, match="other data"):
        run(dataset_name=[str(own)], num_train_epochs=1)


def test_a_resumed_run_ends_like_one_that_was_never_cut_off(
    run: Callable[..., Path], tiny_bert_with_dropout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks, dropout and the head's warm-up go on where they were."""
    options = {"model_name_or_path": tiny_bert_with_dropout, "num_train_epochs": 2, "head_warmup_ratio": 0.6}
    whole = run("whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(
            "sentiment.training.callbacks.ManifestCallback.on_epoch_begin", stop_in_second_epoch, raising=False
        )
        with pytest.raises(KeyboardInterrupt):
            run("cut", **options)
    cut = run("cut", resume=True, **options)
    assert (cut / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    expected, found = read(whole / "metrics.json"), read(cut / "metrics.json")
    for name in ("validation", "history", "steps", "examples"):
        assert found[name] == expected[name]


def stop_in_second_epoch(_self: Any, _args: Any, state: Any, *_: Any, **__: Any) -> None:
    if state.epoch and state.epoch >= 1:
        raise KeyboardInterrupt


def test_two_processes_adapt_and_count_each_masked_token_once(
    launch: Callable[..., Path], tiny_bert: Path, corpus_file: Path, tmp_path: Path
) -> None:
    flags = [
        "--model",
        str(tiny_bert),
        "--dataset",
        str(corpus_file),
        "--target_dataset",
        "none",
        "--max_seq_length",
        "32",
    ]
    flags += ["--precision", "fp32", "--batch_size", "20", "--num_train_epochs", "1", "--lr", "5e-3"]
    one, two = (launch(processes, "train_mlm.py", tmp_path / str(processes), *flags) for processes in (1, 2))
    assert read(two / "run.json")["hardware"]["processes"] == 2
    alone, together = (read(folder / "metrics.json")["validation"] for folder in (one, two))
    assert together["before"] == pytest.approx(alone["before"], rel=1e-5)
    assert together["after"]["masked_tokens"] == alone["after"]["masked_tokens"]
    # Other masks are drawn, and as much is learned; a loss that were counted twice would be logged twice as high.
    assert together["after"]["loss"] == pytest.approx(alone["after"]["loss"], rel=0.05)
    losses = [read(folder / "metrics.json")["history"][0]["train_loss"] for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_stream_is_trained_on_for_its_steps(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.data.adaptation_data.STREAM_VALIDATION_ROWS", 50)
    folder = run(streaming=True, max_steps=20, shuffle_buffer_size=50)
    metrics = read(folder / "metrics.json")
    assert [entry["step"] for entry in metrics["history"]] == [4, 8, 12, 16, 20]
    assert metrics["validation"]["after"]["loss"] < metrics["validation"]["before"]["loss"]
    assert not (folder / "text_keys.npy").exists()
    assert metrics["resources"]["padding_share"] is None


def test_no_text_that_is_tested_on_is_adapted_to(reviews_csv: Path, tmp_path: Path) -> None:
    """The corpus holds every labelled text, in another case, and some more: only those of the training split stay."""
    target = load_split_reviews(DataArguments(dataset_name=str(reviews_csv)), seed=42).splits
    labelled = [text for part in target.values() for text in part["text"]]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join([*(text.upper() for text in labelled), "a review of its own"]), encoding="utf-8")
    corpus_args = CorpusArguments(dataset_name=[str(corpus)], target_dataset=str(reviews_csv))
    found = load_training_corpus(corpus_args, seed=42)
    kept = {text.lower() for part in found.splits.values() for text in part["text"]}
    assert kept == {*target["train"]["text"], "a review of its own"}
    assert found.dropped["in_test"] == len(target["validation"]) + len(target["test"])
    assert collect_held_out_keys(corpus_args, seed=1) != collect_held_out_keys(corpus_args, seed=42)


def test_own_labelled_reviews_are_read_with_their_own_options(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{'güt' if i % 2 else 'bäd'} {i},{i % 2}" for i in range(60)]
    path.write_text("\n".join(["review text,mood", *rows]), encoding="cp1252")
    options = {"dataset_name": [str(path)], "text_column_names": "review text", "encoding": "cp1252"}
    found = build_target_arguments(CorpusArguments(**options))
    assert found is not None
    assert (found.text_column_names, found.encoding) == ("review text", "cp1252")
    with pytest.raises(InputError, match=r"columns: .*'mood'.*: name other labelled reviews") as refusal:
        collect_held_out_keys(CorpusArguments(**options), seed=1)
    assert "--target_label_column_name" in str(refusal.value)
    assert "--target_text" not in str(refusal.value)
    args = CorpusArguments(**options, target_label_column_name="mood")
    assert len(collect_held_out_keys(args, seed=1)) == 12


def test_fine_tuning_knows_its_adaptation_and_refuses_one_that_read_its_test(
    run: Callable[..., Path], reviews_csv: Path, tmp_path: Path
) -> None:
    options = {"dataset_name": [str(reviews_csv)], "target_dataset": str(reviews_csv), "num_train_epochs": 1}
    folder = run(**options)
    args = FinetuningArguments(output_dir=str(tmp_path / "finetune"), num_train_epochs=1, precision="fp32")
    data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32)
    FinetuningRun("finetune", ModelArguments(model_name_or_path=str(folder)), data_args, args).execute()
    adaptation = read(tmp_path / "finetune" / "run.json")["adaptation"]
    assert adaptation["run_dir"] == str(folder)
    assert adaptation["test_texts_seen"] == 0
    assert adaptation["rows"] == len(np.load(folder / "text_keys.npy"))
    assert adaptation["loss_after"] == read(folder / "metrics.json")["validation"]["after"]["loss"]
    base = load_file(folder / "model/model.safetensors")
    tuned = load_file(tmp_path / "finetune/model/model.safetensors")
    name = "bert.pooler.dense.weight"
    assert (tuned[name] - base[name]).abs().max() < 1e-3  # the base's pooler, a little further; not a fresh one

    other_seed = replace(args, output_dir=str(tmp_path / "other"), seed=1)
    with pytest.raises(InputError, match=r"the adaptation in .* read \d+ texts of the test split: .* --split_seed"):
        FinetuningRun("finetune", ModelArguments(model_name_or_path=str(folder)), data_args, other_seed).execute()
    assert not (tmp_path / "other").exists()
