"""docs/formats.md: a table of formats and features, each cell of which is a file or folder that is written and read.

The document is compared with what reading gives. After a change, write it again:

    SENTIMENT_WRITE_DOCS=1 python -m pytest tests/data/test_formats.py
"""

import csv
import gzip
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from sentiment.data.sources import load_reviews
from sentiment.exceptions import InputError

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
FORMATS = {
    "CSV": ".csv",
    "TSV": ".tsv",
    "JSON lines": ".jsonl",
    "JSON": ".json",
    "Parquet": ".parquet",
    "Excel": ".xlsx",
    "text": ".txt",
}
DELIMITED, TYPED, ENCODED = (".csv", ".tsv"), (".jsonl", ".json", ".parquet", ".xlsx"), (".csv", ".tsv", ".jsonl")
Pairs = Sequence[tuple[str, Any]]
PAIRS: Pairs = [("a good film", "good"), ("bad, and long", "bad"), ("naïve 电影 مرحبا 😀", "good")]
LATIN: Pairs = [("a naïve café", "good"), ("déjà vu", "bad")]


@dataclass
class Case:
    """What reading a source must give if it is not refused, and the options that it is read with."""

    rows: Pairs
    options: dict[str, Any] = field(default_factory=dict)


def write(path: Path, pairs: Pairs, encoding: str = "utf-8", end: str = "\n", **dialect: Any) -> Path:
    """The file, with texts and labels in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_records(path, [{"text": text, "label": label} for text, label in pairs], encoding, end, **dialect)


def write_records(
    path: Path, records: Sequence[dict[str, Any]], encoding: str = "utf-8", end: str = "\n", **dialect: Any
) -> Path:
    names = [*records[0]]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([*records]), path)
    elif path.suffix == ".xlsx":
        workbook = openpyxl.Workbook()
        for cells in (names, *([record[name] for name in names] for record in records)):
            workbook.active.append(cells)
        workbook.save(path)
    elif path.suffix == ".txt":
        write_text(path, [str(record["text"]) for record in records], encoding, end)
    elif path.suffix == ".jsonl":
        write_text(path, [json.dumps(record, ensure_ascii=False) for record in records], encoding, end)
    elif path.suffix == ".json":
        write_text(path, json.dumps(records, ensure_ascii=False, indent=1).split("\n"), encoding, end)
    else:
        with path.open("w", encoding=encoding, newline="") as stream:
            options = {"delimiter": "\t" if path.suffix == ".tsv" else ","} | dialect
            writer = csv.writer(stream, lineterminator=end, **options)
            writer.writerows([names, *([record[name] for name in names] for record in records)])
    return path


def write_text(path: Path, lines: Iterable[str], encoding: str = "utf-8", end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def write_damaged(path: Path) -> Case:
    content = write(path, [*PAIRS] * 50).read_bytes()
    path.write_bytes(content[: len(content) // 2 + 3])
    return Case([])


# --- features of a file: what is written, or None for a format that has no such thing ---


def write_delimiter(path: Path, delimiter: str) -> Case | None:
    return write_if(path, DELIMITED, PAIRS, delimiter=delimiter)


def write_if(path: Path, suffixes: Sequence[str], pairs: Pairs = PAIRS, **options: Any) -> Case | None:
    if path.suffix not in suffixes:
        return None
    write(path, pairs, **options)
    return Case(pairs)


def write_separator_line(path: Path) -> Case | None:
    if path.suffix not in DELIMITED:
        return None
    write_text(path, ["sep=;", "text;label", "good, fine;good", "bad;bad"])
    return Case([("good, fine", "good"), ("bad", "bad")])


def write_lone_quotes(path: Path) -> Case | None:
    if path.suffix not in DELIMITED:
        return None
    delimiter = "\t" if path.suffix == ".tsv" else ","
    write_text(path, [f"text{delimiter}label", f'"Great" film{delimiter}good', f"bad{delimiter}bad"])
    return Case([('"Great" film', "good"), ("bad", "bad")])


def write_escaped_quotes(path: Path) -> Case | None:
    pairs = [('a "great" film', "good"), ("bad", "bad")]
    dialect = {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}
    return write_if(path, DELIMITED, pairs, **dialect)


def write_breaks(path: Path) -> Case | None:
    if path.suffix == ".txt":
        return None
    pairs = [('two\nlines, "quoted"', "good"), ("one\ttab", "bad")]
    write(path, pairs)
    return Case(pairs)


def write_utf16(path: Path, encoding: str) -> Case | None:
    return write_if(path, (*ENCODED, ".json", ".txt"), LATIN, encoding=encoding)


def write_latin(path: Path, named: bool) -> Case | None:
    case = write_if(path, (*ENCODED, ".json", ".txt"), LATIN, encoding="cp1252")
    return case and Case(case.rows, {"encoding": "cp1252"} if named else {})


def write_nested(path: Path) -> Case | None:
    if path.suffix not in (".jsonl", ".json", ".parquet"):
        return None
    write_records(path, [{"id": 1, "review": {"text": text, "kind": label}} for text, label in PAIRS])
    return Case(PAIRS, {"text_column_names": "review.text", "label_column_name": "review.kind"})


def write_columns(path: Path) -> Case | None:
    if path.suffix == ".txt":
        return None
    write_records(path, [{"title": "So", "body": text, "kind": label} for text, label in PAIRS])
    pairs = [(f"So: {text}", label) for text, label in PAIRS]
    options = {"text_column_names": "title,body", "label_column_name": "kind", "text_column_delimiter": ": "}
    return Case(pairs, options)


def write_compressed(path: Path, suffix: str) -> Case:
    write(path, PAIRS)
    packed = path.with_name(path.name + suffix)
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(path, path.name)
    elif suffix == ".gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    else:
        with pa.CompressedOutputStream(str(packed), "zstd") as stream:
            stream.write(path.read_bytes())
    path.unlink()
    return Case(PAIRS)


def write_misnamed(path: Path) -> Case | None:
    if path.suffix == ".txt":
        return None
    write(path, PAIRS).rename(path.with_suffix(".dat"))
    return Case(PAIRS)


def write_labels(path: Path, labels: Sequence[Any], names: Sequence[str | None]) -> Case | None:
    if path.suffix == ".txt":
        return None
    texts = [f"film {row}" for row in range(len(labels))]
    write(path, list(zip(texts, labels, strict=True)))
    return Case(list(zip(texts, names, strict=True)))


def write_class_label(path: Path) -> Case | None:
    if path.suffix != ".parquet":
        return None
    features = Features({"text": Value("string"), "label": ClassLabel(names=["meh", "wow"])})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(path)
    return Case([("a", "wow"), ("b", "meh")])


def write_blank_rows(path: Path) -> Case | None:
    if path.suffix == ".xlsx":
        workbook = openpyxl.Workbook()
        for cells in (["text", "label"], ["a", "good"], [None, None], ["b", "bad"]):
            workbook.active.append(cells)
        workbook.save(path)
    elif path.suffix in (*ENCODED, ".txt"):
        lines = write(path, [("a", "good"), ("b", "bad")]).read_text().splitlines()
        write_text(path, [*lines[:-1], "", lines[-1], ""])
    else:
        return None
    return Case([("a", "good"), ("b", "bad")])


def write_unnamed(path: Path) -> Case | None:
    if path.suffix not in (*DELIMITED, ".xlsx"):
        return None
    names = ["first", "text", "last", "label"]
    write_records(path, [dict(zip(names, ["1", "a", "x", "good"], strict=True))])
    if path.suffix == ".xlsx":
        workbook = openpyxl.load_workbook(path)
        workbook.active["A1"] = workbook.active["C1"] = None
        workbook.save(path)
    else:
        path.write_text(path.read_text().replace("first", "").replace("last", ""))
    return Case([("a", "good")])


def write_repeated(path: Path) -> Case | None:
    records = [{"text": "a", "label": "good", "note": "x", "nota": "y"}]
    if path.suffix == ".txt":
        return None
    if path.suffix == ".parquet":
        names = [name.replace("nota", "note") for name in records[0]]
        pq.write_table(pa.Table.from_arrays([pa.array([cell]) for cell in records[0].values()], names=names), path)
    elif path.suffix == ".xlsx":
        workbook = openpyxl.load_workbook(write_records(path, records))
        workbook.active["D1"] = "note"
        workbook.save(path)
    else:
        path.write_text(write_records(path, records).read_text().replace("nota", "note"))
    return Case([])


def write_numbers(path: Path) -> Case | None:
    if path.suffix == ".txt":
        return None
    write(path, [(5, "good")])
    return Case([("5", "good")])


def write_formula(path: Path) -> Case | None:
    return write_if(path, (".xlsx",), [('="a"', "good")])


def write_long_row(path: Path) -> Case | None:
    if path.suffix not in (*DELIMITED, ".xlsx"):
        return None
    write(path, PAIRS)
    if path.suffix == ".xlsx":
        workbook = openpyxl.load_workbook(path)
        workbook.active["C3"] = "stray"
        workbook.save(path)
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        with path.open("a") as stream:
            stream.write(delimiter.join(["one", "two", "three"]) + "\n")
    return Case([])


def write_empty(path: Path) -> Case:
    path.write_bytes(b"")
    return Case([])


FILE_FEATURES: dict[str, dict[str, Callable[[Path], Case | None]]] = {
    "Tables": {
        "comma, found by itself": lambda path: write_delimiter(path, ","),
        "semicolon": lambda path: write_delimiter(path, ";"),
        "tab": lambda path: write_delimiter(path, "\t"),
        "vertical bar": lambda path: write_delimiter(path, "|"),
        "first line `sep=;`": write_separator_line,
        "all cells quoted": lambda path: write_if(path, DELIMITED, quoting=csv.QUOTE_ALL),
        "quotes, tabs and line breaks in texts": write_breaks,
        "unescaped quotes at the start of a text": write_lone_quotes,
        "blank rows, which are no rows": write_blank_rows,
        "nested fields, by their path": write_nested,
        "several text columns": write_columns,
        "several columns without a name": write_unnamed,
    },
    "Encodings": {
        "UTF-8": lambda path: write_if(path, [*FORMATS.values()]),
        "UTF-8 with a mark (BOM)": lambda path: write_if(path, (*ENCODED, ".json", ".txt"), encoding="utf-8-sig"),
        "line ends of Windows (CRLF)": lambda path: write_if(path, (*ENCODED, ".json", ".txt"), end="\r\n"),
        "UTF-16 with a mark": lambda path: write_utf16(path, "utf-16"),
        "UTF-16 without a mark": lambda path: write_utf16(path, "utf-16-le"),
        "cp1252, with `--encoding cp1252`": lambda path: write_latin(path, named=True),
        "cp1252, without": lambda path: write_latin(path, named=False),
    },
    "Compression and names": {
        "`.gz`": lambda path: write_compressed(path, ".gz"),
        "`.zip` with one file": lambda path: write_compressed(path, ".zip"),
        "`.zst`": lambda path: write_compressed(path, ".zst"),
        "another suffix (`.dat`)": write_misnamed,
    },
    "Labels": {
        "words": lambda path: write_labels(path, ["Meh", "good", "good"], ["Meh", "good", "good"]),
        "whole numbers": lambda path: write_labels(path, [3, 1, 2], ["3", "1", "2"]),
        "0 and 1": lambda path: write_labels(path, [0, 1], ["negative", "positive"]),
        "true and false": lambda path: write_labels(path, [False, True], ["negative", "positive"]),
        "missing, which are unlabelled": lambda path: write_labels(path, ["good", None, "bad"], ["good", None, "bad"]),
        "-1 beside others, unexplained": lambda path: write_labels(path, [-1, 1], [None, None]),
        "names of a `ClassLabel`": write_class_label,
    },
    "Faults": {
        "two columns with the same name": write_repeated,
        "quotes escaped by backslashes": write_escaped_quotes,
        "a number in place of a text": write_numbers,
        "a row with more cells than the header": write_long_row,
        "a formula that was never computed": write_formula,
        "a file that is cut off": lambda path: None if path.suffix in (*DELIMITED, ".txt") else write_damaged(path),
        "an empty file": write_empty,
    },
}

# --- layouts of a folder ---


def write_split_files(folder: Path, suffix: str) -> None:
    for split in ("train", "test"):
        write(folder / f"{split}{suffix}", PAIRS)


def write_split_folders(folder: Path, suffix: str) -> None:
    for name in ("train/part1", "train/part2", "test/any"):
        write(folder / f"{name}{suffix}", PAIRS)


def write_shards(folder: Path, suffix: str) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write(folder / "data" / f"{name}{suffix}", PAIRS)


def write_missing_shard(folder: Path, suffix: str) -> None:
    write(folder / f"train-00001-of-00002{suffix}", PAIRS)


def write_readme(folder: Path, suffix: str) -> None:
    for name in ("one", "two"):
        write(folder / f"{name}{suffix}", PAIRS)
    entries = "".join(f"  - split: {s}\n    path: {n}{suffix}\n" for s, n in (("train", "one"), ("test", "two")))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{entries}---\n")


def write_class_folders(folder: Path, suffix: str) -> None:
    for split in ("train", "test") if suffix == ".txt" else ():
        for place, (text, label) in enumerate(PAIRS):
            write_text(folder / make(folder / split / label) / f"{place}.txt", [text])


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_saved(folder: Path, suffix: str) -> None:
    if suffix == ".arrow":
        part = Dataset.from_dict(dict(zip(("text", "label"), map(list, zip(*PAIRS, strict=True)), strict=True)))
        DatasetDict({"train": part, "test": part}).save_to_disk(folder)


FOLDER_FORMATS = FORMATS | {"Arrow": ".arrow"}
FOLDERS: dict[str, Callable[[Path, str], None]] = {
    "files named after splits: `train.csv`, `test.csv`": write_split_files,
    "folders named after splits: `train/part1.csv`": write_split_folders,
    "shards: `data/train-00000-of-00002.csv`": write_shards,
    "a shard that is missing": write_missing_shard,
    "`data_files` in the header of its `README.md`": write_readme,
    "one folder a class: `train/pos/1.txt`": write_class_folders,
    "written by `save_to_disk` of `datasets`": write_saved,
}

# --- the document ---

HEAD = """# Formats

