"""Every kind of source, and every error in one."""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, DataArguments
from sentiment.config.parsing import find_yaml
from sentiment.data import hub, sources
from sentiment.data.adaptation_data import prepare_adaptation_data
from sentiment.data.columns import ColumnOptions
from sentiment.data.corpus import load_corpus
from sentiment.data.files import read_rows
from sentiment.data.finetuning_data import load_split_reviews, prepare_data
from sentiment.data.hub import check_hub, find_revisions
from sentiment.data.sources import NEUTRAL_BOUND, SNIPPETS, load_reviews
from sentiment.demo import embedded
from sentiment.demo.embedded import cached_package
from sentiment.exceptions import InputError
from sentiment.models.loading import load_tokenizer

REAL_DATA = os.environ.get("SENTIMENT_DATA_DIR")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.delenv("SENTIMENT_DATA_DIR", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "reviews"
    path.mkdir()
    return path


def write_parquet(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def rows_of(path: Path) -> list[tuple[str, int]]:
    loaded = load_reviews(str(path))
    assert list(loaded) == ["train"]
    return list(zip(loaded["train"]["text"], loaded["train"]["label"], strict=True))


# --- files ---


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.tsv", "reviews.jsonl", "reviews.parquet", "UPPER.CSV"])
def test_each_kind_of_file_gives_text_and_label_alone(folder: Path, name: str) -> None:
    path = folder / name
    if name.endswith("jsonl"):
        path.write_text('{"idx": 7, "review": "good", "label": 1}\n\n{"idx": 8, "review": "bad", "label": 0}\n')
    elif name.endswith("parquet"):
        write_parquet(path, idx=[7, 8], review=["good", "bad"], label=[1, 0])
    else:
        path.write_text("idx,review,label\n7,good,1\n\n8,bad,0\n".replace(",", "\t" if "tsv" in name else ","))
    loaded = load_reviews(str(path))["train"]
    assert loaded.features == datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    assert loaded.to_dict() == {"text": ["good", "bad"], "label": [1, 0]}
    assert loaded.cache_files, "rows must lie on disk"


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "N/A", "", " ", "1.0", "0012", "naïve 😀", "true"])
def test_texts_that_loaders_take_for_missing_or_numbers_stay(folder: Path, text: str) -> None:
    (folder / "a.csv").write_text(f'text,label\n"{text}",1\nx,0\n', encoding="utf-8")
    (folder / "a.tsv").write_text(f"text\tlabel\n{text}\t1\nx\t0\n", encoding="utf-8")
    (folder / "a.jsonl").write_text(json.dumps({"text": text, "label": 1}) + "\n")
    write_parquet(folder / "a.parquet", text=[text], label=[1])
    for path in sorted(folder.iterdir()):
        assert rows_of(path)[0] == (text, 1), path.suffix


def test_quotes_and_line_breaks_in_csv(folder: Path) -> None:
    (folder / "a.csv").write_bytes('\ufefftext,label\r\n"one, ""two""\nthree",pos\r\n'.encode())
    assert rows_of(folder / "a.csv") == [('one, "two"\nthree', 1)]


def test_quotes_in_tsv(folder: Path) -> None:
    lines = ["label\ttext", '1\t"tab-free ""quoted"" cell"', '0\t"Great" film, said "Variety"', '0\t " lone']
    (folder / "a.tsv").write_text("\n".join(lines))
    assert [text for text, _ in rows_of(folder / "a.tsv")] == [
        'tab-free "quoted" cell',
        '"Great" film, said "Variety"',
        ' " lone',
    ]


def test_longest_text_of_csv_is_not_limited(folder: Path) -> None:
    (folder / "a.csv").write_text("text,label\n" + "good " * 40_000 + ",1\n")
    assert len(rows_of(folder / "a.csv")[0][0]) == 200_000


