"""docs/formats.md: each cell of its tables is what reading such a file or folder gave.

After a change, write the document anew with `UPDATE_DOCS=1 python -m pytest tests/data/test_formats.py`.
"""

import csv
import gzip
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.cli import main
from sentiment.data.columns import ColumnOptions
from sentiment.data.files import read_files
from sentiment.data.labels import LabelOptions, parse_label_mapping
from sentiment.data.sources import load_reviews
from sentiment.exceptions import InputError

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
Records = Sequence[dict[str, Any]]
Writer = Callable[[Path, Records, str], None]


def write_delimited(delimiter: str) -> Writer:
    def write(path: Path, records: Records, encoding: str) -> None:
        with path.open("w", encoding=encoding, newline="") as stream:
            writer = csv.DictWriter(stream, list(records[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(records)

    return write


def write_array(path: Path, records: Records, encoding: str) -> None:
    path.write_text(json.dumps(records, ensure_ascii=False, indent=2), encoding=encoding)


def write_wrapped(path: Path, records: Records, encoding: str) -> None:
    path.write_text(json.dumps({"version": 1, "data": records}, ensure_ascii=False, indent=1), encoding=encoding)


def write_lines(path: Path, records: Records, encoding: str) -> None:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding=encoding)


def write_parquet(path: Path, records: Records, encoding: str) -> None:  # noqa: ARG001 - always UTF-8
    pq.write_table(pa.Table.from_pylist(list(records)), path)


def write_excel(path: Path, records: Records, encoding: str) -> None:  # noqa: ARG001 - always UTF-8
    pd.DataFrame.from_records(list(records)).to_excel(path, index=False)


def write_text(path: Path, records: Records, encoding: str) -> None:
    path.write_text("\n".join(record["text"] for record in records), encoding=encoding)


FORMATS: dict[str, tuple[str, Writer]] = {
    "CSV, commas": (".csv", write_delimited(",")),
    "CSV, semicolons": (".csv", write_delimited(";")),
    "CSV, tabs": (".csv", write_delimited("\t")),
    "CSV, pipes": (".csv", write_delimited("|")),
    "TSV (`.tsv`, `.tab`)": (".tab", write_delimited("\t")),
    "JSON, array": (".json", write_array),
    "JSON, object with an array": (".json", write_wrapped),
    "JSON lines (`.jsonl`, `.ndjson`)": (".jsonl", write_lines),
    "Parquet": (".parquet", write_parquet),
    "Excel (`.xlsx`)": (".xlsx", write_excel),
    "text (`.txt`)": (".txt", write_text),
}
WITHOUT_LABELS = {"text (`.txt`)"}
WITHOUT_NESTING = {name for name in FORMATS if name.startswith(("CSV", "TSV", "Excel", "text"))}
WITHOUT_ENCODING = {"Parquet", "Excel (`.xlsx`)"}
ROWS: Records = [{"text": "naïve, but “good”", "label": "1"}, {"text": 'a "bad" film', "label": "0"}]


def compress(path: Path, suffix: str) -> Path:
    packed = path.with_name(path.name + suffix)
    if suffix == ".gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    elif suffix == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(path, path.name)
    else:
        with pa.CompressedOutputStream(str(packed), "zstd") as stream:
            stream.write(path.read_bytes())
    return packed


def read(path: Path, **options: Any) -> list[tuple[str, int]]:
    (part,) = load_reviews(str(path), **options).values()
    return list(zip(part["text"], part["label"], strict=True))


def expect(name: str, records: Records) -> list[tuple[str, int]]:
    return [(row["text"], -1 if name in WITHOUT_LABELS or not row["label"] else int(row["label"])) for row in records]


def check_plain(name: str, path: Path, write: Writer, suffix: str = "") -> bool:
    write(path, ROWS, "utf-8")
    return read(compress(path, suffix) if suffix else path) == expect(name, ROWS)


def check_line_breaks(name: str, path: Path, write: Writer) -> bool | None:
    if name in WITHOUT_LABELS:
        return None
    rows = [{"text": "one\n\ntwo\tthree", "label": "1"}, *ROWS]
    write(path, rows, "utf-8")
    return read(path) == expect(name, rows)


def check_missing_labels(name: str, path: Path, write: Writer) -> bool | None:
    if name in WITHOUT_LABELS:
        return None
    rows = [*ROWS, {"text": "no label", "label": None}]
    write(path, rows, "utf-8")
    return read(path) == expect(name, rows)


def check_encoding(name: str, path: Path, write: Writer, written: str, **options: Any) -> bool | None:
    if name in WITHOUT_ENCODING:
        return None
    write(path, ROWS, written)
    return read(path, **options) == expect(name, ROWS)


def check_nested(name: str, path: Path, write: Writer) -> bool | None:
    if name in WITHOUT_NESTING:
        return None
    write(path, [{"review": {"text": row["text"], "stars": row["label"]}} for row in ROWS], "utf-8")
    columns = {"text_column_names": "review.text", "label_column_name": "review.stars"}
    return read(path, **columns) == expect(name, ROWS)


def check_joined_texts(name: str, path: Path, write: Writer) -> bool | None:
    if name in WITHOUT_LABELS:
        return None
    write(path, [{"title": "so", "text": row["text"], "label": row["label"]} for row in ROWS], "utf-8")
    found = read(path, text_column_names="title,text", text_column_delimiter=": ")
    return found == [(f"so: {text}", label) for text, label in expect(name, ROWS)]


def check_other_columns(name: str, path: Path, write: Writer) -> bool | None:
    """Whether `predict` keeps columns that it does not read."""
    if name in WITHOUT_LABELS:
        return None
    write(path, [{"id": f"n{place}"} | row for place, row in enumerate(ROWS)], "utf-8")
    rows = list(read_files([str(path)], [(0, 0)], ColumnOptions(with_labels=False, with_record=True)))
    return [row["record"]["id"] for row in rows] == ["n0", "n1"]


FEATURES: dict[str, Callable[[str, Path, Writer], bool | None]] = {
    "plain": check_plain,
    "`.gz`": lambda *where: check_plain(*where, ".gz"),
    "`.zip`": lambda *where: check_plain(*where, ".zip"),
    "`.zst`": lambda *where: check_plain(*where, ".zst"),
    "line breaks in texts": check_line_breaks,
    "missing labels": check_missing_labels,
    "UTF-8 with mark": lambda *where: check_encoding(*where, "utf-8-sig"),
    "UTF-16": lambda *where: check_encoding(*where, "utf-16"),
    "`--encoding cp1252`": lambda *where: check_encoding(*where, "cp1252", encoding="cp1252"),
    "nested fields": check_nested,
    "several text columns": check_joined_texts,
    "other columns kept by `predict`": check_other_columns,
}


def build_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def build_format_table(folder: Path) -> str:
    rows = []
    for number, (name, (suffix, write)) in enumerate(FORMATS.items()):
        cells = []
        for place, check in enumerate(FEATURES.values()):
            path = folder / f"{number}-{place}{suffix}"
            found = check(name, path, write)
            cells.append({True: "yes", False: "**no**", None: ""}[found])
        rows.append([name, *cells])
    return build_table(["format", *FEATURES], rows)


def write_rows(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f"{text},{place % 2}\n" for place, text in enumerate(texts)))


def build_named_files(folder: Path) -> None:
    for name in ("train.csv", "dev.csv", "test.csv"):
        write_rows(folder / name, "a", "b")


def build_parts(folder: Path) -> None:
    for name in ("train/part1.csv", "train/part2.csv", "test/rows.csv"):
        write_rows(folder / name, "a", "b")


def build_shards(folder: Path) -> None:
    for index in range(2):
        write_rows(folder / "data" / f"train-{index:05d}-of-00002-0123456789abcdef.csv", "a", "b")


def build_configured(folder: Path) -> None:
    write_rows(folder / "first" / "x.csv", "a", "b")
    write_rows(folder / "second" / "y.csv", "c", "d")
    files = "  - {split: train, path: first/*.csv}\n  - {split: test, path: second/*.csv}\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")


