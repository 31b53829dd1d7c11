"""Augmented batches: rows depend on seed, epoch and number alone; runs resume bit-identical; other splits stay."""

import json
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.data.augmentation import Material
from sentiment.data.augmentation.augmenter import Augmenter
from sentiment.data.corpus import hash_keys
from sentiment.exceptions import InputError, TrainingInterrupted
from sentiment.models.masked_lm import load_masked_lm
from sentiment.models.word_proposals import WordProposer
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.pipelines.verification import verify_run
from sentiment.training.augmented_batches import POSITION, AugmentingCollator
from sentiment.training.batches import EpochTracker

STRENGTHS = {"synonym": 0.3, "typo": 0.3, "delete": 0.2, "punctuation": 0.3, "contrast": 0.2, "sentiment_swap": 0.2}
ALL = {"augmentation": STRENGTHS, "augmented_share": 0.6}
Run = Callable[..., Path]


@pytest.fixture
def run(tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path) -> Run:
    """`run(name, augmentation=...)` fine-tunes the tiny BERT for three epochs of five steps; the run's folder."""

    def finetune_tiny(name: str, **options: Any) -> Path:
        data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32, max_rows="200", language="en")
        model = str(options.pop("model", tiny_bert_with_dropout))
        data_options = {key: options.pop(key) for key in list(options) if hasattr(data_args, key)}
        args = FinetuningArguments(
            output_dir=str(tmp_path / name),
            learning_rate=5e-3,
            batch_size=32,
            num_train_epochs=3,
            precision="fp32",
            baselines=False,
        )
        FinetuningRun(
            "e2e", ModelArguments(model), replace(data_args, **data_options), replace(args, **options)
        ).execute()
        return tmp_path / name

    return finetune_tiny


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def check_same_weights(first: Path, second: Path) -> None:
    one, other = read_weights(first), read_weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- the collator ---

TEXTS = ["the film is good and moving", "a dull plot and a bad ending", "the story is great", "a boring scene"] * 5
LABELS = [1, 0, 1, 0] * 5


def build(tiny_bert: Path, seed: int = 0, **options: Any) -> tuple[AugmentingCollator, EpochTracker]:
    tokenizer, tracker = AutoTokenizer.from_pretrained(tiny_bert), EpochTracker()
    augmenter = Augmenter(STRENGTHS, 0.6, Material(TEXTS, LABELS), "light", seed)
    options = {"max_seq_length": 16, "truncation": "head"} | options
    return AugmentingCollator(tokenizer, augmenter, tracker=tracker, seed=seed, **options), tracker


def make_rows(collator: AugmentingCollator, positions: list[int]) -> list[dict[str, Any]]:
    encoded = collator.encode([TEXTS[position] for position in positions])
    return [
        {"input_ids": ids, "labels": LABELS[row], POSITION: row} for row, ids in zip(positions, encoded, strict=True)
    ]


def strip(ids: torch.Tensor) -> list[int]:
    return [token for token in ids.tolist() if token]


def test_rows_depend_on_the_epoch_and_their_number_not_on_their_batch(tiny_bert: Path) -> None:
    collator, tracker = build(tiny_bert)
    rows = make_rows(collator, list(range(20)))
    whole = collator(rows)
    for half in (rows[10:], rows[:10][::-1]):
        batch = collator(half)
        for row, ids, label in zip(half, batch["input_ids"], batch["labels"], strict=True):
            assert strip(ids) == strip(whole["input_ids"][row[POSITION]])
            assert label == whole["labels"][row[POSITION]]
    tracker.epoch = 1
    other = collator(rows)
    assert [strip(ids) for ids in other["input_ids"]] != [strip(ids) for ids in whole["input_ids"]]
    again, tracker = build(tiny_bert)
    tracker.epoch = 1
    assert [strip(ids) for ids in again(rows)["input_ids"]] == [strip(ids) for ids in other["input_ids"]]
    seeded, tracker = build(tiny_bert, seed=1)
    tracker.epoch = 1
    assert [strip(ids) for ids in seeded(rows)["input_ids"]] != [strip(ids) for ids in other["input_ids"]]


