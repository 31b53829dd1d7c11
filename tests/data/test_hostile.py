"""Arbitrary files: each is read unchanged or refused in one line, in linear time."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.config.arguments import DataArguments
from sentiment.data.sources import load_reviews
from sentiment.data.splits import split_reviews
from sentiment.data.tokenization import tokenize_batch
from sentiment.exceptions import InputError
from sentiment.models.loading import load_tokenizer

ODD = st.sampled_from(
    ["\x00", "\x1a", "\x7f", "\u202e", "\u2066", "\ufeff", "\u2028", "\x85", "\r", "\n", '"', ",", "\t", "\\", "é", "𝄞"]
)
TEXTS = st.lists(st.lists(ODD | st.text(max_size=3), max_size=8).map("".join), min_size=1, max_size=6)
# Half of what is tried is nearly a file of reviews.
FRAGMENTS = st.sampled_from(
    [
        *(b"text,label\n", b"good,1\n", b'"bad",0\n', b"text\tlabel\n", b",,,,\n", b'"', b"\r\n", b"\r", b"\x00"),
        *(b'{"text": "good", "label": 1}\n', b'{"text": ', b"[1]\n", b"null\n", b"1e999", b"PAR1"),
        *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80"),
    ]
)
LABELS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
ROWS = st.tuples(
    st.sampled_from(["good", "Good!", "bad", "<b>", "", "é", "\u202e", "a b"]), st.sampled_from([-1, 0, 1])
)
FILES = st.lists(FRAGMENTS | st.binary(max_size=8), max_size=12).map(b"".join)
few = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file; None where it is refused, which takes one line that names the file."""
    message = ""
    try:
        (rows,) = load_reviews(str(path)).values()
    except InputError as error:
        message = str(error)
    if message:
        assert path.name in message
        assert "\n" not in message
        return None
    return list(rows)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@few
@given(content=FILES)
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"reviews.{suffix}"
    path.write_bytes(content)
    for row in read(path) or []:
        assert isinstance(row["text"], str)
        assert row["label"] in (-1, 0, 1)


def write_csv(path: Path, texts: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([text, 1] for text in texts)])


def write_jsonl(path: Path, texts: list[str]) -> None:
    lines = "".join(json.dumps({"text": text, "label": 1}) + "\n" for text in texts)
    path.write_text(lines, encoding="utf-8")


def write_parquet(path: Path, texts: list[str]) -> None:
    pyarrow.parquet.write_table(pa.table({"text": texts, "label": [1] * len(texts)}), path)


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
@few
@given(texts=TEXTS)
def test_any_text_is_read_back_unchanged(
    texts: list[str], write: Callable[[Path, list[str]], None], tmp_path: Path
) -> None:
    path = tmp_path / f"reviews.{write.__name__.removeprefix('write_')}"
    write(path, texts)
    rows = read(path)
    if rows is None:
        assert any("\x00" in text for text in texts)
        assert write is write_csv
    else:
        assert [row["text"] for row in rows] == texts


@few
@given(label=LABELS)
def test_any_label_is_parsed_or_refused(label: Any, tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text(json.dumps({"text": "good", "label": label}) + "\n", encoding="utf-8")
    rows = read(path)
    if rows is not None:
        spelling = str(label).strip().lower()
        binary = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "-0.0": 0, "true": 1, "false": 0, "neg": 0, "pos": 1}
        is_missing = label is None or spelling in ("", "nan", "-1", "-1.0")
        # Any other label is the only class, number 0.
        assert rows == [{"text": "good", "label": -1 if is_missing else binary.get(spelling, 0)}]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"good", b"bad"]),
        pa.array(["good", "bad"], pa.large_string()),
        pa.array(["good", "bad"]).dictionary_encode(),
        pa.array([["good"], ["bad"]]),
        pa.array([{"a": "good"}, {"a": "bad"}]),
        pa.array([1.5, 2.5]),
        pa.array([1, 2], pa.timestamp("s")),
        pa.nulls(2),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("place", ["text", "label"])
def test_parquet_of_any_type_is_read_or_refused(column: pa.Array, place: str, tmp_path: Path) -> None:
    columns: dict[str, Any] = {"text": pa.array(["good", "bad"]), "label": pa.array([1, 0])}
    pyarrow.parquet.write_table(pa.table(columns | {place: column}), tmp_path / "reviews.parquet")
    rows = read(tmp_path / "reviews.parquet")
    if rows is not None:
        assert all(isinstance(row["text"], str) and row["label"] in (-1, 0, 1) for row in rows)


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_reading_a_line_of_megabytes_is_linear(write: Callable[[Path, list[str]], None], tmp_path: Path) -> None:
    seconds = {}
    for size in (1, 8):
        path = tmp_path / f"{size}.{write.__name__.removeprefix('write_')}"
        write(path, ["<a &amp; \u202e" * (size * 100_000)])
        started = time.process_time()
        read(path)
        seconds[size] = time.process_time() - started
    assert seconds[8] < 8 * (seconds[1] + 0.5)  # of quadratic cost, 64 times


@pytest.mark.parametrize("unit", ["good film ", "a", "é", "映画", "!?", "\u202e", "\x00 x", "\n"])
def test_tokenizing_a_text_of_megabytes_is_linear(unit: str, tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_bert))
    seconds = {}
    for size in (1, 8):
        started = time.process_time()
        batch = tokenize_batch({"text": [unit * (size * 100_000 // len(unit))]}, tokenizer, 128)
        seconds[size] = time.process_time() - started
        assert batch["length"][0] <= 128
    assert seconds[8] < 8 * (seconds[1] + 0.5)


@few
@given(
    rows=st.lists(ROWS),
    how=st.sampled_from(["stratified", "grouped"]),
    cleaning=st.sampled_from(["light", "classic"]),
)
def test_no_text_is_in_two_splits(rows: list[tuple[str, int]], how: str, cleaning: str) -> None:
    rows += [(f"film {number}", number % 2) for number in range(40)]
    texts, labels = map(list, zip(*rows, strict=True))
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    reviews = DatasetDict({"train": Dataset.from_dict({"text": texts, "label": labels}, features=features)})
    splits = split_reviews(reviews, DataArguments(split=how, max_rows="all", cleaning=cleaning), seed=0).splits
    sides = [set(part["key"]) for part in splits.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    for part in splits.values():
        assert all(part["text"][:])
        assert set(part["label"]) <= {0, 1}
