"""`--self_training`: what a teacher labels and what is added, resuming, and wrong use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentiment.data.corpus import compute_corpus_key, hash_keys
from sentiment.exceptions import InputError
from sentiment.pipelines.finetuning import FinetuningRun, finetune
from sentiment.pipelines.self_training import share_out
from sentiment.runs.lineage import KEYS_FILE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`labelled.csv`, and `unlabelled.txt`, which has a test text of a run among others."""
    folder = tmp_path_factory.mktemp("self_training")
    rows = [f"a {word} film of {number},{label}" for number in range(60)
            for word, label in (("good", "positive"), ("bad", "negative"))]  # fmt: skip
    (folder / "labelled.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    lines = [f"a {word} plot of {number}" for number in range(40) for word in ("good", "bad")]
    lines += [row.partition(",")[0] for row in rows]
    (folder / "unlabelled.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def train(folder: Path, tiny_bert: Path) -> Callable[..., dict[str, Any]]:
    """`train(name, ...)` trains in the folder `name`."""

    def run(name: str, **options: Any) -> dict[str, Any]:
        given = {
            "learning_rate": 5e-3,
            "num_train_epochs": 4,
            "batch_size": 8,
            "max_seq_length": 16,
            "split_seed": 1,
            "baselines": False,
            "self_training": True,
            "unlabelled_dataset": str(folder / "unlabelled.txt"),
        }
        return finetune(
            model_name_or_path=str(tiny_bert), dataset_name=str(folder / "labelled.csv"),
            output_dir=folder / name, **given | options,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def found(train: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The metrics of a run."""
    return train("run", self_training_rows=30)


def test_confident_reviews_are_added_in_the_shares_of_the_classes(folder: Path, found: dict[str, Any]) -> None:
    summary = found["self_training"]
    assert 0 < sum(summary["added"].values()) <= 30
    assert summary["added"]["negative"] == summary["added"]["positive"]
    assert summary["confident"] >= sum(summary["added"].values())
    report = (folder / "run" / "report.md").read_text(encoding="utf-8")
    assert f"{summary['added']['negative']} negative, {summary['added']['positive']} positive" in report
    rows = json.loads((folder / "run" / "run.json").read_text())["data"]["audit"]["splits"]["train"]["rows"]
    assert rows == 96  # the labelled ones alone
    assert (folder / "run" / "teacher" / "metrics.json").is_file()


def test_the_second_model_trains_on_the_labels_of_the_first(folder: Path, found: dict[str, Any]) -> None:
    del found
    kept: dict[str, Any] = {}

    class Watched(FinetuningRun):
        def get_trainer_options(self, data: Any, tokenizer: Any) -> dict[str, Any]:
            if self.args.self_training:
                kept["training"], kept["data"] = self.training, data
            return super().get_trainer_options(data, tokenizer)

    from sentiment.config.parsing import build_arguments
    from sentiment.pipelines.finetuning import ARGUMENTS

    options = json.loads((folder / "run" / "run.json").read_text())["options"]
    options |= {"output_dir": str(folder / "watched"), "self_training_rows": 20}
    Watched("e2e", *build_arguments(ARGUMENTS, options)).execute()
    labelled, train = kept["data"].splits["train"], kept["training"].splits["train"]
    assert train["text"][: len(labelled)] == labelled["text"][:]
    assert train["label"][: len(labelled)] == labelled["label"][:]
    added = train.select(range(len(labelled), len(train)))
    assert len(added) > 0
    right = [("positive" if "good" in row["text"] else "negative") == train.features["label"].names[row["label"]]
             for row in added]  # fmt: skip
    assert np.mean(right) >= 0.9
    held_out = {*kept["data"].splits["validation"]["text"], *kept["data"].splits["test"]["text"]}
    assert held_out.isdisjoint(added["text"])
    tokenized = kept["training"].tokenized["train"]
    assert len(tokenized) == len(train)
    assert tokenized["labels"][:] == train["label"][:]
    keys = np.load(folder / "watched" / KEYS_FILE)
    assert np.isin(hash_keys(map(compute_corpus_key, added["text"])), keys).all()


def test_a_finished_run_is_not_repeated_and_a_teacher_is_kept(
    folder: Path, found: dict[str, Any], train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    original = FinetuningRun.train

    def count(run: FinetuningRun) -> dict[str, Any]:
        trained.append(run.run_dir.name)
        return original(run)

    monkeypatch.setattr(FinetuningRun, "train", count)
    assert train("run", self_training_rows=30, resume=True) == found
    assert trained == []
    (folder / "run" / "metrics.json").unlink()
    again = train("run", self_training_rows=30, resume=True)
    assert trained == ["run"]
    assert again["test"]["after"] == found["test"]["after"]


def test_nothing_is_added_where_no_score_is_sure_enough(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = train("unsure", num_train_epochs=1, learning_rate=1e-9, self_training_accuracy=1.0)
    assert sum(metrics["self_training"]["added"].values()) == 0
    assert "no score of the teacher reaches --self_training_accuracy" in capsys.readouterr().err


def test_a_class_of_which_nothing_is_sure_allows_no_review() -> None:
    assert share_out(np.array([100, 0]), np.array([0.5, 0.5]), 50).tolist() == [0, 0]
    assert share_out(np.array([100, 0, 100]), np.array([0.5, 0.0, 0.5]), 50).tolist() == [25, 0, 25]


def test_wrong_use_is_refused(folder: Path, train: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="--self_training: pass unlabelled reviews with --unlabelled_dataset"):
        train("wrong", unlabelled_dataset=None)
    with pytest.raises(InputError, match="--unlabelled_dataset is for --consistency_weight and --self_training"):
        train("wrong", self_training=False)
    with pytest.raises(InputError, match=r"--self_training_accuracy 1\.5: above 0, at most 1"):
        train("wrong", self_training_accuracy=1.5)
    assert not (folder / "wrong").exists()