def test_rows_of_an_evaluation_are_padded_alone(tiny_bert: Path) -> None:
    collator, _ = build(tiny_bert)
    rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in make_rows(collator, list(range(20)))]
    batch = collator(rows)
    assert [strip(ids) for ids in batch["input_ids"]] == [row["input_ids"] for row in rows]
    assert batch["labels"].tolist() == LABELS


@pytest.mark.parametrize("truncation", ["head", "tail", "head_tail"])
def test_augmented_texts_are_truncated_as_others(tiny_bert: Path, truncation: str) -> None:
    collator, _ = build(tiny_bert, max_seq_length=5, truncation=truncation)
    batch = collator(make_rows(collator, list(range(20))))
    assert batch["input_ids"].shape[1] == 5


def test_unlabelled_texts_come_with_their_augmented_views(tiny_bert: Path) -> None:
    unlabelled = ["the actor is bright", "an ending that is empty and tired"]
    collator, _ = build(tiny_bert, unlabelled_texts=unlabelled)
    batch = collator(make_rows(collator, list(range(20))))
    known = collator.encode(unlabelled)
    assert all(strip(ids) in known for ids in batch["unlabelled_input_ids"])
    assert sum(strip(ids) not in known for ids in batch["augmented_input_ids"]) > 10
    assert {name for name in batch if name.endswith("labels")} == {"labels"}


# --- runs ---


@pytest.mark.parametrize(
    "options", [{}, {"adversarial_epsilon": 0.5, "rdrop_alpha": 1.0}, {"linear_probe_first": True}]
)
def test_a_resumed_run_ends_the_same(
    run: Run, signal_at: Callable[[int, int], AbstractContextManager[None]], options: dict[str, Any]
) -> None:
    whole = run("whole", **ALL, **options)
    for step, resume in ((4, False), (9, True)):
        with signal_at(step, signal.SIGTERM), pytest.raises(TrainingInterrupted):
            run("cut", resume=resume, **ALL, **options)
    cut = run("cut", resume=True, **ALL, **options)
    check_same_weights(cut, whole)
    found, expected = read(cut / "metrics.json"), read(whole / "metrics.json")
    assert found["validation"] == expected["validation"]
    assert found["augmentation"] == expected["augmentation"]


def test_augmentation_changes_training_and_no_other_split(run: Run, reviews_csv: Path) -> None:
    plain, augmented = run("plain"), run("augmented", **ALL)
    first, second = (read(folder / "run.json")["data"] for folder in (plain, augmented))
    assert first["fingerprints"] == second["fingerprints"]
    metrics = read(augmented / "metrics.json")
    assert read(augmented / "run.json")["options"]["augmentation"] == STRENGTHS
    assert metrics["augmentation"]["row_shares"]["contrast"] == 0.2
    published = set(reviews_csv.read_text(encoding="utf-8").split("\n"))
    examples = metrics["augmentation"]["examples"]
    assert len(examples) == 20
    for example in examples:
        assert f"{example['text']},{example['label']}" in published
        assert example["augmented_text"] != example["text"]
    assert any(not torch.equal(one, read_weights(augmented)[name]) for name, one in read_weights(plain).items())
    # "before" is measured on the same test rows by the same untrained model
    assert metrics["test"]["before"] == read(plain / "metrics.json")["test"]["before"]
    report = (augmented / "report.md").read_text(encoding="utf-8")
    assert "## Augmentation and regularisation" in report
    assert "### Texts before and after augmentation" in report