@pytest.mark.parametrize(
    ("spelling", "label"),
    [
        *[(spelling, 0) for spelling in ("0", "negative", "NEG", " Negative ", "False", "0.0")],
        *[(spelling, 1) for spelling in ("1", "positive", "Pos", "TRUE", "1.0")],
        *[(spelling, -1) for spelling in ("-1", "", "  ", "-1.0")],
    ],
)
def test_label_spellings_of_csv(folder: Path, spelling: str, label: int) -> None:
    (folder / "a.csv").write_text(f"text,label\nx,{spelling}\n")
    assert rows_of(folder / "a.csv") == [("x", label)]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, None],
        [0.0, 1.0, None],
        [0.0, 1.0, float("nan")],
        [False, True, None],
        ["neg", "pos", None],
        ["0", "1", ""],
    ],
)
def test_label_types_of_jsonl_and_parquet(folder: Path, labels: list[Any]) -> None:
    lines = [json.dumps({"text": "x", "label": label}) for label in labels]
    (folder / "a.jsonl").write_text("\n".join(lines))
    write_parquet(folder / "a.parquet", text=["x"] * 3, label=labels)
    for path in sorted(folder.iterdir()):
        assert [label for _, label in rows_of(path)] == [0, 1, -1], path.suffix


def test_class_names_decide_what_a_label_number_means(folder: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["positive", "negative"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["good", "bad", "?"], "label": [0, 1, -1]}, features=features)
    rows.to_parquet(folder / "a.parquet")
    assert rows_of(folder / "a.parquet") == [("good", 1), ("bad", 0), ("?", -1)]


def test_missing_texts_are_empty_and_missing_labels_unlabelled(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": null, "label": null}\n{"text": "x"}\n{"text": "y", "label": 1}\n')
    write_parquet(folder / "a.parquet", text=[None, "x", "y"], label=[None, None, 1])
    for path in sorted(folder.iterdir()):
        assert rows_of(path) == [("", -1), ("x", -1), ("y", 1)]
        assert [tuple(row.values()) for row in read_rows(str(path), ColumnOptions())] == [
            ("", None),
            ("x", None),
            ("y", "1"),
        ]


def test_file_without_labels_is_unlabelled(folder: Path) -> None:
    (folder / "a.csv").write_text("Review\ngood\n")
    write_parquet(folder / "a.parquet", sentence=["good"])
    for path in sorted(folder.iterdir()):
        assert rows_of(path) == [("good", -1)]


def test_lines_of_a_text_file_are_unlabelled_reviews(folder: Path) -> None:
    (folder / "a.txt").write_bytes('\ufeffa "good", film\r\n\r\n \t\nbad\u2028film '.encode())
    assert rows_of(folder / "a.txt") == [('a "good", film', -1), ("bad\u2028film ", -1)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_labels_that_are_not_read_may_be_anything(folder: Path, name: str) -> None:
    if name == "a.csv":
        (folder / name).write_text("text,label,sentiment\ngood,5 stars,0.9\n")
    elif name == "a.jsonl":
        (folder / name).write_text('{"text": "good", "label": {"stars": 5}, "class": 5}\n')
    else:
        write_parquet(folder / name, text=["good"], label=[[5]], target=["x"])
    if name != "a.csv":
        assert_refused(folder / name, ["label"])
    loaded = load_reviews(str(folder / name), with_labels=False)
    assert loaded["train"].to_dict() == {"text": ["good"]}


def test_case_and_spaces_of_column_names_are_ignored(folder: Path) -> None:
    (folder / "a.csv").write_text("Text, Label\ngood,1\n")
    assert rows_of(folder / "a.csv") == [("good", 1)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_changed_file_is_read_again(folder: Path, suffix: str) -> None:
    path = folder / f"a{suffix}"
    for text in ("first", "other"):
        if suffix == ".csv":
            path.write_text(f"text,label\n{text},1\n")
        else:
            write_parquet(path, text=[text], label=[1])
        assert rows_of(path) == [(text, 1)]


def test_second_load_comes_from_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.csv").write_text("text,label\ngood,1\n")
    first = load_reviews(str(folder / "a.csv"))["train"]
    monkeypatch.setattr("sentiment.data.files.open_table", None)
    second = load_reviews(str(folder / "a.csv"))["train"]
    assert second.cache_files == first.cache_files


# --- named columns ---


def write_films(folder: Path, suffix: str) -> Path:
    path = folder / f"films{suffix}"
    rows = [("Title one", "good", "pos"), ("Title two", None, "neg")]
    columns = ("Headline", "body text", "sentiment")
    if suffix == ".parquet":
        write_parquet(path, **{name: list(cells) for name, cells in zip(columns, zip(*rows, strict=True), strict=True)})
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows))
    else:
        separator = "\t" if suffix == ".tsv" else ","
        path.write_text("\n".join(separator.join(cell or "" for cell in row) for row in (columns, *rows)))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_named_columns_are_read_and_several_texts_joined_by_a_space(folder: Path, suffix: str, streaming: bool) -> None:
    path = str(write_films(folder, suffix))
    options: dict[str, Any] = {"label_column_name": "sentiment", "streaming": streaming}
    both = load_reviews(path, text_column_names="Headline, body text", **options)["train"]
    assert [row["text"] for row in both] == ["Title one good", "Title two"]
    assert streaming or both["label"] == [1, 0]
    one = load_reviews(path, text_column_names="headline", **options)["train"]
    assert [row["text"] for row in one] == ["Title one", "Title two"]
    names = {"text_column_names": "Headline, body text", "text_column_delimiter": " | ", "streaming": streaming}
    unlabelled = load_reviews(path, with_labels=False, **names)["train"]
    assert list(unlabelled) == [{"text": "Title one | good"}, {"text": "Title two"}]


def test_a_named_column_wins_over_the_usual_ones(folder: Path) -> None:
    (folder / "a.csv").write_text("text,review,label,liked\nshort,long,0,1\n")
    loaded = load_reviews(str(folder / "a.csv"), text_column_names="review", label_column_name="liked")
    assert loaded["train"].to_dict() == {"text": ["long"], "label": [1]}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"text_column_names": "Headline,bodi"}, "no column 'bodi' for --text_column_names; found columns: 'Headline'"),
        (
            {"text_column_names": "Headline", "label_column_name": "stars"},
            "no column 'stars' for --label_column_name; found columns: 'Headline', 'body text', 'sentiment'",
        ),
    ],
)
def test_a_named_column_that_does_not_exist_lists_the_columns(
    folder: Path, suffix: str, options: dict[str, str], part: str
) -> None:
    path = write_films(folder, suffix)
    with pytest.raises(InputError) as refusal:
        load_reviews(str(path), **options)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert part in str(refusal.value)


