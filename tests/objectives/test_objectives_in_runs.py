"""Every objective in a run on a tiny BERT: what it trains, leaves and reports, how it resumes, and what it reads."""

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertModel

from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.data.corpus import compute_corpus_key
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.labelled_adaptation import choose_held_out, load_probe_data, prepare_labelled_data
from sentiment.exceptions import InputError, TrainingInterrupted
from sentiment.models.classifier import load_classifier
from sentiment.objectives.polarity import PolarityLearning
from sentiment.pipelines import adaptation
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.pipelines.verification import verify_run
from sentiment.reporting.terminal import render_adaptation

OBJECTIVES: dict[str, dict[str, Any]] = {
    "contrastive": {"objective": "contrastive"},
    "hard negatives": {"objective": "contrastive", "hard_negatives": True},
    "augmented": {"objective": "contrastive", "contrastive_positives": ["delete", "swap"]},
    "mean": {"objective": "contrastive", "contrastive_target": "mean"},
    "joint": {"objective": "mlm+contrastive", "hard_negatives": True},
    "polarity": {"objective": "polarity", "temperature": 0.2},
    "supervised": {"objective": "supervised_contrastive", "temperature": 0.2},
}
OPPOSITES = {"good": "bad", "fine": "awful", "great": "dull", "moving": "boring", "funny": "tired", "bright": "empty"}
OPPOSITES |= {opposite: word for word, opposite in OPPOSITES.items()}
POOLER = "pooler.dense.weight"
Run = Callable[..., Path]


def reverse(text: str, generator: np.random.Generator) -> str | None:
    """The text with an opposite for each word that has one; now and then None."""
    changed = " ".join(OPPOSITES.get(word, word) for word in text.split())
    return None if changed == text or generator.random() < 0.1 else changed