def build_class_folders(folder: Path) -> None:
    for name in ("train/pos/1.txt", "train/neg/2.txt", "train/unsup/3.txt", "test/pos/4.txt", "test/neg/5.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def build_saved(folder: Path) -> None:
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(folder)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "`train.csv`, `dev.csv`, `test.csv` (any format; also `training`, `valid`, `val`, `validation`, `testing`)": (
        build_named_files
    ),
    "`train/part1.csv`, `train/part2.csv`, `test/rows.csv`": build_parts,
    "`data/train-00000-of-00002-<hash>.csv`, ... (shards of the Hub)": build_shards,
    "a README with `configs` and `data_files`": build_configured,
    "`train/pos/1.txt`, `train/neg/2.txt`, `train/unsup/3.txt`, ... (one folder a class)": build_class_folders,
    "`save_to_disk` of `datasets`": build_saved,
}


def build_layout_table(folder: Path) -> str:
    rows = []
    for number, (name, build) in enumerate(LAYOUTS.items()):
        build(folder / str(number))
        splits = load_reviews(str(folder / str(number)))
        rows.append([name, ", ".join(f"{split} {len(part)}" for split, part in splits.items())])
    return build_table(["folder", "splits and rows"], rows)


# Values of a label column, --label_mapping, --unlabelled_value.
LABELS: list[tuple[list[str], str | None, str | None]] = [
    (["0", "1"], None, None),
    (["neg", "POS"], None, None),
    (["True", "false"], None, None),
    (["1.0", "0.0", ""], None, None),
    (["1", "2", "10"], None, None),
    (["good", "Good", "fair"], None, None),
    (["1", "2", "3", "4", "5"], "1=negative,2=negative,3=null,4=positive,5=positive", None),
    (["-1", "1"], None, None),
    (["-1", "1"], "-1=negative,1=positive", None),
    (["-1", "0", "1"], None, "-1"),
]