def test_consistency_training_reads_no_text_of_another_split(run: Run, reviews_csv: Path, tmp_path: Path) -> None:
    """The unlabelled texts are those of the labelled file, its validation and test texts left out, and others."""
    other = tmp_path / "unlabelled.txt"
    lines = [line.rpartition(",")[0] for line in reviews_csv.read_text(encoding="utf-8").splitlines()[1:201]]
    other.write_text("\n".join([*lines, "the film was quite long and loud", "a picture of the sea"]), encoding="utf-8")
    options = {"augmentation": {"typo": 0.3}, "unlabelled_dataset": str(other), "consistency_weight": 1.0}
    folder = run("run", consistency_threshold=0.0, **options)
    metrics, record = read(folder / "metrics.json"), read(folder / "run.json")
    assert metrics["augmentation"]["unlabelled_texts"] in range(158, 163)  # 160 of 200 rows, and two; 1% is held out
    assert "unlabelled" in record["data"]["fingerprints"]
    trained, held_out = (np.load(folder / f"{name}_keys.npy") for name in ("text", "held_out"))
    assert not set(trained.tolist()) & set(held_out.tolist())
    assert set(hash_keys(["a picture of the sea", "the film was quite long and loud"]).tolist()) & set(trained.tolist())
    assert verify_run(folder).differences == []
    run("run", consistency_threshold=0.0, **options)  # finished, on the same data
    other.write_text("\n".join([*lines, "something else", "and more"]), encoding="utf-8")
    with pytest.raises(InputError, match=r"other data \(unlabelled changed since\)"):
        run("run", consistency_threshold=0.0, **options)


def test_workers_of_the_data_loader_change_nothing(run: Run) -> None:
    check_same_weights(run("none", **ALL), run("two", dataloader_num_workers=2, **ALL))


@pytest.mark.parametrize("consistency", [False, True])
def test_two_processes_train_as_one(
    launch: Callable[..., Path], tiny_bert: Path, reviews_csv: Path, tmp_path: Path, consistency: bool
) -> None:
    flags = ["--model", str(tiny_bert), "--dataset", str(reviews_csv), "--max_seq_length", "32", "--language", "en"]
    flags += ["--batch_size", "40", "--num_train_epochs", "2", "--precision", "fp32", "--lr", "1e-3", "--no_baselines"]
    flags += ["--train_sampling_strategy", "sequential", "--linear_probe_first"]
    flags += ["--augmentation", "synonym=0.3,typo=0.3,contrast=0.3"]
    if consistency:
        flags += ["--consistency_weight", "1", "--unlabelled_dataset", str(reviews_csv), "--consistency_threshold", "0"]
    one, two = (launch(count, "train_e2e.py", tmp_path / str(count), *flags) for count in (1, 2))
    for alone, together in zip(*(read(folder / "metrics.json")["history"] for folder in (one, two)), strict=True):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
    weights, others = read_weights(one), read_weights(two)
    # A key bias has a gradient of rounding alone; see tests/pipelines/test_finetuning.py.
    compared = [name for name in weights if not name.endswith("attention.self.key.bias")]
    assert max(float((weights[name] - others[name]).abs().max()) for name in compared) < 1e-5


