"""Where a model's name leads: the package index, a folder, the Hub, or an error."""

from pathlib import Path

import pytest

from sentiment.exceptions import InputError
from sentiment.models import model_folder as pretrained
from sentiment.models.model_folder import resolve_model


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the Hub was asked for; it answers, and has everything."""
    calls: list[tuple[str, str]] = []

    def check_hub(*call: str) -> bool:
        calls.append(call)
        return True

    monkeypatch.setattr(pretrained, "check_hub", check_hub)
    return calls


def test_minilm_is_the_embedded_model(monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, str]]) -> None:
    monkeypatch.setattr(pretrained, "fetch_minilm", lambda: Path("/cache/minilm"))
    assert resolve_model("minilm") == "/cache/minilm"
    assert asked == []


def test_folder_of_a_model_or_of_a_run_is_found(tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match=f"no model in {tmp_path}"):
        resolve_model(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert resolve_model(str(tmp_path)) == str(tmp_path / "model")
    (tmp_path / "config.json").touch()
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    assert asked == []


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "bert-base-uncased"])
def test_other_names_are_asked_of_the_hub(name: str, asked: list[tuple[str, str]]) -> None:
    assert resolve_model(name) == name
    assert asked == [(name, "model")]


@pytest.mark.parametrize("name", ["", "./missing", "/missing/model", "~/missing", "a/b/c", "../missing"])
def test_missing_folder_is_refused_without_asking(
    name: str, asked: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"no model in the folder '{name}'"):
        resolve_model(name)
    assert asked == []


def test_without_the_hub_its_cache_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "check_hub", lambda *_: False)
    monkeypatch.setattr(pretrained, "snapshot_download", lambda name, local_files_only: f"{name} {local_files_only}")
    assert resolve_model("owner/model") == "owner/model True"


def test_what_the_hub_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, kind: str) -> bool:
        raise InputError(f"{kind} {name} is not on the Hub")

    monkeypatch.setattr(pretrained, "check_hub", refuse)
    with pytest.raises(InputError, match="model no/such is not on the Hub"):
        resolve_model("no/such")
