"""Formats, compressions, delimiters, quotes, encodings and folders: the same rows, or a refusal in one line."""

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.config.arguments import DataArguments
from sentiment.data.columns import ColumnOptions
from sentiment.data.files import read_rows
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.sources import load_reviews
from sentiment.exceptions import InputError

ROWS = [('good, "fine" film', "1"), ("bad\nsecond line", "0"), ("naïve 😀 电影 مرحبا", "1"), ("NA", "0")]
NAMES = ("text", "label")


def write_csv(path: Path, encoding: str = "utf-8", end: str = "\n", **options: Any) -> None:
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, lineterminator=end, **options).writerows([NAMES, *ROWS])


def write_json(path: Path) -> None:
    records = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
    path.write_text(json.dumps(records, indent=1 if path.stem == "indented" else None))


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(dict(zip(NAMES, row, strict=True))) for row in ROWS))


def write_wrapped(path: Path) -> None:
    records = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
    path.write_text(json.dumps({"version": 1, "data": records}, indent=2))


def write_parquet(path: Path) -> None:
    columns = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
    pq.write_table(pa.table(columns), path)


def write_xlsx(path: Path) -> None:
    workbook = openpyxl.Workbook()
    for row in (NAMES, *((text, int(label)) for text, label in ROWS)):
        workbook.active.append(row)
    workbook.create_sheet("empty")
    workbook.save(path)


FILES: dict[str, Callable[[Path], None]] = {
    "comma.csv": write_csv,
    "semicolon.csv": lambda path: write_csv(path, delimiter=";"),
    "pipe.csv": lambda path: write_csv(path, delimiter="|"),
    "tab.csv": lambda path: write_csv(path, delimiter="\t"),
    "comma.tsv": write_csv,
    "tab.tsv": lambda path: write_csv(path, delimiter="\t"),
    "tab.tab": lambda path: write_csv(path, delimiter="\t"),
    "quoted.csv": lambda path: write_csv(path, quoting=csv.QUOTE_ALL),
    "crlf.csv": lambda path: write_csv(path, end="\r\n"),
    "mark.csv": lambda path: write_csv(path, encoding="utf-8-sig"),
    "utf16.csv": lambda path: write_csv(path, encoding="utf-16"),
    "utf16-unmarked.csv": lambda path: path.write_bytes(
        "text,label\n".encode("utf-16-le")
        + b"".join(
            f"{text},{label}\n".encode("utf-16-le")
            for text, label in [(f'"{text.replace(chr(34), chr(34) * 2)}"', label) for text, label in ROWS]
        )
    ),
    "array.json": write_json,
    "indented.json": write_json,
    "array.jsonl": write_json,
    "wrapped.json": write_wrapped,
    "lines.json": write_jsonl,
    "lines.jsonl": write_jsonl,
    "lines.ndjson": write_jsonl,
    "columns.parquet": write_parquet,
    "parquet.csv": write_parquet,
    "book.xlsx": write_xlsx,
    "table.dat": write_csv,
}


def rows_of(path: Path | str, **options: Any) -> list[tuple[str, int]]:
    (part,) = load_reviews(str(path), **options).values()
    return list(zip(part["text"], part["label"], strict=True))


EXPECTED = [(text, int(label)) for text, label in ROWS]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("compression", ["", ".gz", ".zip", ".zst"])
def test_every_format_gives_the_same_rows(name: str, compression: str, tmp_path: Path) -> None:
    plain = tmp_path / name
    FILES[name](plain)
    if not compression:
        assert rows_of(plain) == EXPECTED
        return
    packed = tmp_path / f"{name}{compression}"
    if compression == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(plain, name)
            archive.writestr("__MACOSX/._" + name, b"x")
    elif compression == ".gz":
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with pa.CompressedOutputStream(str(packed), "zstd") as stream:
            stream.write(plain.read_bytes())
    assert rows_of(packed) == EXPECTED