def test_another_choice_of_columns_is_not_answered_from_the_cache(folder: Path) -> None:
    (folder / "a.csv").write_text("title,body,label\nfirst,second,1\n")
    for name, text in (("title", "first"), ("body", "second")):
        assert load_reviews(str(folder / "a.csv"), text_column_names=name)["train"]["text"][:] == [text]


def test_columns_of_a_source_without_columns_are_refused(folder: Path) -> None:
    (folder / "a.txt").write_text("good\n")
    with pytest.raises(InputError, match=r"a\.txt: no column 'text' for --text_column_names; found columns: 'good'"):
        load_reviews(str(folder / "a.txt"), text_column_names="text")
    with pytest.raises(InputError, match=r"--text_column_names and --label_column_name: .* has no named columns"):
        load_reviews("snippets", text_column_names="text")


def test_options_name_columns_and_revision(folder: Path) -> None:
    path = write_films(folder, ".csv")
    rows = [f"{word} {row},x,{row % 2}" for word in ("good", "bad") for row in range(20)]
    path.write_text("\n".join(["Headline,text,class", *rows]))
    named = {"text_column_names": "Headline", "label_column_name": "class"}
    reviews = load_split_reviews(DataArguments(dataset_name=str(path), **named), seed=1)
    assert {text.split()[0] for text in reviews.splits["train"]["text"]} == {"good", "bad"}
    with pytest.raises(InputError, match=r"--dataset_revision v1: .* is not read from the Hub"):
        load_split_reviews(DataArguments(dataset_name=str(path), dataset_revision="v1", **named), seed=1)
    corpus_args = CorpusArguments(dataset_name=["imdb", "sst2"], dataset_revision="v1", target_dataset="none")
    with pytest.raises(InputError, match="--dataset_revision v1: pass one dataset, not several"):
        load_corpus(corpus_args)


# --- errors ---

