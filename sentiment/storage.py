"""Files and folders that appear whole: written beside their place and renamed. JSON and YAML, read with errors."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sentiment.exceptions import InputError, require

BOOLEAN = "tag:yaml.org,2002:bool"


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it replaces `path` when the block ends, and is removed if the block fails.

    Raises:
        InputError: something else stands at this path or on the way to it.
    """
    staged = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        staged.replace(path)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)


def replace_folder(staged: Path, final: Path) -> None:
    """Renames a finished folder to its place; one that is there already is removed only after that."""
    previous = final.with_name(final.name + ".previous")
    if final.exists():
        shutil.rmtree(previous, ignore_errors=True)
        final.rename(previous)
    staged.rename(final)
    shutil.rmtree(previous, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes the value as JSON; raises InputError as `write_atomically` does."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with write_atomically(path) as staged:
        staged.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: the file is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def check_is_not_input(output: Path, source: str | int) -> None:
    """Raise InputError if a file to be written is the input (a path or file descriptor), or in the input's folder."""
    with contextlib.suppress(OSError):  # reported when the input is read
        read = [os.fstat(source)] if isinstance(source, int) else [path.stat() for path in list_files(Path(source))]
        written = [path.stat() for path in (output, output.with_name(output.name + ".part")) if path.exists()]
        is_input = any(os.path.samestat(one, other) for one in written for other in read)
        require(not is_input, f"--output {output} is the file that is read, which would be lost: name another")


def list_files(path: Path) -> list[Path]:
    """The files of a folder and its subfolders, or the path itself."""
    return [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses mappings with a key twice, of which PyYAML keeps the last; `yes` and `no` are texts, as in YAML 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != BOOLEAN]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The node of a mapping; raises a YAMLError where it repeats a key."""
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key_node, _ in node.value:
            # Merge keys (`<<`) have no value, and may be repeated by what they merge.
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                key = self.construct_object(key_node)
                if key in keys:
                    problem = f"the key {key_node.value!r} occurs twice: keep one of them"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                keys.add(key)
        return node


UniqueKeyLoader.add_implicit_resolver(BOOLEAN, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises a YAMLError if it is malformed, or has a key twice."""
    return yaml.load(text, Loader=UniqueKeyLoader)


def list_folder(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; none where it does not exist."""
    return sorted(folder.iterdir()) if folder.exists() else []


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Returns when the file or folder is on the disk (fsync); does nothing for a folder on Windows."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