def test_the_separator_line_of_excel(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\r\ntext;label\r\ngood, fine;1\r\n")
    assert rows_of(tmp_path / "a.csv") == [("good, fine", 1)]


def test_a_delimiter_that_texts_hold_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;text;label\n1;good, fine, long;1\n2;bad | dull;0\n")
    assert rows_of(tmp_path / "a.csv") == [("good, fine, long", 1), ("bad | dull", 0)]


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030", "utf-16-be"])
def test_other_encodings_are_named(encoding: str, tmp_path: Path) -> None:
    text = "电影很好看" * 20 if encoding == "gb18030" else "café déjà vu, ça va" * 3
    (tmp_path / "a.tsv").write_bytes(f"text\tlabel\n{text}\t1\n".encode(encoding))
    assert rows_of(tmp_path / "a.tsv", encoding=encoding) == [(text, 1)]
    if encoding != "utf-16-be":  # found by its zero bytes
        with pytest.raises(InputError, match=rf"a\.tsv: row 1, column 'text': byte .*--encoding {encoding[:4]}"):
            rows_of(tmp_path / "a.tsv")
    with pytest.raises(InputError, match="--encoding klingon: Python knows no such encoding"):
        rows_of(tmp_path / "a.tsv", encoding="klingon")


def test_a_text_that_begins_with_a_carriage_return_is_no_blank_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\ngood,1\n\rbad,0\n")
    with pytest.raises(InputError, match=r"a\.csv: row 2 begins with a carriage return; quote the texts"):
        rows_of(tmp_path / "a.csv")
    for end in (b"\r", b"\r\n", b"\r\r\n"):  # the last is what Windows makes of the second
        (tmp_path / "b.csv").write_bytes(end.join([b"text,label", b"good,1", b"", b"bad,0", b""]))
        assert rows_of(tmp_path / "b.csv") == [("good", 1), ("bad", 0)]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"Great" film, said "Variety"', '"Great" film, said "Variety"'),
        ('"', '"'),
        ('"lone', '"lone'),
        ('"one ""two"""', 'one "two"'),
        ('"line one\nline two"', "line one\nline two"),
        ('"tab\tinside"', "tab\tinside"),
        ("it's 5\" long", "it's 5\" long"),
    ],
)
def test_quotes_of_tsv(cell: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f"id\ttext\tlabel\n1\t{cell}\t1\n2\tlast\t0\n")
    assert rows_of(tmp_path / "a.tsv") == [(text, 1), ("last", 0)]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('1,"Great" film - said "Variety",1', '"Great" film - said "Variety"'),
        ('"1","Great" film,"1"', '"Great" film'),
        ('1,"one ""two""","1"', 'one "two"'),
        ('1,it is "fine",1', 'it is "fine"'),
    ],
)
def test_quotes_of_csv(line: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,text,label\n{line}\n2,last,0\n")
    assert rows_of(tmp_path / "a.csv") == [(text, 1), ("last", 0)]


@pytest.mark.parametrize(
    "lines",
    [
        '"Great" film, said "Variety",1\n',  # as many cells as an unquoted text with a comma
        '"I said, ok\nhe said "no" and left",1\n',  # the first line alone has as many cells as the header
        '"open,1\nbad,0\n',
        '"Great, really" film\n',  # two cells as an unquoted text with a comma, and one with its quotes
    ],
)
def test_malformed_quotes_of_csv_that_could_be_read_in_two_ways_are_named(lines: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\nfine,1\n{lines}")
    with pytest.raises(InputError, match=r"a\.csv: row 2: .*; double the quotes inside a quoted text"):
        rows_of(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_quotes_escaped_by_backslashes_are_refused(suffix: str, tmp_path: Path) -> None:
    delimiter = "\t" if suffix == "tsv" else ","
    (tmp_path / f"a.{suffix}").write_text(f'text{delimiter}label\n"fine"{delimiter}1\n"a \\"b\\" c"{delimiter}0\n')
    with pytest.raises(InputError, match=rf"a\.{suffix}: row 2: .*; double the quotes inside a quoted text"):
        rows_of(tmp_path / f"a.{suffix}")


def test_a_quote_that_would_swallow_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\nfine\t1\n"open\t1\nbad\t0\nclosed"\t0\n')
    with pytest.raises(InputError, match=r"a\.tsv: row 2: a quote that opens here closes 2 lines below"):
        rows_of(tmp_path / "a.tsv")
    (tmp_path / "b.csv").write_text('text,label\nfine,1\n"open,1\n' + "bad,0\n" * 20_000)
    with pytest.raises(InputError, match=r"b\.csv: row 2: a quote is not closed"):
        rows_of(tmp_path / "b.csv")


def test_many_lone_quotes_take_linear_time(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + '"quote\t1\n' * 3_000)
    assert len(rows_of(tmp_path / "a.tsv")) == 3_000


def test_nested_fields_are_named_by_their_path(tmp_path: Path) -> None:
    records = [{"id": 1, "review": {"text": "good", "stars": 5}}, {"id": 2, "review": {"text": "bad", "stars": 1}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        options = {"text_column_names": "review.text", "label_column_name": "review.stars"}
        assert rows_of(path, **options) == [("good", 1), ("bad", 0)]
        with pytest.raises(InputError, match=r"no column 'label', but 'review\.stars'"):
            rows_of(path, text_column_names="review.text")


def test_damaged_and_excessive_archives_are_refused(tmp_path: Path) -> None:
    content = gzip.compress(b"text,label\n" + b"good,1\n" * 50_000)
    (tmp_path / "cut.csv.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a" * 400_000_000 + b",1\n"))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "text,label\n")
        archive.writestr("b.csv", "text,label\n")
    for name, problem in (
        ("cut.csv.gz", "damaged"),
        ("bomb.csv.gz", "when decompressed"),
        ("two.zip", "holds 2 files"),
    ):
        with pytest.raises(InputError, match=problem) as refusal:
            rows_of(tmp_path / name)
        assert name in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_workbooks_that_are_ambiguous_are_refused(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["text", "label"])
    workbook.active.append(["good", 1, "stray"])
    workbook.save(tmp_path / "stray.xlsx")
    workbook.create_sheet("second").append(["text"])
    workbook.save(tmp_path / "two.xlsx")
    workbook.create_sheet("third")
    for sheet in workbook.worksheets[:2]:
        sheet.sheet_state = "hidden"
    workbook.save(tmp_path / "hidden.xlsx")
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0" + b"\0" * 600)
    for name, problem in (
        ("stray.xlsx", "row 1 has a cell without a column name"),
        ("two.xlsx", r"several sheets with cells \(Sheet, second\), and 2 of them have the columns"),
        ("hidden.xlsx", r"no visible sheet has cells; unhide the one with the reviews \(Sheet, second\)"),
        ("old.xls", "an Excel file of before 2007"),
    ):
        with pytest.raises(InputError, match=problem):
            rows_of(tmp_path / name)


def test_the_visible_sheet_with_the_columns_is_read(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["Exported", "by hand"])
    for title in ("Data", "Hidden"):
        sheet = workbook.create_sheet(title)
        for row in (["text", "label"], ["good", 1], ["bad", 0], ["#N/A", 1]):
            sheet.append(row)
    sheet.sheet_state = "hidden"
    workbook.save(tmp_path / "a.xlsx")
    assert rows_of(tmp_path / "a.xlsx") == [("good", 1), ("bad", 0), ("", 1)]


# --- columns and cells that would be lost ---

TWICE = ["id", "text", "note", "label", "note"]


def write_twice(path: Path, names: list[str]) -> None:
    cells = ["1", "good", "a", "1", "b"]
    if path.suffix == ".xlsx":
        workbook = openpyxl.Workbook()
        for row in (names, cells):
            workbook.active.append(row)
        workbook.save(path)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_arrays([pa.array([cell]) for cell in cells], names=names), path)
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(delimiter.join(row) + "\n" for row in (names, cells)))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx", "parquet"])
def test_columns_with_the_same_name_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    write_twice(path, TWICE)
    with pytest.raises(InputError, match=rf"^{path}: 2 columns are named 'note', of which .*: rename them$"):
        rows_of(path)
    with pytest.raises(InputError, match="2 columns are named 'note'"):
        list(read_rows(str(path), ColumnOptions(with_labels=False, with_record=True)))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx"])
def test_columns_without_a_name_get_one_if_there_are_several(suffix: str, tmp_path: Path) -> None:
    for names, expected in (
        (["", "text", "", "label", "x"], ["Unnamed: 0", "text", "Unnamed: 2", "label", "x"]),
        (["", "text", "x", "label", "y"], ["", "text", "x", "label", "y"]),
    ):
        write_twice(tmp_path / f"a.{suffix}", names)
        assert rows_of(tmp_path / f"a.{suffix}") == [("good", 1)]
        options = ColumnOptions(with_labels=False, with_record=True)
        (row,) = read_rows(str(tmp_path / f"a.{suffix}"), options)
        assert row["record"] == dict(zip(expected, ["1", "good", "a", "1", "b"], strict=True))
    (tmp_path / "trailing.csv").write_text("text,label,,\ngood,1,,\nbad,0,,\n")
    assert rows_of(tmp_path / "trailing.csv") == [("good", 1), ("bad", 0)]


def write_formulas(path: Path, cached: str = "", header: bytes = b"") -> None:
    """A workbook whose first text, note and label are formulas, with these XML attributes and this value cached."""
    workbook = openpyxl.Workbook()
    for row in (("text", "note", "label"), ('="go"&"od"', '="n"', "=1+0"), ("bad", None, 0)):
        workbook.active.append(row)
    plain = io.BytesIO()
    workbook.save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/worksheets/sheet1.xml" and cached:
                for place in ("A2", "B2", "C2"):
                    start = f'<c r="{place}"'.encode()
                    head, _, rest = content.partition(start)
                    rest = rest.replace(b"<v />", cached.encode(), 1).replace(b"<v/>", cached.encode(), 1)
                    content = head + start + header + rest
            if name == "xl/workbook.xml" and cached != "<v>0</v>":
                content = content.replace(b'fullCalcOnLoad="1"', b"")
            new.writestr(name, content)


@pytest.mark.parametrize(("cached", "found"), [("", "text"), ("<v>0</v>", "text")])
def test_formulas_that_were_never_computed_are_refused(cached: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    write_formulas(path, cached)
    with pytest.raises(
        InputError, match=rf"^{path}: row 1, column '{found}': the formula '=.*' has no value: open and"
    ):
        rows_of(path)
    with pytest.raises(InputError, match="row 1, column 'note'"):  # which `predict` keeps
        list(read_rows(str(path), ColumnOptions(text_column_names="note", with_labels=False)))


def test_formulas_with_values_and_unread_ones_are_no_matter(tmp_path: Path) -> None:
    write_formulas(tmp_path / "a.xlsx", "<v>1</v>", b' t="str"')
    assert rows_of(tmp_path / "a.xlsx") == [("1", 1), ("bad", 0)]
    write_formulas(tmp_path / "empty.xlsx", "<v></v>", b' t="str"')  # computed as an empty text
    assert list(read_rows(str(tmp_path / "empty.xlsx"), ColumnOptions(with_labels=False))) == [
        {"text": "bad", "label": None}
    ]
    workbook = openpyxl.Workbook()
    for row in (("text", "note", "label"), ("good", "=1", 1)):
        workbook.active.append(row)
    workbook.save(tmp_path / "unread.xlsx")
    assert rows_of(tmp_path / "unread.xlsx") == [("good", 1)]
    with pytest.raises(InputError, match="row 1, column 'note': the formula '=1' has no value"):
        list(read_rows(str(tmp_path / "unread.xlsx"), ColumnOptions(with_labels=False, with_record=True)))


LABELS_ELSEWHERE = [("good", "gut"), ("bad", "schlecht")] * 10


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.xlsx", "saved", "folder"])
@pytest.mark.parametrize("column", ["Bewertung", "标签"])
def test_a_label_column_in_another_language_is_named_to_a_fine_tuning(name: str, column: str, tmp_path: Path) -> None:
    frame, path = pd.DataFrame(LABELS_ELSEWHERE, columns=["text", column]), tmp_path / name
    if name == "folder":
        path.mkdir()
        frame.to_csv(path / "train.csv", index=False)
        (path / "test.jsonl").write_text('{"text": "a", "more": 1}')
    elif name == "saved":
        datasets.Dataset.from_pandas(frame).save_to_disk(path)
    else:
        write = {".csv": frame.to_csv, ".xlsx": frame.to_excel, ".parquet": frame.to_parquet}.get(path.suffix)
        if write:
            write(path, index=False)
        else:
            frame.to_json(path, orient="records", lines=True)
    listing = f"found columns: 'text', '{column}'" + (", 'more'" if name == "folder" else "")
    with pytest.raises(InputError) as refusal:
        load_split_reviews(DataArguments(dataset_name=str(path)), seed=1)
    way_out = "none of the 20 rows is labelled: name the label column with --label_column_name"
    assert str(refusal.value) == f"{path}: {way_out}; {listing}"
    assert len(load_reviews(str(path), with_labels=False)["train"]) == 20


# --- folders ---


def texts_of(folder: Path, **options: Any) -> dict[str, list[str]]:
    return {name: part["text"][:] for name, part in load_reviews(str(folder), **options).items()}


def write(folder: Path, name: str, *texts: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f"{text},{place % 2}\n" for place, text in enumerate(texts)))


def test_folders_named_after_splits_and_shards_with_hashes(tmp_path: Path) -> None:
    for name, text in (("train/part1.csv", "a"), ("train/part2.csv", "b"), ("test/other.csv", "c")):
        write(tmp_path / "folders", name, text)
    assert texts_of(tmp_path / "folders") == {"train": ["a", "b"], "test": ["c"]}
    for name, text in (("data/train-00000-of-00002-9f8e7d.csv", "a"), ("data/train-00001-of-00002-0a1b2c.csv", "b")):
        write(tmp_path / "hashes", name, text)
    assert texts_of(tmp_path / "hashes") == {"train": ["a", "b"]}
    (tmp_path / "hashes/data/train-00001-of-00002-0a1b2c.csv").unlink()
    with pytest.raises(InputError, match=r"shard train-00001-of-00002\.csv of split train is missing"):
        texts_of(tmp_path / "hashes")


README = """---
configs:
- config_name: {name}
  data_files:
  - split: train
    path: "first/*.csv"
  - split: test
    path:
    - second/a.csv
    - second/b.csv
- config_name: other
  data_files: "second/a.csv"
---
"""


def test_files_that_a_readme_configures(tmp_path: Path) -> None:
    for name, text in (("first/x.csv", "a"), ("first/y.csv", "b"), ("second/a.csv", "c"), ("second/b.csv", "d")):
        write(tmp_path, name, text)
    (tmp_path / "README.md").write_text(README.format(name="default"))
    assert texts_of(tmp_path) == {"train": ["a", "b"], "test": ["c", "d"]}
    (tmp_path / "README.md").write_text(README.format(name="plain"))
    with pytest.raises(InputError, match=r"several configurations and no default \(plain, other\)"):
        texts_of(tmp_path)


def test_a_readme_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "first/x.csv", "a")
    (tmp_path / "README.md").write_text("---\nlicense: mit\nlicense: mit\n---\n")
    with pytest.raises(InputError, match=r"README\.md does not begin with valid YAML: the key 'license' occurs twice"):
        texts_of(tmp_path)