ERRORS: dict[str, tuple[str, bytes, list[str]]] = {
    "empty file": ("a.csv", b"", ["no rows"]),
    "header only": ("a.csv", b"text,label\n", ["no rows"]),
    "empty jsonl": ("a.jsonl", b"\n", ["no rows"]),
    "no text column": ("a.csv", b"body,label\nx,1\n", ["text, sentence or review", "'body', 'label'"]),
    "text under another name": (
        "a.csv",
        b"Review ID,Review Text,Star Rating\n1,x,1\n",
        ["or pass --text_column_names 'Review Text'; found"],
    ),
    "no header": ("a.csv", b"a good film,1\nbad,0\n", ["no text column", "'a good film', '1'"]),
    "two text columns": ("a.csv", b"text,review,label\nx,y,1\n", ["'text' and 'review'", "keep one"]),
    "duplicate column": ("a.csv", b"text,label,label\nx,1,1\n", ["2 columns are named 'label'", "rename them"]),
    "misnamed label": (
        "a.csv",
        b"text,sentiment\nx,1\n",
        ["'sentiment'", "--label_column_name sentiment"],
    ),
    "rating with a space": ("a.csv", b"text,Star Rating\nx,1\n", ["pass --label_column_name 'Star Rating', or"]),
    "masked and labelled": ("a.csv", b"text,label\nx,1\ny,-1\n", ["1 rows with label -1", "--unlabelled_value -1"]),
    "label object": ("a.jsonl", b'{"text": "x", "label": {"a": 1}}\n', ["row 1", "no column 'label'", "'label.a'"]),
    "label list": ("a.jsonl", b'{"text": "x", "label": [1]}\n', ["row 1", "column 'label'", "[1]"]),
    "short row": ("a.csv", b"text,label\nx,1\ny\n", ["row 2", "1 fields", "2"]),
    "long row": ("a.csv", b"text,label\nx, y,1\n", ["row 1", "3 fields", "quote"]),
    "long tsv row": ("a.tsv", b"text\tlabel\nx\t1\nx\ty\t1\n", ["row 2", "3 fields"]),
    "open quote": ("a.csv", b'text,label\nx,1\n"y,1\nz,0\n', ["row 2", "quote is not closed"]),
    "stray quote": ("a.csv", b'text,label\nx,1\n"y" z, w,1\n', ["row 2", "malformed"]),
    "bad byte": ("a.csv", b"text,label\nx,1\ncaf\xe9,1\n", ["row 2", "column 'text'", "byte 0xE9", "UTF-8"]),
    "bad byte in tsv": ("a.tsv", b"label\treview\n1\t\xff\n", ["row 1", "column 'review'", "byte 0xFF"]),
    "bad byte in jsonl": (
        "a.jsonl",
        b'{"text": "x"}\n{"text": "caf\xe9"}\n',
        ["row 2", "column 'text'", "byte 0xE9"],
    ),
    "lone surrogate": ("a.jsonl", b'{"text": "\\ud83d"}\n', ["row 1", "column 'text'", "\\ud83d"]),
    "text number": ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', ["row 2", "column 'text'", "found 5"]),
    "text list": ("a.jsonl", b'{"text": ["x"]}\n', ["row 1", "column 'text'", "['x']"]),
    "broken json": ("a.jsonl", b'{"text": "x"}\n{"text": \n', ["line 2", "not JSON"]),
    "json array": ("a.jsonl", b'["x", 1]\n', ["element 1 of the array is no object, but 'x'"]),
    "json number": ("a.jsonl", b'{"text": "x"}\n7\n', ["line 2", "not a JSON object"]),
    "open array": ("a.json", b'[{"text": "x"}, {"text": "y"', ["object 2 of the array is not JSON"]),
    "cut off array": ("a.json", b'[{"text": "x"}, ', ["not closed after object 1"]),
    "json twice": ("a.jsonl", b'{"text": "x", "text": "y"}\n', ["line 1", "two columns named 'text'", "rename one"]),
    "json array twice": ("a.json", b'[{"text": "x"}, {"id": 1, "id": 2}]', ["object 2", "two columns named 'id'"]),
    "json path twice": ("a.jsonl", b'{"text": "x", "a": {"b": 1}, "a.b": 2}\n', ["line 1", "'a.b'"]),
    "unread column twice": ("a.csv", b"note,text,note\nx,1,1\n", ["2 columns are named 'note'", "rename them"]),
    "named column twice": ("a.tsv", b"text\ttext\nx\ty\n", ["2 columns are named 'text'"]),
    "json lost column": ("a.jsonl", b'{"text": "x"}\n{"review": "y"}\n', ["row 2", "'text'"]),
    "deep json": ("a.jsonl", b'{"text": ' + b"[" * 100_000 + b"\n", ["line 1", "not JSON"]),
    "no parquet": ("a.parquet", b"text,label\nx,1\n", ["not a Parquet file"]),
    "other kind": ("a.xlsx", b"good\n", ["not an Excel workbook"]),
    "blank text": ("a.txt", b"\n \r\n", ["no rows"]),
    "bad byte in text": ("a.txt", b"good\n\ncaf\xe9\n", ["row 3", "byte 0xE9 at character 4", "--encoding cp125"]),
}