@pytest.fixture
def run(
    tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`run(name, objective=...)` adapts the tiny BERT to the reviews, and gives the run's folder."""
    monkeypatch.setattr("sentiment.objectives.contrastive.reverse_sentiment", reverse)

    def adapt_tiny(name: str = "run", **options: Any) -> Path:
        corpus_args = CorpusArguments(target_dataset=str(reviews_csv), max_seq_length=32)
        if options.get("objective") != "supervised_contrastive":
            corpus_args = replace(corpus_args, dataset_name=[str(reviews_csv)])
        args = AdaptationArguments(
            output_dir=str(tmp_path / name), learning_rate=1e-3, batch_size=16, num_train_epochs=2, precision="fp32"
        )
        model = str(options.pop("model_name_or_path", tiny_bert_with_dropout))
        own = {key: options.pop(key) for key in list(options) if hasattr(corpus_args, key)}
        model_args = ModelArguments(model_name_or_path=model)
        options["greater_is_better"] = None  # as the metric says, not as it was for the loss
        AdaptationRun("mlm", model_args, replace(corpus_args, **own), replace(args, **options)).execute()
        return tmp_path / name

    return adapt_tiny


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_learns_and_all_that_it_leaves_can_be_used(
    run: Run, tiny_bert_with_dropout: Path, reviews_csv: Path, tmp_path: Path, name: str
) -> None:
    folder = run(**OBJECTIVES[name])
    metrics, record = read(folder / "metrics.json"), read(folder / "run.json")
    after = metrics["validation"]["after"]
    first, last = (entry["train_loss"] for entry in metrics["history"])
    assert last < 0.98 * first
    titles = metrics["objective"]["metrics"]
    assert set(titles) <= set(after)
    assert set(after) - set(titles) == {"compared_texts"}
    assert ("reversal_accuracy" in titles) == OBJECTIVES[name].get("hard_negatives", False)
    assert record["data"]["probe"] == {"train_rows": 100, "validation_rows": 25}
    assert 0.3 < after["probe_accuracy"] <= 1

    adapted, base = AutoModel.from_pretrained(folder / "model"), BertModel.from_pretrained(tiny_bert_with_dropout)
    assert type(adapted) is BertModel
    moved = {key: float((value - base.state_dict()[key]).abs().max()) for key, value in adapted.state_dict().items()}
    assert moved[POOLER] > 1e-3  # what the objective is for
    assert moved["encoder.layer.0.output.dense.weight"] > 1e-4
    assert torch.equal(load_classifier(str(folder / "model")).bert.pooler.dense.weight, adapted.pooler.dense.weight)
    texts = AutoTokenizer.from_pretrained(folder / "model")(["the film is good"], return_tensors="pt")
    assert adapted(**texts).pooler_output.shape == (1, 32)

    assert verify_run(folder).differences == []
    words = metrics["objective"]["name"]
    for path in (folder / "report.md", folder / "report.html", folder / "model/README.md"):
        text = path.read_text(encoding="utf-8")
        assert words in text
        assert all(title.replace("²", "") in text.replace("²", "") for title in titles.values())
    table = render_adaptation(metrics)
    assert "accuracy of the probe" in table
    assert (folder / "probe.svg").is_file()

    args = FinetuningArguments(output_dir=str(tmp_path / "finetune"), num_train_epochs=1, precision="fp32")
    data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32)
    FinetuningRun("finetune", ModelArguments(model_name_or_path=str(folder)), data_args, args).execute()
    adaptation_of = read(tmp_path / "finetune/run.json")["adaptation"]
    assert (adaptation_of["objective"], adaptation_of["test_texts_seen"]) == (words, 0)
    assert ("those without a polarity were left out" in (folder / "report.md").read_text()) == (name == "polarity")
    kind = "labelled reviews of the training split" if name == "supervised" else "unlabelled reviews"
    assert kind in " ".join((tmp_path / "finetune/report.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_resumed_run_is_bit_identical(
    run: Run, name: str, signal_at: Callable[[int, int], AbstractContextManager[None]]
) -> None:
    options = OBJECTIVES[name] | {"head_warmup_ratio": 0.5, "layer_decay": 0.8}
    whole = run("whole", **options)
    steps = read(whole / "metrics.json")["history"][-1]["step"]
    for step in (2, steps // 2 + 3):  # in both epochs
        with signal_at(step, signal.SIGTERM), pytest.raises(TrainingInterrupted):
            run("cut", resume=step > 2, **options)
    cut = run("cut", resume=True, **options)
    assert (cut / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    expected, found = read(whole / "metrics.json"), read(cut / "metrics.json")
    for part in ("validation", "examples", "best_step"):
        assert found[part] == expected[part]


def test_a_warm_up_of_the_head_that_ends_by_itself_is_bit_identical_too(
    run: Run, signal_at: Callable[[int, int], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment.training.head_warmup.WINDOW", 3)
    monkeypatch.setattr("sentiment.training.trainer.LONGEST_SHARE", 0.9)
    options = {"head_warmup_ratio": "auto", "num_train_epochs": 3, "learning_rate": 0.02}
    whole = run("whole", **options)
    metrics = read(whole / "metrics.json")
    steps = metrics["head_warmup_steps"]
    assert 6 <= steps < 0.9 * metrics["history"][-1]["step"]
    for step in (steps - 2, steps + 1):
        with signal_at(step, signal.SIGTERM), pytest.raises(TrainingInterrupted):
            run("cut", resume=step > steps, **options)
    cut = run("cut", resume=True, **options)
    assert read(cut / "metrics.json")["head_warmup_steps"] == steps
    assert (cut / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_a_loss_that_keeps_falling_ends_the_warm_up_at_its_longest(run: Run) -> None:
    folder = run(head_warmup_ratio="auto")
    metrics = read(folder / "metrics.json")
    assert metrics["head_warmup_steps"] == round(0.3 * metrics["history"][-1]["step"])


@pytest.mark.parametrize("name", ["hard negatives", "mean", "joint"])
def test_a_stream_has_texts_too(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch, signal_at: Callable[[int, int], AbstractContextManager[None]]
) -> None:
    monkeypatch.setattr("sentiment.data.adaptation_data.STREAM_VALIDATION_ROWS", 50)
    options = OBJECTIVES[name] | {"streaming": True, "max_steps": 10, "shuffle_buffer_size": 50}
    whole = run("whole", **options)
    metrics = read(whole / "metrics.json")
    assert [entry["step"] for entry in metrics["history"]] == [2, 4, 6, 8, 10]
    assert metrics["validation"]["after"]["compared_texts"] == 50
    with signal_at(5, signal.SIGTERM), pytest.raises(TrainingInterrupted):
        run("cut", **options)
    cut = run("cut", resume=True, **options)
    assert (cut / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_two_processes_are_one_with_the_same_batch(
    launch: Callable[..., Path], tiny_bert: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    """Without dropout, each text is compared with those of both processes, and gradients are those of one."""
    flags = ["--model", str(tiny_bert), "--target_dataset", str(reviews_csv), "--max_seq_length", "32"]
    flags += ["--precision", "fp32", "--batch_size", "20", "--num_train_epochs", "1", "--lr", "1e-3"]
    flags += ["--objective", "supervised_contrastive", "--temperature", "0.2"]
    mean = ["--dataset", str(reviews_csv), "--objective", "contrastive", "--contrastive_target", "mean"]
    for name, own in {"supervised": flags, "mean": flags[:-4] + mean}.items():
        one, two = (launch(processes, "train_mlm.py", tmp_path / f"{name}{processes}", *own) for processes in (1, 2))
        assert read(two / "run.json")["hardware"]["processes"] == 2
        alone, together = (read(folder / "metrics.json")["validation"] for folder in (one, two))
        assert together["before"] == pytest.approx(alone["before"], rel=1e-5)
        tolerance = 1e-3
        assert together["after"] == pytest.approx(alone["after"], rel=tolerance)
        before, after = alone["before"]["loss"], alone["after"]["loss"]
        assert abs(after - before) > 10 * tolerance * before
        weights, other = (load_file(folder / "model/model.safetensors") for folder in (one, two))
        for key, value in weights.items():
            if key.endswith("key.bias"):  # its gradient is 0, but for the rounding that Adam scales up
                continue
            assert torch.allclose(other[key], value, atol=2e-4), key


def test_the_probe_chooses_the_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the second of four evaluations is the best, and the loss says the last."""
    values = iter([0.5, 0.6, 0.9, 0.7, 0.8])
    monkeypatch.setattr(adaptation, "compute_probe_accuracy", lambda *_: next(values))
    folder = run(objective="contrastive", num_train_epochs=4, metric_for_best_model="probe_accuracy")
    metrics = read(folder / "metrics.json")
    assert [entry["validation"]["probe_accuracy"] for entry in metrics["history"]] == [0.6, 0.9, 0.7, 0.8]
    assert (metrics["best_epoch"], metrics["best_step"]) == (2, metrics["history"][1]["step"])
    assert metrics["validation"]["before"]["probe_accuracy"] == 0.5
    assert metrics["validation"]["after"] == metrics["history"][1]["validation"]
    assert "restored: " not in (folder / "report.md").read_text(encoding="utf-8")
    assert "2 (restored)" in (folder / "report.md").read_text(encoding="utf-8")
    assert "It chose the restored weights" in (folder / "report.md").read_text(encoding="utf-8")


def test_without_labels_there_is_no_probe(run: Run, tmp_path: Path) -> None:
    folder = run(objective="contrastive", target_dataset="none", num_train_epochs=1)
    metrics = read(folder / "metrics.json")
    assert "probe_accuracy" not in metrics["validation"]["after"]
    assert not (folder / "probe.svg").exists()
    assert "Judged by the task" not in (folder / "report.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"^--metric_for_best_model probe_accuracy: .*--target_dataset$"):
        run("other", target_dataset="none", metric_for_best_model="probe_accuracy")
    assert not (tmp_path / "other" / "run.json").exists()
    folder = run("off", probe_samples="0", num_train_epochs=1)
    assert read(folder / "run.json")["data"]["probe"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hard_negatives": True}, "--hard_negatives True: --objective mlm has no such option"),
        ({"contrastive_positives": ["swap"]}, "--contrastive_positives .*swap.*: --objective mlm has no such option"),
        (
            {"objective": "contrastive", "contrastive_positives": ["contrast"]},
            "--contrastive_positives contrast: choose",
        ),
        (
            {"objective": "contrastive", "contrastive_positives": ["swap"], "contrastive_target": "mean"},
            "--contrastive_positives swap: --contrastive_target mean has no other view",
        ),
        ({"objective": "contrastive", "mlm_weight": 0.3}, "--mlm_weight 0.3: --objective contrastive has no such"),
        ({"objective": "contrastive", "mlm_probability": 0.3}, "--mlm_probability 0.3: --objective contrastive"),
        ({"objective": "contrastive", "gradient_accumulation_steps": 2}, "--gradient_accumulation_steps 2: with"),
        ({"objective": "contrastive", "batch_size": 1}, "--batch_size 1: .* needs 2 or more"),
        ({"objective": "polarity", "batch_size": 3}, "--batch_size 3: .* needs 4 or more"),
        ({"objective": "polarity", "streaming": True}, "--streaming: --objective polarity rates all texts before"),
        ({"objective": "polarity", "hard_negatives": True}, "--hard_negatives True: --objective polarity has no such"),
        ({"objective": "supervised_contrastive", "dataset_name": ["x.txt"]}, "--dataset x.txt: .*omit --dataset"),
        ({"objective": "supervised_contrastive", "target_dataset": "none"}, "needs labelled reviews.*--target_dataset"),
        ({"objective": "supervised_contrastive", "streaming": True}, "--streaming: .*labelled rows"),
        ({"objective": "supervised_contrastive", "target_max_train_samples": 6}, "3 training rows of .*and 4 are nee"),
    ],
)
def test_options_that_an_objective_cannot_honour(
    run: Run, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run(**options)
    assert not (tmp_path / "run" / "run.json").exists()


class TestPolarity:
    """Which texts have a polarity, and which are trained on."""

    @pytest.fixture
    def prepare(self, tmp_path: Path, tiny_bert: Path) -> Callable[[list[str]], Any]:
        """`prepare(texts)`: what the objective reads of these texts, half of which are held out."""
        args = AdaptationArguments(output_dir=str(tmp_path), objective="polarity")

        def prepare_texts(texts: list[str]) -> Any:
            path = tmp_path / "texts.txt"
            path.write_text("\n".join(texts), encoding="utf-8")
            corpus_args = CorpusArguments(
                dataset_name=[str(path)], target_dataset="none", validation_split_percentage=50
            )
            return PolarityLearning(args).prepare_data(corpus_args, AutoTokenizer.from_pretrained(tiny_bert))

        return prepare_texts

    def test_texts_without_sentiment_are_left_out(self, prepare: Callable[[list[str]], Any]) -> None:
        good = [f"the film is great and this is scene {number}" for number in range(10)]
        bad = [f"that film is not great but this is scene {number}" for number in range(10)]
        neutral = [f"the film and this scene {number}" for number in range(10)]
        data = prepare([*good, *bad, *neutral])
        found = {row["text"]: row["labels"] for part in (data.train, data.validation) for row in part}
        assert found == dict.fromkeys(good, 1) | dict.fromkeys(bad, 0)
        assert data.audit["texts"] == {"train": len(data.train), "validation": len(data.validation)}
        labels = data.train["labels"][:]
        assert data.audit["polarities"] == {"negative": labels.count(0), "positive": labels.count(1)}
        assert data.audit["tokens"]["train"] == sum(map(len, data.train["input_ids"]))

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            (
                [f"Der Film {number} ist ein guter Film" for number in range(10)],
                "the word lists are English, and the texts",
            ),
            (
                ["the film and that is this"] * 11 + ["it is great"],
                "of 6 train texts, .* are needed: pass more",
            ),
        ],
    )
    def test_texts_that_cannot_be_rated_are_refused(
        self, prepare: Callable[[list[str]], Any], texts: list[str], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            prepare([f"{text} {number}" for number, text in enumerate(texts)])


def test_hard_negatives_are_refused_for_texts_in_another_language(run: Run, tmp_path: Path) -> None:
    texts = [f"Der Film war {word} , ein {other} gespieltes Drama" for word in OPPOSITES for other in ("good", "bad")]
    path = tmp_path / "german.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    options = {"objective": "contrastive", "hard_negatives": True, "dataset_name": [str(path)]}
    with pytest.raises(InputError, match="--hard_negatives: the word lists are English, and the texts are not"):
        run(**options)
    run("english", **options, language="en", num_train_epochs=1)


def test_views_without_dropout_are_equal_and_refused(run: Run, tiny_bert: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no dropout, .*--contrastive_positives delete, --contrastive_target mean"
    ):
        run(objective="contrastive", model_name_or_path=tiny_bert)
    run(objective="contrastive", model_name_or_path=tiny_bert, contrastive_positives=["swap"], num_train_epochs=1)


@pytest.mark.parametrize("share", [0.3, 0.4])
def test_more_of_the_tokens_can_be_masked(run: Run, share: float) -> None:
    few, many = (
        read(run(f"{value}", mlm_probability=value, num_train_epochs=1) / "metrics.json")["validation"]["after"]
        for value in (0.15, share)
    )
    assert many["masked_tokens"] == pytest.approx(few["masked_tokens"] * share / 0.15, rel=0.25)


def test_layers_may_learn_at_rates_of_their_own(run: Run, tiny_bert_with_dropout: Path) -> None:
    base = load_file(tiny_bert_with_dropout / "model.safetensors")
    moved = []
    for decay in (1.0, 0.01):
        options = {"layer_decay": decay, "num_train_epochs": 1, "weight_decay": 0.0}
        found = load_file(run(f"{decay}", **OBJECTIVES["contrastive"], **options) / "model/model.safetensors")
        moved.append({name: float((value - base[name]).abs().mean()) for name, value in found.items()})
    even, decayed = moved
    word = "embeddings.word_embeddings.weight"
    assert decayed[POOLER] > 0.2 * even[POOLER]
    assert decayed[word] < 0.01 * even[word]


class TestLabels:
    """Which labelled rows are read: those of the training split alone, and no more than the budget."""

    @pytest.fixture
    def corpus_args(self, reviews_csv: Path) -> CorpusArguments:
        return CorpusArguments(target_dataset=str(reviews_csv), max_seq_length=32)

    @pytest.fixture
    def args(self, tmp_path: Path) -> AdaptationArguments:
        return AdaptationArguments(output_dir=str(tmp_path), objective="supervised_contrastive", seed=5)

    def split(self, reviews_csv: Path, budget: int | None = None) -> Any:
        return load_split_reviews(DataArguments(dataset_name=str(reviews_csv), max_train_samples=budget), 5).splits

    def test_the_probe_is_fitted_on_rows_of_the_training_split_and_scored_on_validation(
        self, corpus_args: CorpusArguments, args: AdaptationArguments, reviews_csv: Path, tiny_bert: Path
    ) -> None:
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        splits = self.split(reviews_csv)

        def encode(name: str) -> dict[tuple[int, ...], int]:
            rows = splits[name]
            ids = tokenizer(rows["text"][:], truncation=True, max_length=32)["input_ids"]
            return dict(zip(map(tuple, ids), rows["label"][:], strict=True))

        train, validation, test = map(encode, ("train", "validation", "test"))
        found = load_probe_data(corpus_args, replace(args, probe_samples="all"), tokenizer)
        assert found is not None
        fitted = dict(zip(map(tuple, found.train_ids), found.train_labels.tolist(), strict=True))
        assert fitted == train
        assert dict(zip(map(tuple, found.validation_ids), found.validation_labels.tolist(), strict=True)) == validation
        assert not (fitted.keys() & (validation.keys() | test.keys()))
        assert not ({tuple(ids) for ids in found.validation_ids} & test.keys())

    @pytest.mark.parametrize(
        ("probe_samples", "budget", "rows"),
        [(None, None, 100), (None, 60, 60), ("40", None, 40), ("150", 60, 60), ("40", 60, 40), ("all", 60, 60)],
    )
    def test_it_reads_no_more_labels_than_the_fine_tuning_to_come(
        self,
        corpus_args: CorpusArguments,
        args: AdaptationArguments,
        reviews_csv: Path,
        tiny_bert: Path,
        probe_samples: str | None,
        budget: int | None,
        rows: int,
    ) -> None:
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        options = replace(corpus_args, target_max_train_samples=budget)
        found = load_probe_data(options, replace(args, probe_samples=probe_samples), tokenizer)
        assert found is not None
        assert len(found.train_labels) == len(found.train_ids) == rows
        own = self.split(reviews_csv, budget or rows)["train"]["text"][:]
        allowed = {tuple(ids) for ids in tokenizer(own, truncation=True, max_length=32)["input_ids"]}
        assert {tuple(ids) for ids in found.train_ids} <= allowed

    def test_supervised_training_reads_the_training_rows_of_the_budget_alone(
        self, corpus_args: CorpusArguments, args: AdaptationArguments, reviews_csv: Path, tiny_bert: Path
    ) -> None:
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        data = prepare_labelled_data(replace(corpus_args, target_max_train_samples=80), args, tokenizer)
        own = self.split(reviews_csv, 80)["train"]
        labels = dict(
            zip(map(tuple, tokenizer(own["text"][:], truncation=True, max_length=32)["input_ids"]), own["label"][:],
                strict=True)
        )  # fmt: skip
        assert (len(data.train), len(data.validation)) == (64, 16)
        read = [(tuple(row["input_ids"]), row["labels"]) for part in (data.train, data.validation) for row in part]
        assert dict(read) == labels
        assert data.text_keys is not None
        assert len(data.text_keys) == 64
        assert {compute_corpus_key(text) for text in data.held_out_texts} <= set(map(compute_corpus_key, own["text"]))

    def test_held_out_rows_are_a_share_of_each_class(self) -> None:
        labels = np.array([0] * 50 + [1] * 6)
        held_out = choose_held_out(labels, ["a", "b"], 0.2, seed=1)
        assert np.bincount(labels[held_out]).tolist() == [10, 2]
        assert not np.array_equal(held_out, choose_held_out(labels, ["a", "b"], 0.2, seed=2))
        with pytest.raises(InputError, match="3 training rows of 'b', and 4 are needed"):
            choose_held_out(labels[:-3], ["a", "b"], 0.2, seed=1)