def test_masked_lm_needs_a_head(run: Run, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--augmentation masked_lm: .* has no masked-language-model head"):
        run("refused", augmentation={"masked_lm": 0.2})
    assert not (tmp_path / "refused" / "run.json").exists()
    model, _ = load_masked_lm(str(tiny_bert))
    model.save_pretrained(tmp_path / "adapted")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.save_pretrained(tmp_path / "adapted")
    folder = run("accepted", model=tmp_path / "adapted", augmentation={"masked_lm": 0.2})
    examples = read(folder / "metrics.json")["augmentation"]["examples"]
    assert examples
    assert all(
        example["kind"] == "masked_lm" and example["label"] == example["augmented_label"] for example in examples
    )


@pytest.mark.parametrize(
    ("truncation", "kept"), [("head", [0, 1, 2]), ("tail", [4, 5, 6]), ("head_tail", [0, 5, 6]), ("whole", range(7))]
)
def test_words_are_proposed_where_training_reads(tiny_bert: Path, truncation: str, kept: Sequence[int]) -> None:
    """Of fourteen words, sequences of 8 tokens have six: every second word is masked."""
    model, _ = load_masked_lm(str(tiny_bert))
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    size, way = (64, "head") if truncation == "whole" else (8, truncation)
    proposer = WordProposer(model, tokenizer, size, way)
    text = "film story " * 7
    places = [(11 * number, 11 * number + 4) for number in range(7)]
    found = proposer(text, places)
    lost = [number for number in range(7) if number not in kept]
    assert all(found[number] == [] for number in lost)
    assert sum(len(found[number]) for number in kept) > 0
    for proposals in found:
        assert all(word.isalpha() and 0 <= value <= 1 for word, value in proposals)
        assert [value for _, value in proposals] == sorted((value for _, value in proposals), reverse=True)
    assert proposer("a [MASK] film", [(2, 8)]) == [[]]


def test_proposals_are_those_of_the_model(tiny_bert: Path) -> None:
    model, _ = load_masked_lm(str(tiny_bert))
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    ((first, probability), *_), _ = WordProposer(model, tokenizer, 64)("the film is good", [(4, 8), (12, 16)])
    tokens = tokenizer("the [MASK] is [MASK]", return_tensors="pt")
    with torch.inference_mode():
        probabilities = model.eval()(**tokens).logits[0, 2].softmax(-1)
    assert probabilities[tokenizer.convert_tokens_to_ids(first)].item() == pytest.approx(probability, rel=1e-4)
    words = [token for token in tokenizer.get_vocab() if token.isalpha()]
    ranked = sorted(words, key=lambda word: -float(probabilities[tokenizer.convert_tokens_to_ids(word)]))
    assert first == ranked[0]


def test_self_training_with_augmentation_has_no_unlabelled_texts_in_its_batches(
    run: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    unlabelled = tmp_path / "unlabelled.txt"
    lines = [line.rpartition(",")[0] for line in reviews_csv.read_text(encoding="utf-8").splitlines()[201:]]
    unlabelled.write_text("\n".join(lines), encoding="utf-8")
    options = {"self_training": True, "self_training_accuracy": 0.5, "unlabelled_dataset": str(unlabelled)}
    metrics = read(run("run", **ALL, **options) / "metrics.json")
    assert metrics["self_training"]["labelled_by_teacher"] > 0
    assert "unlabelled_texts" not in metrics["augmentation"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augmentation": {"synonim": 0.1}}, "unknown kind 'synonim' .did you mean 'synonym'"),
        ({"augmentation": {"contrast": 0.8, "typo": 0.1}}, "130% of the rows would be augmented"),
        ({"augmentation": {"synonym": 0.1}, "language": "de"}, "--augmentation synonym: its word lists are English"),
        ({"augmentation": {"punctuation": 0.1}, "cleaning": "classic"}, "--cleaning classic takes punctuation away"),
        (
            {"augmentation": {"sentiment_swap": 0.1}, "label_mapping": "0=ham,1=spam"},
            "sentiment_swap: for the classes negative and positive only, and these are ham, spam",
        ),
        ({"rdrop_alpha": 1.0, "no_dropout": True}, "--rdrop_alpha: without dropout"),
        ({"consistency_weight": 1.0}, "--consistency_weight: pass unlabelled reviews with --unlabelled_dataset"),
        ({"consistency_weight": 1.0, "unlabelled_dataset": "x"}, "--consistency_weight: pass --augmentation"),
        ({"unlabelled_dataset": "x"}, "--unlabelled_dataset is for --consistency_weight and"),
        (
            {"consistency_weight": 1.0, "unlabelled_dataset": "x", "augmentation": {"contrast": 0.1}},
            "--consistency_weight: --augmentation needs one of synonym, insert",
        ),
        ({"augmented_share": 1.5}, "--augmented_share 1.5: a share"),
        ({"rdrop_alpha": -1.0}, "--rdrop_alpha -1.0: must be 0 or more"),
        ({"augmentation": {"swap": 3}}, "--augmentation swap=3: the strength is a share"),
    ],
)
def test_what_a_run_cannot_honour_is_refused(
    run: Run, tiny_bert: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    options = {"model": tiny_bert, **options} if options.get("no_dropout") else options
    with pytest.raises(InputError, match=message):
        run("refused", **{name: value for name, value in options.items() if name != "no_dropout"})
    assert not (tmp_path / "refused" / "run.json").exists()
