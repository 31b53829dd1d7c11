"""Suggestions of what to label next, from an unlabelled file to a training on them."""

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from sentiment import Predictor, finetune
from sentiment.cli import main
from sentiment.data.sources import load_reviews
from sentiment.inference.backends import TorchBackend
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.inference.suggestion import COLUMNS, compute_embeddings, suggest_reviews
from sentiment.models.classifier import load_classifier, load_trained_classifier

OPTIONS: dict[str, Any] = {"max_seq_length": 16, "learning_rate": 5e-3, "precision": "fp32", "baselines": False}
WORDS = ["the", "a", "film", "story", "plot", "and", "is", "not", "but", "very", "actor", "scene", "ending"]
LAST_WORDS = {"good": "positive", "funny": "positive", "bad": "negative", "dull": "negative"}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tiny_bert: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of the tiny BERT on the reviews."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    finetune(model_name_or_path=str(tiny_bert), dataset_name=str(reviews_csv), output_dir=folder, **OPTIONS)
    return folder


def write_csv(path: Path, *rows: tuple[object, ...], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """150 different reviews without labels, each longer than those of the run."""
    generator = random.Random(0)
    texts = {" ".join([*generator.choices(WORDS, k=13), generator.choice([*LAST_WORDS])]): None for _ in range(150)}
    return write_csv(tmp_path / "pool.csv", *((text,) for text in texts), header=("text",))


def call(*words: object) -> None:
    main(["suggest", *map(str, words)])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_table_and_its_numbers(run: Path, pool: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "next.csv"
    call(run, "--dataset", pool, "--count", 20, "--output", output)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "20 suggestions from 150 rows",
        f"{output}: fill its column `label`, then add its rows to the labelled reviews",
    ]
    assert "warning" not in printed.err
    rows, texts = read_csv(output), [row["text"] for row in read_csv(pool)]
    assert tuple(rows[0]) == COLUMNS
    assert len({row["row"] for row in rows}) == 20
    assert {row["label"] for row in rows} == {""}
    assert [texts[int(row["row"]) - 1] for row in rows] == [row["text"] for row in rows]
    predictions = Predictor.from_pretrained(str(run), precision="auto").predict([row["text"] for row in rows])
    for row, prediction in zip(rows, predictions, strict=True):
        assert prediction is not None
        assert (row["predicted_label"], float(row["score"])) == (
            prediction.label,
            pytest.approx(prediction.score, abs=0.02),  # bf16 in batches of other lengths
        )
        (other,) = {"negative", "positive"} - {row["predicted_label"]}
        score = float(row["score"])
        if score < 0.8:
            expected = f"uncertain between {row['predicted_label']} ({score:.2f}) and {other} ({1 - score:.2f})"
        else:
            reason = "would change the model most" if row is rows[0] else "unlike the texts above"
            expected = f"{row['predicted_label']} ({score:.2f}), but {reason}"
        assert row["why"] == expected


def test_draws_depend_on_the_seed(run: Path, pool: Path) -> None:
    first, again, other = (suggest_reviews(str(run), str(pool), 20, seed).records for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_rows_that_are_left_out(run: Path, reviews_csv: Path, tmp_path: Path, capsys: Capture) -> None:
    """Texts of training, validation and test, blank ones, labelled ones and their copies, and near-duplicates."""
    known = [(f"<b>{row['text'].upper()}</b> !", "") for row in read_csv(reviews_csv)]
    long_text = "the plot and the actor is not a very good story but the ending is bright and moving"
    others = [
        ("a labelled film", "positive"), ("A labelled film!", ""), ("", ""), (" \t", ""), ("<br />", ""),
        (long_text, ""), (f"{long_text}.", ""), (long_text.replace("the plot and the", "plot and the"), ""),
        ("dull scene", ""),
    ]  # fmt: skip
    pool = write_csv(tmp_path / "pool.csv", *known, *others)
    call(run, "--dataset", pool, "--output", tmp_path / "next.csv")
    assert capsys.readouterr().out.splitlines()[0] == (
        "2 suggestions from 259 rows; left out: 1 with a label, 3 with a blank text, 1 duplicates, "
        "251 with the text of a labelled row, 1 near-duplicates of a suggestion"
    )
    rows = read_csv(tmp_path / "next.csv")
    assert "259" in {row["row"] for row in rows}
    assert {row["text"] for row in rows} < {text for text, _ in others}


def test_models_without_a_record_are_named(run: Path, pool: Path, tiny_classifier: Path) -> None:
    found = suggest_reviews(str(tiny_classifier), str(pool), 5, 1)
    assert found.warnings == [
        f"{tiny_classifier} belongs to no fine-tuning here: texts that it was trained on may be among these"
    ]
    assert len(found.records) == 5
    keys = run / "held_out_keys.npy"
    kept = keys.rename(run / "kept.npy")
    try:
        warnings = suggest_reviews(str(run), str(pool), 5, 1).warnings
    finally:
        kept.rename(keys)
    assert warnings == [f"no {keys}: texts of that run may be among these"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_dataset_reads_the_table_of_any_format(suffix: str, run: Path, pool: Path, tmp_path: Path) -> None:
    output = tmp_path / f"next{suffix}"
    call(run, "--dataset", pool, "--count", 10, "--output", output)
    part = load_reviews(str(output))["train"]
    assert len(part) == 10
    assert {*part["label"]} == {-1}
    assert {*part["text"]} < {row["text"] for row in read_csv(pool)}


@pytest.mark.parametrize("labelled", [100, 60])
def test_training_takes_the_table_once_it_is_labelled(
    labelled: int, run: Path, pool: Path, reviews_csv: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """Also where it is labelled in part, and in a folder with the reviews that were labelled before."""
    output = tmp_path / "labelled" / "train" / "next.csv"
    call(run, "--dataset", pool, "--output", output)
    rows = read_csv(output)
    for row in rows[:labelled]:
        row["label"] = LAST_WORDS[row["text"].split()[-1]]
    write_csv(output, *(tuple(row.values()) for row in rows), header=COLUMNS)
    again = tmp_path / "again"
    dataset, before = str(output), 0
    if labelled < 100:
        shutil.copy(reviews_csv, output.parent)
        dataset, before = str(tmp_path / "labelled"), 250
    finetune(model_name_or_path=str(tiny_bert), dataset_name=dataset, output_dir=again, **OPTIONS)
    data = json.loads((again / "run.json").read_text())["data"]
    assert data["classes"] == ["negative", "positive"]
    assert sum(part["rows"] for part in data["audit"]["splits"].values()) == before + labelled
    assert data["audit"]["dropped"] == ({} if labelled == 100 else {"unlabelled": 40})
    found = suggest_reviews(str(again), str(output), 10, 1) if labelled < 100 else None
    assert found is None or found.left_out["with a label"] == 60


def test_columns_and_splits_are_those_of_the_options(run: Path, tmp_path: Path) -> None:
    rows = [(f"very {word}", "film", "?" if place else "5") for place, word in enumerate(("good", "bad", "dull"))]
    write_csv(tmp_path / "train.csv", *rows, header=("title", "body", "stars"))
    flags = ["--text_column_names", "title,body", "--text_column_delimiter", ": ", "--label_column_name", "stars"]
    call(run, "--dataset", tmp_path, "--split", "train", *flags, "--unlabelled_value", "?",
         "--output", tmp_path / "next.csv")  # fmt: skip
    assert {row["text"] for row in read_csv(tmp_path / "next.csv")} == {"very bad: film", "very dull: film"}


def test_columns_are_named_as_in_the_reviews_of_the_run(run: Path, pool: Path, tmp_path: Path, capsys: Capture) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["options"] |= {"text_column_names": "Comment", "label_column_name": "Star Rating"}
    (copy / "run.json").write_text(json.dumps(record))
    call(copy, "--dataset", pool, "--count", 2, "--output", tmp_path / "next.csv")
    assert [*read_csv(tmp_path / "next.csv")[0]][:3] == ["row", "Comment", "Star Rating"]
    assert "fill its column `Star Rating`" in capsys.readouterr().out


def test_wrong_input_ends_with_one_line(
    run: Path, pool: Path, reviews_csv: Path, tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "next.csv"
    (tmp_path / "labels.csv").write_text("hours of work")
    rated = write_csv(tmp_path / "rated.csv", ("good", 5), header=("text", "stars"))
    blank = write_csv(tmp_path / "blank.csv", ("", ""), ("a film", "positive"))
    for words, message in [
        ([tmp_path, "--dataset", pool, "--output", output], "no model in"),
        ([run, "--dataset", tmp_path / "missing.csv", "--output", output], "no such file"),
        ([run, "--dataset", rated, "--output", output], "--label_column_name stars, or --label_column_name none if"),
        ([run, "--dataset", pool, "--split", "test", "--output", output], "nothing to read for --split test"),
        ([run, "--dataset", pool, "--count", 0, "--output", output], "--count 0: at least 1"),
        ([run, "--dataset", pool, "--count", "many", "--output", output], "invalid int value: 'many'"),
        ([run, "--dataset", pool, "--seed", -1, "--output", output], "--seed -1: at least 0"),
        ([run, "--dataset", pool, "--output", tmp_path / "next.doc"], "the suffix names the format"),
        ([run, "--dataset", pool, "--output", pool], "is the file that is read"),
        ([run, "--dataset", pool, "--output", tmp_path / "labels.csv"], "labels.csv exists, and may hold labels"),
        ([run, "--dataset", blank, "--output", output], "nothing to suggest: 0 suggestions from 2 rows; left out: 1 "),
        ([run, "--dataset", reviews_csv, "--output", output], "left out: 250 with a label"),
    ]:  # fmt: skip
        with pytest.raises(SystemExit) as end:
            call(*words)
        assert end.value.code == 2
        printed = capsys.readouterr().err.splitlines()
        assert printed[-1].startswith("error: ")
        assert message in printed[-1]
        assert not output.exists()
    assert (tmp_path / "labels.csv").read_text() == "hours of work"


def test_embeddings_are_what_the_head_reads(tiny_encoder: Path, tmp_path: Path) -> None:
    """Of encoders of each kind: the output layer makes the logits of them, whatever the batches."""
    model = load_classifier(str(tiny_encoder), preprocessing={"cleaning": "light", "max_seq_length": 16})
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path)
    checkpoint = load_checkpoint(str(tmp_path))
    backend = TorchBackend(checkpoint)
    input_ids = checkpoint.encode(["a good film", "bad", "not a very dull story", "the plot is funny"])
    logits, embeddings = backend.compute_embeddings(input_ids)
    assert embeddings.shape == (4, model.config.hidden_size)
    layer = load_trained_classifier(str(tmp_path)).get_submodule(backend.output_layer)
    with torch.inference_mode():
        expected = layer(torch.from_numpy(embeddings)).numpy()
    assert logits == pytest.approx(expected, abs=1e-5)
    assert backend.compute_logits(input_ids) == pytest.approx(logits)


def test_probabilities_are_calibrated_and_in_order(build_classifier: Callable[..., Path], pool: Path) -> None:
    folder = build_classifier(["bad", "fair", "good"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"calibration": {"temperature": 2.5}}))
    part = load_reviews(str(pool))["train"].select_columns(["text"])
    probabilities, embeddings = compute_embeddings(load_checkpoint(str(folder)), part)
    assert embeddings.dtype == np.float32
    expected = Predictor.from_pretrained(str(folder), precision="auto").predict_probabilities(part["text"][:])
    assert probabilities == pytest.approx(expected, abs=0.05)
    assert np.abs(probabilities - expected).mean() < 0.005
