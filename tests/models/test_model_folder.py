"""What `--model` and `--model_revision` load: the package index, a folder, a commit on the Hub, or an error."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from sentiment.exceptions import InputError
from sentiment.models import model_folder
from sentiment.models.model_folder import get_model_revision, resolve_model


@pytest.fixture
def hub_requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The requests to a Hub that has every model."""
    calls: list[tuple[str, str]] = []

    def check_hub(*call: str) -> bool:
        calls.append(call)
        return True

    monkeypatch.setattr("sentiment.data.hub.check_hub", check_hub)
    return calls


def test_minilm_is_downloaded(monkeypatch: pytest.MonkeyPatch, hub_requests: list[tuple[str, str]]) -> None:
    monkeypatch.setattr(model_folder, "fetch_minilm", lambda: Path("/cache/minilm"))
    assert resolve_model("minilm") == "/cache/minilm"
    assert hub_requests == []


def test_folder_of_a_model_or_of_a_run_is_found(tmp_path: Path, hub_requests: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match=f"no model in {tmp_path}"):
        resolve_model(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert resolve_model(str(tmp_path)) == str(tmp_path / "model")
    (tmp_path / "config.json").touch()
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    assert hub_requests == []


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "bert-base-uncased"])
def test_other_names_are_hub_ids(name: str, hub_requests: list[tuple[str, str]]) -> None:
    assert resolve_model(name) == name
    assert hub_requests == [(name, "model")]


@pytest.mark.parametrize("name", ["", "./missing", "/missing/model", "~/missing", "a/b/c", "../missing"])
def test_missing_folder_is_refused_without_a_request(
    name: str, hub_requests: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"no model in the folder '{name}'"):
        resolve_model(name)
    assert hub_requests == []


def test_cached_folder_is_used_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.data.hub.check_hub", lambda *_: False)
    monkeypatch.setattr(model_folder, "snapshot_download", lambda *args, **options: f"{args} {options}")
    assert resolve_model("owner/model", "v1") == "('owner/model',) {'revision': 'v1', 'local_files_only': True}"


def test_model_that_the_hub_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, kind: str) -> bool:
        raise InputError(f"{kind} {name} is not on the Hub")

    monkeypatch.setattr("sentiment.data.hub.check_hub", refuse)
    with pytest.raises(InputError, match="model no/such is not on the Hub"):
        resolve_model("no/such")


COMMIT = "0123456789" * 4


@pytest.fixture
def cached_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cached folder of `owner/model` at the commit of its branch `main`, without the Hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("sentiment.data.hub.check_hub", lambda *_: False)
    repository = tmp_path / "models--owner--model"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_commit_of_a_cached_model(revision: str | None, cached_model: Path) -> None:
    path = resolve_model("owner/model", revision)
    assert path == str(cached_model)
    assert get_model_revision(path, revision) == COMMIT


@pytest.mark.usefixtures("cached_model")
def test_revision_that_is_not_cached_is_refused_without_the_hub() -> None:
    with pytest.raises(InputError, match=r"^the Hub is out of reach, and v2 of owner/model is not in its cache$"):
        resolve_model("owner/model", "v2")


@pytest.mark.usefixtures("hub_requests")
def test_commit_of_a_revision_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {None: COMMIT, "v1": COMMIT[::-1]}

    def model_info(_: HfApi, name: str, *, revision: str | None) -> Any:
        assert name == "owner/model"
        return SimpleNamespace(sha=commits[revision])

    monkeypatch.setattr(HfApi, "model_info", model_info)
    for revision, commit in commits.items():
        assert get_model_revision(resolve_model("owner/model", revision), revision) == commit


def test_revision_that_the_hub_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("404 Client Error.\n\nRevision Not Found")

    monkeypatch.setattr(HfApi, "model_info", fail)
    with pytest.raises(InputError, match=r"^cannot find revision v9 of owner/model: 404 Client Error\.$"):
        get_model_revision("owner/model", "v9")


@pytest.mark.parametrize("model", ["minilm", "folder"])
def test_local_models_have_no_revision(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").touch()
    message = f"^--model_revision v1 is for models on the Hub: {model} is a local folder$"
    with pytest.raises(InputError, match=message):
        resolve_model(model, "v1")
    assert get_model_revision(str(tmp_path / "folder")) is None