def assert_refused(dataset: Path | str, parts: list[str], data_dir: str | None = None) -> None:
    with pytest.raises(InputError) as refusal:
        load_reviews(str(dataset), data_dir)
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) < 600
    for part in parts:
        assert part in message


@pytest.mark.parametrize("fault", ERRORS)
def test_error_in_a_file_is_one_line(folder: Path, fault: str) -> None:
    name, content, parts = ERRORS[fault]
    (folder / name).write_bytes(content)
    assert_refused(folder / name, [str(folder / name), *parts])


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"text": [], "label": []}, ["no rows"]),
        ({"body": ["x"]}, ["no text column", "'body'"]),
        ({"text": ["x", "y"], "label": [[1], [3]]}, ["row 1", "column 'label'", "label [1]"]),
        ({"text": [1, 2], "label": [1, 0]}, ["row 1", "column 'text'", "found 1"]),
        ({"text": [["x"]], "label": [1]}, ["row 1", "column 'text'", "['x']"]),
        ({"text": ["x"], "class": [1]}, ["no column 'label'", "'class'"]),
    ],
)
def test_error_in_a_parquet_file_is_one_line(folder: Path, columns: dict[str, Any], parts: list[str]) -> None:
    write_parquet(folder / "a.parquet", **columns)
    assert_refused(folder / "a.parquet", [str(folder / "a.parquet"), *parts])


def test_undecodable_bytes_in_parquet_are_refused(folder: Path) -> None:
    binary = pa.array([b"x", b"y", b"caf\xe9"])
    text = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    write_parquet(folder / "a.parquet", text=text, label=[1, 0, 1])
    assert_refused(folder / "a.parquet", [str(folder / "a.parquet"), "row 3", "column 'text'", "UTF-8"])
    with pytest.raises(InputError, match=r"row 3, column 'text': byte 0xE9 at character 4 is not UTF-8"):
        list(read_rows(str(folder / "a.parquet"), ColumnOptions()))


@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_damaged_parquet_is_refused(folder: Path, damage: str) -> None:
    path = folder / "a.parquet"
    pq.write_table(pa.table({"text": [f"review {i}" for i in range(5000)]}), path, compression="zstd")
    content = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:100] + b"\0" * 2000 + content[2100:])
    assert_refused(path, [str(path), "damaged"])
    with pytest.raises(InputError, match="damaged"):
        list(read_rows(str(path), ColumnOptions()))


def test_missing_file_is_refused(folder: Path) -> None:
    assert_refused(folder / "none.csv", ["no such file", str(folder / "none.csv")])


@pytest.mark.parametrize("dataset", ["sst3", "", "a/b/c", "../zzyzx", "/zzyzx", "owner/name?"])
def test_unknown_source_is_refused_with_the_choices(dataset: str) -> None:
    assert_refused(dataset, [repr(dataset), "sst2, imdb, snippets"])


# --- folders and local copies ---


def test_folder_in_the_layout_of_the_hub(folder: Path) -> None:
    write_parquet(folder / "plain_text" / "unsupervised-00000-of-00001.parquet", text=["a"], label=[-1])
    write_parquet(folder / "plain_text" / "train-00000-of-00002.parquet", text=["b"], label=[0])
    write_parquet(folder / "plain_text" / "train-00001-of-00002.parquet", text=["c", "d"], label=[1, 0])
    write_parquet(folder / ".cache" / "train-00000-of-00001.parquet", text=["hidden"], label=[1])
    (folder / "README.md").write_text("---\nconfigs: []\n---\n")
    loaded = load_reviews(str(folder))
    assert {split: rows["text"][:] for split, rows in loaded.items()} == {
        "train": ["b", "c", "d"],
        "unsupervised": ["a"],
    }


def test_folder_with_files_named_after_splits(folder: Path) -> None:
    (folder / "train.csv").write_text("text,label\na,1\n")
    (folder / "dev.tsv").write_text("sentence\tlabel\nb\t0\n")
    (folder / "test.jsonl").write_text('{"review": "c"}\n')
    (folder / "unsupervised.txt").write_text("d\n")
    (folder / "notes.csv").write_text("anything\n")
    (folder / "README.txt").write_text("anything\n")
    loaded = load_reviews(str(folder))
    assert {split: rows.to_dict() for split, rows in loaded.items()} == {
        "train": {"text": ["a"], "label": [1]},
        "validation": {"text": ["b"], "label": [0]},
        "test": {"text": ["c"], "label": [-1]},
        "unsupervised": {"text": ["d"], "label": [-1]},
    }


