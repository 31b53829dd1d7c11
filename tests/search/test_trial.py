"""One trial: the same training as a fine-tuning's, and no look at the test split."""

import csv
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from sentiment.config.parsing import build_arguments
from sentiment.data import tokenization
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.pipelines import adaptation, finetuning
from sentiment.search.arguments import Candidate, SearchOptions, read_search
from sentiment.search.trial import ScoreCallback, read_record, score_candidate, train_adaptation

Write = Callable[..., list[str]]
TEST_WORDS = ("test.after", "test.before", "predictions", "calibration", "abstention", "baselines")


class WatchedBackend:
    """A tokenizer that keeps the texts it is given, and raises at a forbidden one."""

    def __init__(self, backend: Any, seen: set[str], forbidden: set[str]) -> None:
        self.backend, self.seen, self.forbidden = backend, seen, forbidden

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        return self.watch(found) if name.startswith("encode") else found

    def watch(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        def encode_watched(texts: Any, *args: Any, **options: Any) -> Any:
            given = {texts} if isinstance(texts, str) else set(texts)
            assert not given & self.forbidden, "a test text is tokenized"
            self.seen |= given
            return encode(texts, *args, **options)

        return encode_watched


@pytest.fixture
def watch_tokenizer(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[str]], set[str]]:
    """`watch_tokenizer(forbidden)`: tokenizing one of these texts raises; returns the set of tokenized texts."""

    def watch(forbidden: set[str]) -> set[str]:
        seen: set[str] = set()
        get_backend = tokenization.get_backend
        monkeypatch.setattr(
            tokenization, "get_backend", lambda tokenizer: WatchedBackend(get_backend(tokenizer), seen, forbidden)
        )

        def refuse(_self: Any, texts: Any = None, *_: Any, **__: Any) -> Any:
            raise AssertionError(f"tokenized in another way: {texts}")

        monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", refuse)
        return seen

    return watch


@pytest.fixture
def own_reviews(tmp_path: Path) -> Path:
    """A file of reviews that no other test has tokenized into the cache of `datasets`."""
    generator, path = random.Random(str(tmp_path)), tmp_path / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for row in range(100):
            word = ("good", "dull")[row % 2]
            writer.writerow([f"the {word} film {generator.getrandbits(64)}", 1 - row % 2])
    return path


def read_options(write_search_file: Write, **changes: Any) -> tuple[SearchOptions, Candidate]:
    options = read_search(write_search_file(**changes))
    return options, options.build_candidate({})