def test_one_folder_a_class(tmp_path: Path) -> None:
    """The layout of the original IMDB archive, with files beside the folders that hold no review."""
    for name, text in (
        ("train/neg/0_1.txt", "bad\nvery bad"), ("train/pos/0_9.txt", "good"), ("train/unsup/0_0.txt", "what"),
        ("train/urls_pos.txt", "http"), ("test/neg/1_2.txt", "dull"), ("test/pos/1_8.txt", "fine"), ("README", "x"),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    splits = load_reviews(str(tmp_path))
    assert {name: part.to_dict() for name, part in splits.items()} == {
        "train": {"text": ["bad\nvery bad", "good"], "label": [0, 1]},
        "test": {"text": ["dull", "fine"], "label": [0, 1]},
        "unsupervised": {"text": ["what"], "label": [-1]},
    }


def test_any_names_of_class_folders(tmp_path: Path) -> None:
    for name in ("sport", "politics", "arts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"on {name}")
    part = load_reviews(str(tmp_path))["train"]
    assert part.features["label"].names == ["arts", "politics", "sport"]
    assert part.to_dict() == {"text": ["on arts", "on politics", "on sport"], "label": [0, 1, 2]}


def test_datasets_saved_to_disk(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["meh", "wow"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    part.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "two")
    for folder, splits in (("one", ["train"]), ("two", ["train", "test"])):
        loaded = load_reviews(str(tmp_path / folder))
        assert list(loaded) == splits
        assert loaded["train"].features["label"].names == ["meh", "wow"]
        assert loaded["train"]["label"][:] == [1, 0]


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "reviews.csv", "a")
    with pytest.raises(InputError, match=r"no such file: .*reviws\.csv \(did you mean '.*reviews\.csv'\?\)"):
        rows_of(tmp_path / "reviws.csv")


# --- any table ---

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
# What makes tables go wrong, and what Excel or its libraries give a meaning of its own.
HARD_CELLS = st.lists(
    st.sampled_from([*",;\t|\"'\\\n =#", "\r", "\r\n", '""', "sep=;", "NA", "{", "[", "\ufeff", "\u2028", "电", "a"]),
    max_size=6,
).map("".join)
TABLES = st.lists(st.tuples(CELLS | HARD_CELLS, st.sampled_from(["0", "1", "2", "x", "true"])), min_size=1, max_size=6)
# Other quotes than RFC 4180's cannot be told from quotes that belong to a text.
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ";", "\t", "|"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
    }
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
COMPRESSIONS = st.sampled_from(["", ".gz", ".zip", ".zst"])
several = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check_read_back(path: Path, rows: list[tuple[str, str]], is_refused: bool | None = None) -> None:
    """Fails where a table is read otherwise than written, or refused in several lines, or wrongly refused or read."""
    try:
        part = load_reviews(str(path))["train"]
    except InputError as error:
        refusal = str(error)
    else:
        names = part.features["label"].names
        binary = {"0": "negative", "1": "positive", "true": "positive"}
        expected = [(text, binary[label] if names == ["negative", "positive"] else label) for text, label in rows]
        assert list(zip(part["text"], map(names.__getitem__, part["label"]), strict=True)) == expected
        assert not is_refused
        return
    assert path.name in refusal
    assert len(refusal.splitlines()) == 1
    assert is_refused is not False, refusal


def pack(path: Path, compression: str) -> Path:
    """The file, compressed."""
    packed = path.with_name(path.name + compression)
    if compression == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
    elif compression == ".gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    elif compression == ".zst":
        with pa.CompressedOutputStream(str(packed), "zstd") as stream:
            stream.write(path.read_bytes())
    return packed


@several
@given(rows=TABLES, dialect=DIALECTS, encoding=ENCODINGS, compression=COMPRESSIONS)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_written_by_csv_is_read_back_or_refused(
    suffix: str, rows: list[tuple[str, str]], dialect: dict[str, Any], encoding: str, compression: str, tmp_path: Path
) -> None:
    with (tmp_path / f"a.{suffix}").open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, **dialect).writerows([NAMES, *rows])
    check_read_back(pack(tmp_path / f"a.{suffix}", compression), rows)