def test_folder_name_is_not_a_glob_pattern(tmp_path: Path) -> None:
    write_parquet(tmp_path / "my [reviews]" / "train.parquet", text=["a"], label=[1])
    assert load_reviews(str(tmp_path / "my [reviews]"))["train"].num_rows == 1


def test_error_in_a_later_shard_names_its_own_row(folder: Path) -> None:
    write_parquet(folder / "train-00000-of-00002.parquet", text=["a"] * 3, label=[0] * 3)
    write_parquet(folder / "train-00001-of-00002.parquet", text=["b", "\x00"], label=[[1], [9]])
    assert_refused(folder, [str(folder / "train-00001-of-00002.parquet"), "row 1", "label [1]"])


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([], ["no split", "none"]),
        (["reviews.csv"], ["no split", "reviews.csv"]),
        (["train.csv", "train.tsv"], ["train more than once", "train.csv, train.tsv"]),
        (["valid.csv", "dev.csv"], ["validation more than once", "dev.csv, valid.csv"]),
        (["a/train-00000-of-00001.parquet", "b/train-00000-of-00001.parquet"], ["train more than once"]),
        (
            ["train-00001-of-00003.parquet", "train-00002-of-00003.parquet"],
            ["train-00000-of-00003.parquet", "split train is missing"],
        ),
    ],
)
def test_folder_without_a_dataset_is_refused(folder: Path, names: list[str], parts: list[str]) -> None:
    for name in names:
        if name.endswith("parquet"):
            write_parquet(folder / name, text=["a"], label=[1])
        else:
            (folder / name).write_text("text,label\na,1\n")
    assert_refused(folder, [str(folder), *parts])


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        ("sst2", "sst2/data"),
        ("stanfordnlp/sst2", "sst2/data"),
        ("sst2", "stanfordnlp/sst2/data"),
        ("someone/films", "films"),
        ("someone/films", "someone/films"),
    ],
)
def test_local_copy_is_read_instead_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, place: str
) -> None:
    write_parquet(tmp_path / place / "train-00000-of-00001.parquet", sentence=["a"], label=[1], idx=[0])
    assert load_reviews(dataset, str(tmp_path))["train"].to_dict() == {"text": ["a"], "label": [1]}
    monkeypatch.setenv("SENTIMENT_DATA_DIR", str(tmp_path))
    assert load_reviews(dataset)["train"].num_rows == 1


def test_missing_local_copy_is_refused(tmp_path: Path) -> None:
    assert_refused("imdb", ["stanfordnlp/imdb", str(tmp_path / "imdb"), "--data_dir"], data_dir=str(tmp_path))


# --- embedded ---


def test_snippets_are_split_by_their_rating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = [2.5, -0.51, 0.51, 0.5, -0.5, 0.0]
    lines = [f'{row}\t{rating}\tNA \u2019quoted\u2019 "{row}' for row, rating in enumerate(ratings)]
    (tmp_path / "movieReviewSnippets_GroundTruth.txt").write_bytes("\r\n".join(lines).encode())
    monkeypatch.setattr(sources, "fetch_snippets", lambda: tmp_path)
    loaded = load_reviews("snippets")
    assert NEUTRAL_BOUND == 0.5
    assert loaded["train"]["label"][:] == [1, 0, 1]
    assert loaded["train"]["text"][0] == 'NA \u2019quoted\u2019 "0'
    assert loaded["unsupervised"]["label"][:] == [-1, -1, -1]


@pytest.mark.parametrize("name", SNIPPETS)
def test_each_of_the_embedded_sources_reads_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for file in SNIPPETS.values():
        (tmp_path / file).write_text(f"1\t3.1\tgood {file}\r\n2\t0.2\tso so")
    monkeypatch.setattr(sources, "fetch_snippets", lambda: tmp_path)
    loaded = load_reviews(name)
    assert loaded["train"].to_dict() == {"text": [f"good {SNIPPETS[name]}"], "label": [1]}
    assert loaded["unsupervised"].to_dict() == {"text": ["so so"], "label": [-1]}