def list_keys(value: Any, prefix: str = "") -> Iterator[str]:
    """The keys of nested JSON, with dots between levels."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield f"{prefix}{key}"
        yield from list_keys(inner, f"{prefix}{key}.")


def test_no_test_row_is_tokenized_and_no_test_metric_written(
    write_search_file: Write, watch_tokenizer: Callable[[set[str]], set[str]], own_reviews: Path, tmp_path: Path
) -> None:
    _, candidate = read_options(write_search_file)
    candidate.finetuning["dataset_name"] = str(own_reviews)
    run_options = candidate.finetuning | {"output_dir": str(tmp_path / "control"), "seed": 1}
    _, data_args, _ = build_arguments(finetuning.ARGUMENTS, run_options)
    splits = load_split_reviews(data_args, 1).splits
    test_texts = set(splits["test"]["text"])
    assert len(test_texts) == 10
    seen = watch_tokenizer(test_texts)
    found = score_candidate(candidate, tmp_path / "trial", [1], "accuracy", tmp_path / "adaptations", None, True)
    own = {*splits["train"]["text"], *splits["validation"]["text"]}
    assert {text for text in seen if len(text) > 1} == own  # "a" shows which tokens are special
    with pytest.raises(AssertionError, match="a test text is tokenized"):  # where the split is read
        finetuning.finetune(**run_options)

    run_dir = tmp_path / "trial" / "seed_1"
    assert {path.name for path in run_dir.iterdir()} == {"run.json", "metrics.json", "validation.parquet"}
    metrics, record = (
        json.loads((run_dir / name).read_text(encoding="utf-8")) for name in ("metrics.json", "run.json")
    )
    assert set(metrics) == {"validation", "history", "best_epoch", "resources"}
    assert set(record["data"]["fingerprints"]) == set(record["data"]["audit"]["splits"]) == {"train", "validation"}
    assert [key for key in list_keys([metrics, record]) if any(word in key for word in TEST_WORDS)] == [
        key for key in list_keys([metrics, record]) if key.endswith("options.baselines")
    ]
    assert not any(text in json.dumps(record) for text in test_texts)
    assert found["scores"] == [metrics["validation"]["accuracy"]] == [found["score"]]


def test_a_trial_trains_as_a_fine_tuning_does(write_search_file: Write, tmp_path: Path) -> None:
    """Metrics are bit-identical to those of `train_e2e.py` with the options, for each seed."""
    _, candidate = read_options(write_search_file)
    found = score_candidate(candidate, tmp_path / "trial", [1, 2], "macro_f1", tmp_path / "adaptations")
    for position, seed in enumerate((1, 2)):
        metrics = finetuning.finetune(
            **candidate.finetuning | {"output_dir": str(tmp_path / f"run_{seed}"), "seed": seed}
        )
        trial = json.loads((tmp_path / "trial" / f"seed_{seed}" / "metrics.json").read_text(encoding="utf-8"))
        assert trial["history"] == metrics["history"]
        assert found["scores"][position] == metrics["validation"]["macro_f1"]
        assert found["losses"][position] == metrics["validation"]["loss"]
    assert found["score"] == sum(found["scores"]) / 2


def test_adaptations_are_shared(
    write_search_file: Write, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By candidates with equal options; one whose weights were removed is trained again."""
    text = {"dataset_name": str(reviews_csv), "num_train_epochs": 1, "precision": "fp32", "max_seq_length": 32}
    space = {
        "finetuning": {"dropout": {"low": 0.0, "high": 0.2}},
        "adaptation": {"mlm_probability": {"choices": [0.15, 0.3]}},
    }
    options, candidate = read_options(write_search_file, adaptation=text, space=space)
    other = options.build_candidate({"dropout": 0.1, "adaptation.mlm_probability": 0.3})
    train = adaptation.AdaptationRun.train
    trained: list[Path] = []

    def count(self: adaptation.AdaptationRun) -> dict[str, Any]:
        trained.append(self.run_dir)
        return train(self)

    monkeypatch.setattr(adaptation.AdaptationRun, "train", count)
    folder = tmp_path / "adaptations"
    first, seconds = train_adaptation(candidate.adaptation or {}, folder)
    with_dropout = options.build_candidate({"dropout": 0.1})
    assert train_adaptation(with_dropout.adaptation or {}, folder) == (first, seconds)
    second, _ = train_adaptation(other.adaptation or {}, folder)
    assert trained == [first, second]
    assert not (first / "checkpoints").exists()
    (first / "model" / "model.safetensors").unlink()
    train_adaptation(candidate.adaptation or {}, folder)
    assert trained == [first, second, first]

    found = score_candidate(other, tmp_path / "trial", [1], "accuracy", folder)
    assert trained == [first, second, first]
    record = json.loads((tmp_path / "trial" / "seed_1" / "run.json").read_text(encoding="utf-8"))
    assert (record["strategy"], Path(record["adaptation"]["run_dir"])) == ("finetune", second)
    assert list(found["adaptations"]) == [second.name]
    assert found["adaptations"][second.name] > 0


@pytest.mark.parametrize(
    "options",
    [
        {"rdrop_alpha": 1.0, "augmentation": {"delete": 0.2, "swap": 0.1}},
        {"linear_probe_first": True},
        {"self_training": True, "self_training_accuracy": 0.5},
    ],
)
def test_options_of_any_kind_are_scored(
    options: dict[str, Any],
    write_search_file: Write,
    tiny_bert_with_dropout: Path,
    tmp_path: Path,
    watch_tokenizer: Callable[[set[str]], set[str]],
) -> None:
    """Regularisation, augmentation, a probe before, a teacher: as a fine-tuning trains, without a test row."""
    _, candidate = read_options(write_search_file)
    own = {"model_name_or_path": str(tiny_bert_with_dropout)} | options
    if "self_training" in options:
        (tmp_path / "more.txt").write_text("\n".join(f"a good film {row}" for row in range(50)), encoding="utf-8")
        own["unlabelled_dataset"] = str(tmp_path / "more.txt")
    chosen = Candidate(candidate.finetuning | own, None)
    run_options = chosen.finetuning | {"output_dir": str(tmp_path / "run"), "seed": 1, "baselines": False}
    metrics = finetuning.finetune(**run_options)
    _, data_args, _ = build_arguments(finetuning.ARGUMENTS, run_options)
    watch_tokenizer(set(load_split_reviews(data_args, 1).splits["test"]["text"]))
    found = score_candidate(chosen, tmp_path / "trial", [1], "accuracy", tmp_path / "adaptations")
    assert found["losses"] == [metrics["validation"]["loss"]]
    assert {path.name for path in (tmp_path / "trial" / "seed_1").iterdir()} == {"run.json", "metrics.json"}


def test_the_score_is_that_of_the_best_checkpoint() -> None:
    reported: list[tuple[float, float]] = []
    callback = ScoreCallback("macro_f1", lambda progress, score: reported.append((progress, score)))
    for progress, selection, score in ((0.25, 0.6, 0.5), (0.5, 0.8, 0.7), (0.75, 0.7, 0.9)):
        callback.report_entry({"eval_selection": selection, "eval_macro_f1": score}, progress)
    assert reported == [(0.25, 0.5), (0.5, 0.7), (0.75, 0.7)]


def test_a_record_is_there_when_a_trial_has_ended(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    (tmp_path / "trial.json").write_text('{"state": "failed"}', encoding="utf-8")
    assert read_record(tmp_path) == {"state": "failed"}