@several
@given(rows=TABLES, dialect=DIALECTS, escape=st.booleans(), encoding=ENCODINGS)
def test_a_table_written_by_pandas_is_read_back_or_refused(
    rows: list[tuple[str, str]], dialect: dict[str, Any], escape: bool, encoding: str, tmp_path: Path
) -> None:
    options = {"quoting": dialect["quoting"], "lineterminator": dialect["lineterminator"]}
    if escape:
        options |= {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}
    frame = pd.DataFrame(rows, columns=list(NAMES))
    # Escaped quotes in quoted cells are noticed; escaped backslashes are nothing that the file tells.
    if escape and frame["text"].str.contains("\\", regex=False).any():
        return
    frame.to_csv(tmp_path / "a.csv", sep=dialect["delimiter"], encoding=encoding, index=False, **options)
    check_read_back(tmp_path / "a.csv", rows)


@several
@given(rows=TABLES, compression=COMPRESSIONS)
@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_tables_with_types_written_by_pandas_are_read_back(
    suffix: str, rows: list[tuple[str, str]], compression: str, tmp_path: Path
) -> None:
    frame, path = pd.DataFrame(rows, columns=list(NAMES)), tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        buffer = io.StringIO()
        frame.to_json(buffer, orient="records", lines=suffix == "jsonl", force_ascii=False)
        path.write_text(buffer.getvalue(), encoding="utf-8")
    check_read_back(pack(path, compression), rows, is_refused=False)