def build_label_table(folder: Path) -> str:
    rows = []
    for number, (values, mapping, unlabelled) in enumerate(LABELS):
        path = folder / f"{number}.csv"
        path.write_text("text,label\n" + "".join(f"film {place},{value}\n" for place, value in enumerate(values)))
        given = (
            f"`--label_mapping {mapping}`" if mapping else f"`--unlabelled_value {unlabelled}`" if unlabelled else ""
        )
        try:
            part = load_reviews(str(path), labels=LabelOptions(parse_label_mapping(mapping), unlabelled))["train"]
            names = part.features["label"].names
            meant = {-1: "unlabelled", -2: "left out"}
            found = ", ".join(meant.get(label) or f"`{names[label]}`" for label in part["label"][:])
        except InputError as error:
            found = f"refused: {str(error).replace(str(path), 'reviews.csv')}"
        rows.append([", ".join(f"`{value}`" if value else "(empty)" for value in values), given, found])
    return build_table(["label values", "option", "classes"], rows)


REFUSED: dict[str, bytes] = {
    "a quote that is not closed": b'text,label\n"good,1\nbad,0\n',
    "a row with more fields than the header": b"text,label\ngood, but long,1\n",
    "bytes of another encoding": "text,label\nnaïve,1\n".encode("cp1252"),
    "a rating that nobody reads": b"text,stars\ngood,5\n",
    "no text column": b"comment,label\ngood,1\n",
    "no row": b"text,label\n",
}


def build_refusal_table(folder: Path) -> str:
    rows = []
    for number, (name, content) in enumerate(REFUSED.items()):
        path = folder / f"{number}.csv"
        path.write_bytes(content)
        with pytest.raises(InputError) as refusal:
            load_reviews(str(path))
        rows.append([name, str(refusal.value).replace(str(path), "reviews.csv").replace("|", "\\|")])
    return build_table(["file", "error"], rows)


def build_document(folder: Path) -> str:
    for name in ("formats", "layouts", "labels", "refused"):
        (folder / name).mkdir()
    return f"""# What can be read

Every command reads the same files. The content of a file tells its format, and its suffix only where the content leaves
it open. The tables are written by `tests/data/test_formats.py`, which reads a file or folder for each cell.

## Files

{build_format_table(folder / "formats")}

Delimiters are found from the header; a first line `sep=;` of Excel is followed. Cells are quoted as in RFC 4180; one
like `"Great" film` stays as it is, or is refused where it could be read in two ways. Excel
needs `pip install 'adapt-or-finetune[excel]'`; formulas must have been computed.

## Folders

{build_layout_table(folder / "layouts")}

## Labels

{build_label_table(folder / "labels")}

A `ClassLabel` of `datasets` counts by the names of its classes.

## Errors

Exit code 2, and one line:

{build_refusal_table(folder / "refused")}
"""


def test_the_document_is_what_reading_gives(tmp_path: Path) -> None:
    document = build_document(tmp_path)
    assert "**no**" not in document
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(document, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == document


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in WITHOUT_LABELS])
def test_every_command_reads_the_same_rows(
    name: str, tiny_classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, write = FORMATS[name]
    path = tmp_path / f"rows{suffix}"
    rows = [{"text": f"good film {place}", "label": str(place % 2)} for place in range(40)]
    write(path, rows, "utf-8")
    main(["audit", "--dataset", str(path), "--model", str(tiny_classifier), "--output", str(tmp_path / "audit.json")])
    audit = json.loads((tmp_path / "audit.json").read_text())["published"]["splits"]["train"]
    assert audit["labels"] == {"negative": 20, "positive": 20, "unlabelled": 0}
    main(["evaluate", str(tiny_classifier), "--dataset", str(path), "--output", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [scores["support"] for scores in found["per_class"].values()] == [20, 20]
    capsys.readouterr()
    main(["predict", str(tiny_classifier), "--file", str(path), "--output", str(tmp_path / "out.csv")])
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        predicted = list(csv.DictReader(stream))
    assert [row["text"] for row in predicted] == [row["text"] for row in rows]