@pytest.mark.parametrize(
    ("name", "negative", "positive", "uncertain"),
    [
        ("snippets_amazon", 1_218, 1_725, 765),
        ("snippets_nyt", 1_688, 1_100, 2_402),
        ("snippets_tweets", 1_062, 2_300, 838),
    ],
)
def test_embedded_sentences_have_the_counted_ratings(name: str, negative: int, positive: int, uncertain: int) -> None:
    if cached_package("snippets", embedded.SNIPPETS) is None:
        pytest.skip("the embedded snippets are not in the cache: run `sentiment fetch snippets` first")
    loaded = load_reviews(name)
    assert Counter(loaded["train"]["label"]) == {0: negative, 1: positive}
    assert len(loaded["unsupervised"]) == uncertain
    assert all(text.strip() for part in loaded.values() for text in part["text"])


# --- the Hub ---


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Hub answers: set its `error`; `calls` counts the questions."""
    state: dict[str, Any] = {"error": ConnectionError("no route"), "calls": 0, "seconds": 0.0}

    def repo_info(_self: Any, _repo_id: str, **_options: Any) -> None:
        state["calls"] += 1
        time.sleep(state["seconds"])
        if state["error"] is not None:
            raise state["error"]

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)
    # All tests run in offline mode; these have a Hub of their own.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    return state


class Response:
    status_code = 403
    headers: dict[str, str] = {}  # noqa: RUF012
    request = None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None, "cannot reach the Hugging Face Hub for dataset stanfordnlp/sst2: "),
        (RepositoryNotFoundError, "dataset stanfordnlp/sst2 is not on the Hugging Face Hub"),
        (GatedRepoError, "dataset stanfordnlp/sst2 is gated"),
    ],
)
def test_unreachable_missing_and_gated_have_their_own_messages(
    answer: dict[str, Any], kind: Any, expected: str
) -> None:
    if kind is not None:
        answer["error"] = kind("no", response=Response())
    assert_refused("sst2", [expected, "--dataset snippets", "a file of your own", "offline.yaml`"])
    assert answer["calls"] == 1


def test_unreachable_model_has_its_own_message(answer: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="model google-bert/bert-base-uncased: pass --model minilm"):
        check_hub("google-bert/bert-base-uncased", "model")
    assert answer["calls"] == 1


@pytest.mark.usefixtures("answer")
@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["/somewhere/train_e2e.py", "--lr", "1"], "python train_e2e.py offline.yaml"),
        (["train_mlm.py"], "python train_mlm.py offline_mlm.yaml"),
        (["/bin/sentiment", "finetune"], "sentiment finetune offline_finetune.yaml"),
        (["/sentiment/__main__.py", "study", "--jobs", "2"], "sentiment study offline_study.yaml"),
        (["/bin/sentiment", "evaluate", "x"], "sentiment train offline.yaml"),
        (["notebook"], "sentiment train offline.yaml"),
    ],
)
def test_the_way_out_without_a_hub_can_be_run(words: list[str], way_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(InputError, match=f"or run `{re.escape(way_out)}`, which needs no Hub"):
        check_hub("google-bert/bert-base-uncased", "model")
    assert (find_yaml(Path(way_out.split()[-1]))).is_file()  # from any folder


def test_silent_hub_times_out(answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    answer.update(error=None, seconds=1.0)
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.05)
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot reach"):
        check_hub("stanfordnlp/sst2", "dataset")
    assert time.monotonic() - start < 0.9


def test_offline_mode_sends_no_request(answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert_refused("sst2", ["HF_HUB_OFFLINE is set", "stanfordnlp/sst2"])
    assert answer["calls"] == 0


def test_reachable_hub_is_loaded(tmp_path: Path, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    answer["error"] = None
    write_parquet(tmp_path / "hub.parquet", sentence=["a"], label=[1], idx=[0])
    raw = datasets.DatasetDict({"train": datasets.Dataset.from_parquet(str(tmp_path / "hub.parquet"))})
    monkeypatch.setattr(hub, "load_dataset", lambda repo_id, **_: {"stanfordnlp/sst2": raw}[repo_id])
    assert load_reviews("sst2")["train"].to_dict() == {"text": ["a"], "label": [1]}


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def warm_cache(tmp_path: Path) -> list[dict[str, Any]]:
    """The rows in a cache folder as `load_dataset("stanfordnlp/sst2")` leaves it."""
    rows = [{"text": f"review {row}", "label": row % 2} for row in range(40)]
    texts, labels = ([row[name] for row in rows] for name in ("text", "label"))
    write_parquet(tmp_path / "published.parquet", sentence=texts, label=labels, idx=list(range(40)))
    builder = Parquet(dataset_name="sst2", hash=COMMIT, data_files={"train": str(tmp_path / "published.parquet")})
    builder.download_and_prepare()
    cached = Path(datasets.config.HF_DATASETS_CACHE, "stanfordnlp___sst2", "default", "0.0.0", COMMIT)
    cached.parent.mkdir(parents=True)
    Path(builder.cache_dir).rename(cached)
    info = json.loads((cached / "dataset_info.json").read_text())
    (cached / "dataset_info.json").write_text(json.dumps({**info, "config_name": "default"}))
    return rows


def test_warm_cache_serves_without_the_hub(
    answer: dict[str, Any], warm_cache: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if `datasets` no longer has the switch that `offline_datasets` sets: it then asks the Hub, with retries."""
    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    start = time.monotonic()
    assert list(load_reviews("sst2")["train"]) == warm_cache
    assert time.monotonic() - start < 3
    assert answer["calls"] == 1
    assert not datasets.config.HF_HUB_OFFLINE
    assert list(load_reviews("sst2", streaming=True)["train"]) == [{"text": row["text"]} for row in warm_cache]


