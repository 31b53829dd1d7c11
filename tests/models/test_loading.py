"""Tokenizers and their errors, Hub revisions, and checkpoints as they are uploaded to the Hub."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from transformers import (
    AutoTokenizer,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from sentiment.exceptions import InputError
from sentiment.models.classifier import load_classifier
from sentiment.models.loading import load_tokenizer
from sentiment.models.masked_lm import load_masked_lm


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bert, tmp_path / "model")


def get_error(folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        load_tokenizer(str(folder))
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)
    return str(refusal.value)


def test_tokenizer_and_its_length(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer("A good film.").tokens() == ["[CLS]", "a", "good", "film", ".", "[SEP]"]
    assert tokenizer.model_max_length == 64
    assert load_tokenizer(str(folder), max_seq_length=16).model_max_length == 16


def test_missing_files_do_not_make_an_empty_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    assert "no tokenizer.json or vocab.txt" in get_error(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_tokenizer(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    assert "cannot read the tokenizer" in get_error(folder)


def test_empty_folder(tmp_path: Path) -> None:
    assert "cannot read the tokenizer" in get_error(tmp_path)


MODELS = [
    (load_classifier, "BertForSequenceClassification"),
    (lambda path: load_masked_lm(path)[0], "BertForMaskedLM"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("load_model", "architecture"), MODELS)
def test_upload_has_the_plain_architecture_and_all_weights(
    load_model: Callable[[str], PreTrainedModel],
    architecture: str,
    dtype: torch.dtype,
    tiny_bert: Path,
    tmp_path: Path,
    hub_commits: list[dict[str, Any]],
) -> None:
    model = load_model(str(tiny_bert))
    torch.nn.Module.to(model, dtype)
    folder = tmp_path / "model"
    model.save_pretrained(folder, push_to_hub=True, repo_id="me/tuned", commit_message="Tuned", private=True)
    model.push_to_hub("me/tuned", commit_message="Again")
    assert [commit["message"] for commit in hub_commits] == ["Tuned", "Again"]
    for commit in hub_commits:
        assert commit["repo_id"] == "me/tuned"
        config = json.loads(commit["files"]["config.json"])
        assert config["architectures"] == [architecture]
        assert config["dtype"] == str(dtype).removeprefix("torch.")
        weights = load(commit["files"]["model.safetensors"])
        assert weights.keys() == load((folder / "model.safetensors").read_bytes()).keys()
        state = model.state_dict()
        assert all(torch.equal(weight, state[name]) for name, weight in weights.items())
        assert state.keys() - weights.keys() <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


def test_trainer_uploads_the_plain_architecture_at_each_save(
    tiny_bert: Path, tmp_path: Path, hub_commits: list[dict[str, Any]]
) -> None:
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        save_steps=1,
        push_to_hub=True,
        hub_model_id="me/tuned",
        hub_token="token",
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": [2, 5, 3], "labels": row % 2} for row in range(4)]
    trainer = Trainer(model=load_classifier(str(tiny_bert)), args=args, train_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.push_to_hub()
    assert len(hub_commits) >= 3
    assert all(commit["repo_id"] == "me/tuned" for commit in hub_commits)
    configs = [json.loads(commit["files"]["config.json"]) for commit in hub_commits]
    assert {name for config in configs for name in config["architectures"]} == {"BertForSequenceClassification"}


@pytest.mark.parametrize(("load_model", "architecture"), MODELS)
def test_saving_draws_no_random_numbers_and_takes_a_state_dict(
    load_model: Callable[[str], PreTrainedModel], architecture: str, tiny_bert: Path, tmp_path: Path
) -> None:
    model = load_model(str(tiny_bert))
    state = torch.get_rng_state()
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert list((tmp_path / "none").iterdir()) == []
    zeros = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=zeros)
    assert torch.equal(torch.get_rng_state(), state)
    assert BertConfig.from_pretrained(tmp_path).architectures == [architecture]
    assert not any(weight.any() for weight in load((tmp_path / "model.safetensors").read_bytes()).values())


@pytest.mark.parametrize("revision", [None, "v1", "0123456789" * 4])
def test_revision_reaches_every_download(
    revision: str | None, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    for owner, name in (
        (AutoTokenizer, "from_pretrained"),
        (PreTrainedConfig, "get_config_dict"),
        (PreTrainedModel, "from_pretrained"),
    ):
        original = getattr(owner, name).__func__

        def record(cls: type, path: str, *args: Any, original: Any = original, **options: Any) -> Any:
            asked.append(options["revision"])
            return original(cls, path, *args, **options)

        monkeypatch.setattr(owner, name, classmethod(record))
    load_tokenizer(str(tiny_bert), revision=revision)
    load_classifier(str(tiny_bert), revision=revision)
    load_masked_lm(str(tiny_bert), revision=revision)
    assert {value or "main" for value in asked} == {revision or "main"}
    assert len(asked) == 6  # the tokenizer is found by the config


def test_loading_and_saving_draw_no_bars(tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        load_classifier(str(tiny_bert)).save_pretrained(tmp_path)
        assert capsys.readouterr().err == ""
        assert transformers_logging.is_progress_bar_enabled()  # of other libraries' calls
    finally:
        if not was_enabled:
            transformers_logging.disable_progress_bar()
