"""The splits of a folder: its README, names of files and folders, shards, and one folder a class."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sentiment.data.files import is_data_file
from sentiment.data.labels import shorten
from sentiment.data.streams import COMPRESSED_SUFFIXES
from sentiment.exceptions import InputError, require
from sentiment.storage import parse_yaml

SPLIT_ORDER = ("train", "validation", "test", "unsupervised")
SPLIT_NAMES = {name: name for name in SPLIT_ORDER} | dict.fromkeys(("valid", "val", "dev"), "validation")
SPLIT_NAMES |= {"training": "train", "testing": "test"}
# With or without a hash of the content, as the Hub's own exports have it.
SHARD = re.compile(r"(?P<split>\w+)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<hash>-[0-9a-f]+)?")
UNLABELLED_FOLDERS = ("unsup", "unsupervised", "unlabelled", "unlabeled")


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split: tables, or with `labels`, the class of each, texts of one review each."""

    paths: list[Path]
    labels: list[str | None] | None = None


def find_splits(folder: Path) -> dict[str, SplitFiles]:
    """The files of each split in a folder.

    The first of these that applies: the `data_files` of its README, as on the Hub; tables named after splits, whole or
    in shards, or in folders named after splits; folders of classes, as of the original IMDB archive; texts named so.

    Raises:
        InputError: none applies, a split occurs twice, or a shard is missing.
    """
    if configured := find_configured_files(folder):
        return sort_splits(configured)
    visible = (path for path in sorted(folder.rglob("*")) if "/." not in f"/{path.relative_to(folder).as_posix()}")
    files = [path for path in visible if path.is_file() and is_data_file(path)]
    has_tables = any(find_split_name(path, folder) and path.suffix.lower() != ".txt" for path in files)
    if not has_tables and (classes := find_class_folders(folder)):
        return sort_splits(classes)
    splits: dict[str, list[Path]] = {}
    for path in files:
        if split := find_split_name(path, folder):
            splits.setdefault(split, []).append(path)
    if not splits:
        raise InputError(
            f"folder {folder} has no splits: name its files train.csv, validation.csv, test.csv (or another format), "
            "or train-00000-of-00001.parquet as on the Hub, or put them into folders train, validation, test; found "
            f"data files: {shorten(', '.join(path.name for path in files), 200) or 'none'}"
        )
    for split, paths in splits.items():
        check_files(folder, split, paths)
    return sort_splits({split: SplitFiles(paths) for split, paths in splits.items()})


def sort_splits(splits: dict[str, SplitFiles]) -> dict[str, SplitFiles]:
    """The splits in their usual order."""
    order = [*SPLIT_ORDER, *sorted(splits)]
    return dict(sorted(splits.items(), key=lambda item: order.index(item[0])))


def get_stem(path: Path) -> str:
    """The name of a file without its suffixes."""
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED_SUFFIXES else path.stem


def find_split_name(path: Path, folder: Path) -> str | None:
    """The split that the name of a file, or of the folder in `folder` that it is in, stands for."""
    stem = get_stem(path)
    if shard := SHARD.fullmatch(stem):
        return SPLIT_NAMES.get(shard["split"].lower(), shard["split"])
    parents = [parent.lower() for parent in path.relative_to(folder).parts[:-1]]
    return SPLIT_NAMES.get(stem.lower()) or next((SPLIT_NAMES[name] for name in parents if name in SPLIT_NAMES), None)


def check_files(folder: Path, split: str, paths: list[Path]) -> None:
    """Raises InputError where files of a split are another version of it, or a shard is missing."""
    found = shorten(", ".join(str(path.relative_to(folder)) for path in paths), 200)
    twice = f"folder {folder} has split {split} more than once: {found}; keep one, or pass its folder"
    shards = {path: SHARD.fullmatch(get_stem(path)) for path in paths}
    named = [path for path in paths if shards[path] or SPLIT_NAMES.get(get_stem(path).lower())]
    if not named:  # parts in a folder of the split, of any names
        suffixes = {path.suffix.lower() for path in paths}
        require(len({path.parent for path in paths}) == 1 and len(suffixes) == 1, twice)
        return
    first = shards[named[0]]
    if not first:
        require(len(paths) == 1, twice)
        return
    count = int(first["count"])
    indices = [shard and (int(shard["index"]), int(shard["count"])) for shard in shards.values()]
    is_one_set = len({path.parent for path in paths}) == len({path.suffix for path in paths}) == 1
    require(is_one_set and None not in indices and len(set(indices)) == len(indices), twice)
    require(all(index and index[1] == count for index in indices), twice)
    for number in range(count):
        name = f"{first['split']}-{number:05d}-of-{first['count']}"
        shard = name + named[0].suffix
        require((number, count) in indices, f"folder {folder}: shard {shard} of split {split} is missing")