@pytest.mark.usefixtures("answer", "warm_cache")
def test_commit_of_a_hub_dataset_is_part_of_the_audit(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    assert prepare_data(DataArguments(), 1, tokenizer).audit["dataset_revisions"] == [COMMIT]
    corpus_args = CorpusArguments(dataset_name=["sst2"], target_dataset="none")
    data = prepare_adaptation_data(corpus_args, AdaptationArguments(batch_size=8), tokenizer)
    assert data.audit["dataset_revisions"] == [COMMIT]


@pytest.mark.usefixtures("warm_cache")
def test_cache_serves_the_pinned_revision_only(answer: dict[str, Any]) -> None:
    assert load_reviews("sst2", revision=COMMIT)["train"].num_rows == 40
    with pytest.raises(
        InputError, match="cannot reach the Hugging Face Hub for dataset stanfordnlp/sst2 at revision v"
    ):
        load_reviews("sst2", revision="v2")
    answer["error"] = RevisionNotFoundError("no", response=Response())
    with pytest.raises(InputError, match="dataset stanfordnlp/sst2 at revision v2 is not on the Hugging Face Hub"):
        load_reviews("sst2", revision="v2")


def test_revision_is_loaded_from_the_hub_and_recorded(answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    answer["error"] = None
    asked = []
    rows = datasets.Dataset.from_dict({"sentence": ["a"], "label": [1]})
    monkeypatch.setattr(hub, "load_dataset", lambda *call, **options: asked.append((call, options)) or {"train": rows})
    load_reviews("owner/films", revision="v1")
    load_reviews("owner/films", streaming=True)
    assert asked == [
        (("owner/films",), {"revision": "v1", "streaming": False}),
        (("owner/films",), {"revision": None, "streaming": True}),
    ]


def test_rows_of_files_have_no_revision(folder: Path) -> None:
    (folder / "a.csv").write_text("text,label\ngood,1\n")
    assert find_revisions(load_reviews(str(folder / "a.csv"))["train"]) == []


def test_cached_model_is_found(tmp_path: Path, answer: dict[str, Any]) -> None:
    snapshot = tmp_path / "hub-cache" / "models--google-bert--bert-base-uncased"
    (snapshot / "snapshots" / "abc").mkdir(parents=True)
    (snapshot / "snapshots" / "abc" / "config.json").write_text("{}")
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("abc")
    assert check_hub("google-bert/bert-base-uncased", "model") is False
    answer["error"] = None
    assert check_hub("google-bert/bert-base-uncased", "model") is True


# --- the published files ---


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="SENTIMENT_DATA_DIR is not set: no published files to read")
@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (
            "sst2",
            {"train": {0: 29_780, 1: 37_569}, "validation": {0: 428, 1: 444}, "test": {-1: 1_821}},
        ),
        (
            "imdb",
            {"train": {0: 12_500, 1: 12_500}, "test": {0: 12_500, 1: 12_500}, "unsupervised": {-1: 50_000}},
        ),
    ],
)
def test_published_files_have_the_published_counts(dataset: str, expected: dict[str, dict[int, int]]) -> None:
    loaded = load_reviews(dataset, REAL_DATA)
    assert {split: dict(Counter(rows["label"])) for split, rows in loaded.items()} == expected
    assert all(rows.column_names == ["text", "label"] for rows in loaded.values())