What `--dataset` and `sentiment predict --file` read. Each cell is a file or folder that a test writes and reads
(`tests/data/test_formats.py`): *yes* means row for row as written; *refused*, an error of one line that names the file
and what to do; a dash, that the format has no such thing. A `.txt` file has one review a line, and no labels.
"""


def read_pairs(source: Path, options: dict[str, Any]) -> dict[str, list[tuple[str, str | None]]]:
    """Text and class name of each row, by split."""
    return {
        split: [
            (text, part.features["label"].names[label] if label >= 0 else None)
            for text, label in zip(part["text"], part["label"], strict=True)
        ]
        for split, part in load_reviews(str(source), **options).items()
    }


def find_cell(source: Path, expected: dict[str, list[tuple[str, Any]]], options: dict[str, Any]) -> str:
    """`yes` or `refused`; fails where other rows are read, or a refusal is not one line that names the file."""
    try:
        found: Any = read_pairs(source, options)
    except InputError as error:
        found = str(error)
    if isinstance(found, str):
        assert source.name in found
        assert "\n" not in found
        return "refused"
    assert found == expected
    return "yes"


def read_file_cell(feature: Callable[[Path], Case | None], suffix: str, folder: Path) -> str:
    """The cell of a feature of a file."""
    case = feature(folder / f"reviews{suffix}")
    if case is None:
        return "-"
    (source,) = folder.iterdir()
    is_text = suffix == ".txt"
    return find_cell(source, {"train": [(text, None if is_text else label) for text, label in case.rows]}, case.options)


def read_folder_cell(layout: Callable[[Path, str], None], suffix: str, folder: Path) -> str:
    """The cell of a layout of a folder."""
    if suffix == ".arrow" and layout is not write_saved:
        return "-"
    layout(folder, suffix)
    if not [*folder.iterdir()]:
        return "-"
    has_labels = suffix != ".txt" or layout is write_class_folders
    pairs = [(text, label if has_labels else None) for text, label in PAIRS]
    if layout is write_class_folders:
        pairs = sorted([(f"{text}\n", label) for text, label in pairs], key=lambda pair: str(pair[1]))
    train = pairs * 2 if layout in (write_split_folders, write_shards) else pairs
    return find_cell(folder, {"train": train, "test": pairs}, {})


def build_table(title: str, formats: Iterable[str], rows: dict[str, list[str]]) -> str:
    """A table in Markdown under its title."""
    lines = [["", *formats], ["---", *([":-:"] * len([*formats]))], *([name, *cells] for name, cells in rows.items())]
    return f"\n## {title}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def build_document(folder: Path) -> str:
    """The document, from what is read in new folders."""
    tables = []
    for title, features in FILE_FEATURES.items():
        rows = {
            name: [
                read_file_cell(feature, suffix, make(folder / f"{title}-{place}{suffix}"))
                for suffix in FORMATS.values()
            ]
            for place, (name, feature) in enumerate(features.items())
        }
        tables.append(build_table(title, FORMATS, rows))
    rows = {
        name: [
            read_folder_cell(layout, suffix, make(folder / f"folder-{place}{suffix}"))
            for suffix in FOLDER_FORMATS.values()
        ]
        for place, (name, layout) in enumerate(FOLDERS.items())
    }
    return HEAD + "".join(tables) + build_table("Folders", FOLDER_FORMATS, rows)


def test_the_document_says_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENTIMENT_DATA_DIR", raising=False)
    document = build_document(tmp_path)
    if os.environ.get("SENTIMENT_WRITE_DOCS"):
        DOCUMENT.write_text(document, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == document