@several
@given(rows=TABLES, compression=COMPRESSIONS)
def test_workbooks_written_by_pandas_are_read_back_or_refused(
    rows: list[tuple[str, str]], compression: str, tmp_path: Path
) -> None:
    # What XML lacks is not written; a carriage return is written as a line feed.
    rows = [(re.sub("[\\x00-\\x08\\x0b-\\x1f\ufffe\uffff]", "", text), label) for text, label in rows]
    pd.DataFrame(rows, columns=list(NAMES)).to_excel(tmp_path / "a.xlsx", index=False)
    is_formula = any(text.startswith("=") and len(text) > 1 for text, _ in rows)  # in a workbook, not in the frame
    check_read_back(pack(tmp_path / "a.xlsx", compression), rows, is_refused=is_formula)


@pytest.mark.parametrize("dimension", ["A1:B10", "A1:A51", "A1"])
def test_wrong_dimensions_of_a_sheet_lose_nothing(dimension: str, tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    for row in (NAMES, *((f"film {number}", number % 2) for number in range(50))):
        workbook.active.append(row)
    workbook.save(tmp_path / "right.xlsx")
    with zipfile.ZipFile(tmp_path / "right.xlsx") as source, zipfile.ZipFile(tmp_path / "a.xlsx", "w") as target:
        for name in source.namelist():
            content = source.read(name).replace(b'<dimension ref="A1:B51"', f'<dimension ref="{dimension}"'.encode())
            target.writestr(name, content)
    assert rows_of(tmp_path / "a.xlsx") == [(f"film {number}", number % 2) for number in range(50)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_named_utf16_with_a_mark(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\ngood,1\nbad,0\n".encode(encoding))
    assert rows_of(tmp_path / "a.csv", encoding=encoding) == [("good", 1), ("bad", 0)]


def test_utf8_is_not_read_as_a_single_byte_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nvöllig gut,1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"--encoding cp1252: .* is UTF-8"):
        rows_of(tmp_path / "a.csv", encoding="cp1252")
    (tmp_path / "b.csv").write_text("text,label\nvöllig gut,1\n", encoding="cp1252")
    assert rows_of(tmp_path / "b.csv", encoding="cp1252") == [("völlig gut", 1)]


def test_names_of_a_nested_class_label_count(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["positive", "negative"])
    features = datasets.Features({"review": {"text": datasets.Value("string"), "label": names}})
    rows = {"review": [{"text": "great", "label": 0}, {"text": "awful", "label": 1}]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    columns = {"text_column_names": "review.text", "label_column_name": "review.label"}
    part = load_reviews(str(tmp_path / "a.parquet"), **columns)["train"]
    found = {
        text: part.features["label"].int2str(label) for text, label in zip(part["text"], part["label"], strict=True)
    }
    assert found == {"great": "positive", "awful": "negative"}


def test_declared_names_are_those_of_the_rows(tmp_path: Path) -> None:
    for declared, expected in ((["bad ", "True"], ["bad", "true"]), (["1.0", "2.0"], ["1", "2"])):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=declared)})
        rows = {"text": ["a", "b"], "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{expected[0]}.parquet")
        part = load_reviews(str(tmp_path / f"{expected[0]}.parquet"))["train"]
        assert (part.features["label"].names, part["label"][:]) == (expected, [0, 1])


