"""Files that appear whole: written aside and renamed, and read with errors of one line."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from sentiment.exceptions import InputError


def write_text(path: Path, text: str) -> None:
    """Write the text without runs of blank lines, at once: a reader sees the old file or the new one, whole."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", encoding="utf-8")
    unfinished.replace(path)


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def flush_to_disk(path: Path) -> None:
    """Returns when the file or folder is on the disk; does nothing for a folder where the system cannot open one."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_folder(folder: Path) -> list[Path]:
    """What lies in the folder; nothing where there is none."""
    return sorted(folder.iterdir()) if folder.exists() else []


def write_json(path: Path, value: Any) -> None:
    """Writes the value as JSON, at once: a reader sees the old file or the new one, whole.

    Raises:
        InputError: something else stands at this path or on the way to it.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