def find_class_folders(folder: Path) -> dict[str, SplitFiles]:
    """The text files of folders named after classes, in folders of splits or in one that is the split `train`."""
    splits: dict[str, SplitFiles] = {}
    roots: dict[str, Path] = {}
    for path in list_folders(folder):
        if split_name := SPLIT_NAMES.get(path.name.lower()):
            both = f"{roots.get(split_name, path).name} and {path.name}"
            require(split_name not in roots, f"folder {folder} has split {split_name} twice: {both}; keep one")
            roots[split_name] = path
    for split, root in (roots or {"train": folder}).items():
        files = {path.name: list_texts(path) for path in list_folders(root)}
        files = {name: paths for name, paths in files.items() if paths}
        unlabelled = [path for name, paths in files.items() if name.lower() in UNLABELLED_FOLDERS for path in paths]
        labelled = {name: paths for name, paths in files.items() if name.lower() not in UNLABELLED_FOLDERS}
        if len(labelled) > 1:
            labels: list[str | None] = [name for name, paths in labelled.items() for _ in paths]
            splits[split] = SplitFiles([path for paths in labelled.values() for path in paths], labels)
            if unlabelled:
                found = [*splits.get("unsupervised", SplitFiles([])).paths, *unlabelled]
                splits["unsupervised"] = SplitFiles(found, [None] * len(found))
    return splits


def list_texts(folder: Path) -> list[Path]:
    """The text files of a class, in folders of its folder too."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".txt" and path.is_file()]


def list_folders(folder: Path) -> list[Path]:
    """The visible folders in a folder."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def find_configured_files(folder: Path) -> dict[str, SplitFiles]:
    """The files of the default configuration in a dataset's README, if it has `configs` with `data_files`.

    Raises:
        InputError: several configurations and no default, or a pattern that no file matches.
    """
    readme = folder / "README.md"
    found = read_readme(folder).get("configs")
    configs: list[dict[str, Any]] = [one for one in found or [] if isinstance(one, dict) and one.get("data_files")]
    if not configs:
        return {}
    chosen = [one for one in configs if one.get("default") or one.get("config_name") == "default"] or configs
    names = ", ".join(str(one.get("config_name")) for one in configs)
    require(len(chosen) == 1, f"{readme} has several configurations and no default ({names}): pass a folder or file")
    data_files = chosen[0]["data_files"]
    entries = data_files if isinstance(data_files, list) else [data_files]
    splits: dict[str, list[Path]] = {}
    for entry in entries:
        split, patterns = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            base = folder / str(chosen[0].get("data_dir") or "")
            paths = [path for path in sorted(base.glob(str(pattern))) if path.is_file()]
            require(bool(paths), f"{readme} names files {pattern} for split {split}, and there are none in {base}")
            splits.setdefault(SPLIT_NAMES.get(str(split), str(split)), []).extend(paths)
    return {split: SplitFiles(paths) for split, paths in splits.items()}


def read_readme(folder: Path) -> dict[str, Any]:
    """The YAML header of a folder's README, empty without one; raises InputError if it is malformed."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8-sig") if readme.is_file() else ""
    match = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    try:
        header = parse_yaml(match[1]) if match else {}
    except yaml.YAMLError as error:
        raise InputError(f"{readme} does not begin with valid YAML: {' '.join(str(error).split())}") from error
    return header if isinstance(header, dict) else {}


def find_declared_classes(folder: Path) -> dict[str, str]:
    """The names of the classes by their ids that a dataset's README declares (`dataset_info`); empty without any.

    Raises:
        InputError: it declares several, of other configurations or columns.
    """
    info = read_readme(folder).get("dataset_info")
    infos = info if isinstance(info, list) else [info]
    features = [feature for one in infos if isinstance(one, dict) for feature in one.get("features") or []]
    kinds = [feature.get("dtype") for feature in features if isinstance(feature, dict)]
    labels = [kind["class_label"].get("names") for kind in kinds if isinstance(kind, dict) and "class_label" in kind]
    named = [dict(enumerate(names)) if isinstance(names, list) else names for names in labels]
    declared = [{str(key): str(name) for key, name in names.items()} for names in named if isinstance(names, dict)]
    different = [one for place, one in enumerate(declared) if one not in declared[:place]]
    problem = f"{folder / 'README.md'} declares several sets of classes: pass --label_mapping"
    require(len(different) < 2, problem)
    return different[0] if different else {}


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of `datasets`."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / name).is_file() for name in ("dataset_info.json", "state.json")
    )


def suggest_file(path: Path) -> str:
    """`, did you mean X?` for a file that does not exist, if its folder has one of a similar name."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    found = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean '{path.with_name(found[0])}'?)" if found else ""