def test_a_lone_quote_in_the_header_of_a_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('"text" here\tlabel\ngood\t1\n')
    with pytest.raises(InputError, match="no text column"):
        rows_of(tmp_path / "a.tsv")


def test_tables_named_after_splits_come_before_folders_of_texts(tmp_path: Path) -> None:
    for name, text in (("train.csv", "a"), ("test.csv", "b")):
        write(tmp_path, name, text)
    for name in ("docs/a.txt", "licenses/MIT.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("not a review")
    assert texts_of(tmp_path) == {"train": ["a"], "test": ["b"]}


def test_folders_of_classes_lose_no_file(tmp_path: Path) -> None:
    names = ("train/pos/d/1.txt", "train/pos/2.txt", "train/neg/3.TXT", "train/unsup/4.txt", "test/unsup/5.txt")
    for name in (*names, "test/pos/6.txt", "test/neg/7.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = texts_of(tmp_path)
    assert {split: sorted(texts) for split, texts in found.items()} == {
        "train": ["train/neg/3.TXT", "train/pos/2.txt", "train/pos/d/1.txt"],
        "test": ["test/neg/7.txt", "test/pos/6.txt"],
        "unsupervised": ["test/unsup/5.txt", "train/unsup/4.txt"],
    }
    for name in ("val/pos/8.txt", "valid/pos/9.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    with pytest.raises(InputError, match="has split validation twice: val and valid"):
        texts_of(tmp_path)


CARD = """---
dataset_info:
  features:
  - {{name: text, dtype: string}}
  - name: label
    dtype: {{class_label: {{names: {names}}}}}
---
"""


def test_names_that_a_readme_declares_count(tmp_path: Path) -> None:
    """As `datasets` reads the folder: 0 is what its README calls it."""
    (tmp_path / "README.md").write_text(CARD.format(names="{'0': positive, '1': negative}"))
    (tmp_path / "train.csv").write_text("text,label\ngreat,0\nawful,1\nunknown,-1\n")
    part = load_reviews(str(tmp_path))["train"]
    names = [*part.features["label"].names, "unlabelled"]
    found = {text: names[label] for text, label in zip(part["text"], part["label"], strict=True)}
    assert found == {"great": "positive", "awful": "negative", "unknown": "unlabelled"}
    (tmp_path / "train.csv").write_text("text,label\ngreat,positive\nawful,negative\n")  # names already
    part = load_reviews(str(tmp_path))["train"]
    assert [part.features["label"].int2str(label) for label in part["label"]] == ["positive", "negative"]


@pytest.mark.parametrize(
    "content",
    [
        'text,label\n"Great movie,1\nboring,0\nmy TV is 32",0\nfine,1\npoor,0\n',
        'label,text\n1,"Great movie\n0,boring\n0,my TV is 32"\n1,fine\n0,poor\n',
        'text,label\nfine,1\n"Great movie,1\nmy TV is 32",0\nbad,0\n',
    ],
)
def test_a_quote_of_csv_that_swallows_rows_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=r"a\.csv: row [12]: a quote that opens here closes [12] lines below"):
        rows_of(tmp_path / "a.csv")


def test_texts_over_several_lines_with_delimiters_are_read(tmp_path: Path) -> None:
    texts = ["Pros: good,cheap\nCons: slow,ugly", "5,0 of 5\n1,2,3", "fine"]
    pd.DataFrame({"text": texts, "label": [1, 0, 1]}).to_csv(tmp_path / "a.csv", index=False)
    assert rows_of(tmp_path / "a.csv") == [*zip(texts, [1, 0, 1], strict=True)]


def test_a_space_before_a_quote_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\nfine, "1"\n')
    with pytest.raises(InputError, match=r"a\.csv: row 1: a space before a quote"):
        rows_of(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("text\tlabel\ngood\t1\nbad\t0\n", {}),
        ('{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n', {}),
        ("comment;label\ngood;1\nbad;0\n", {"text_column_names": "comment"}),
    ],
)
def test_tables_named_txt_are_read_as_tables(content: str, options: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert rows_of(tmp_path / "a.txt", **options) == [("good", 1), ("bad", 0)]


@pytest.mark.parametrize("line", ["I said, good text", "one text", "a,b"])
def test_lines_of_texts_stay_lines(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{line}\nbad\n")
    assert [text for text, _ in rows_of(tmp_path / "a.txt")] == [line, "bad"]


def test_an_object_with_an_array_in_one_line(tmp_path: Path) -> None:
    rows = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "data": rows}))
    assert rows_of(tmp_path / "a.json") == [("good", 1), ("bad", 0)]
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "good", "label": 1, "tags": [{"name": "x"}]}))
    assert rows_of(tmp_path / "b.jsonl") == [("good", 1)]


def test_escaped_characters_of_a_workbook(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a_x000D_\nb", "c_x"], "label": [1, 0]}).to_excel(tmp_path / "a.xlsx", index=False)
    assert rows_of(tmp_path / "a.xlsx") == [("a\r\nb", 1), ("c_x", 0)]


def test_order_of_declared_classes_in_a_compressed_file(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "y", "x"])}
    )
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 2]}, features=features).to_parquet(tmp_path / "a.pq")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.pq").read_bytes()))
    for name in ("a.pq", "b.parquet.gz"):
        part = load_reviews(str(tmp_path / name))["train"]
        assert (part.features["label"].names, part["label"][:]) == (["z", "y", "x"], [0, 2])


def test_names_that_a_readme_lists_count(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("\ufeff" + CARD.format(names="[world, sports]"), encoding="utf-8")
    (tmp_path / "train.csv").write_text("text,label\ngoal,1\nwar,0\n")
    part = load_reviews(str(tmp_path))["train"]
    assert [part.features["label"].int2str(label) for label in part["label"]] == ["sports", "world"]
