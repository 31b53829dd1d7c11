"""`sentiment predict`: texts from files and streams to CSV, with a stub predictor."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.data.files import read_lines
from sentiment.exceptions import InputError
from sentiment.inference.file_prediction import CHUNK_SIZE, answer_prompts, read_texts, write_predicted_labels
from sentiment.inference.predictor import Prediction

TEXTS = ["a good, fine film", 'he said "good"', "line one\nline two", " bad ", "naïve 😀"]


class StubPredictor:
    """Predicts positive for texts with the word good."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, texts: Sequence[str]) -> list[Prediction | None]:
        self.calls.append(len(texts))
        return [self.predict_one(text) if text.replace("<br />", " ").strip() else None for text in texts]

    def predict_one(self, text: str) -> Prediction:
        if "good" in text:
            return Prediction("positive", 0.75, {"negative": 0.25, "positive": 0.75})
        return Prediction("negative", 0.875, {"negative": 0.875, "positive": 0.125})


@pytest.fixture
def predictor() -> Any:
    return StubPredictor()


def read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_one_row_per_text_in_order_and_quoted(predictor: Any, tmp_path: Path) -> None:
    output = tmp_path / "labelled.csv"
    write_predicted_labels(predictor, TEXTS, output)
    header, *rows = read_rows(output)
    assert header == ["text", "label", "score"]
    assert [text for text, _, _ in rows] == TEXTS
    assert [row[1:] for row in rows] == [
        ["positive", "0.750000"] if "good" in text else ["negative", "0.875000"] for text in TEXTS
    ]
    assert b"\r" not in output.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.csv"]


def test_blank_texts_have_a_row_without_a_label(predictor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write_predicted_labels(predictor, ["", "good", " \t", "<br />", "bad"], None)
    lines = ["text,label,score", ",,", "good,positive,0.750000", " \t,,", "<br />,,", "bad,negative,0.875000"]
    assert capsys.readouterr().out.splitlines() == lines
    write_predicted_labels(predictor, [], None)
    assert capsys.readouterr().out == "text,label,score\n"


def test_many_texts_are_predicted_in_chunks(predictor: Any, tmp_path: Path) -> None:
    texts = ["good" if row % 3 else "bad" for row in range(2 * CHUNK_SIZE + 5)]
    write_predicted_labels(predictor, iter(texts), tmp_path / "labelled.csv")
    assert predictor.calls == [CHUNK_SIZE, CHUNK_SIZE, 5]
    assert [row[:2] for row in read_rows(tmp_path / "labelled.csv")[1:]] == [
        [text, "positive" if text == "good" else "negative"] for text in texts
    ]


def test_an_error_leaves_the_old_file(predictor: Any, tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield from ["good"] * (CHUNK_SIZE + 1)
        raise InputError("row 7 is wrong")

    output = tmp_path / "labelled.csv"
    output.write_text("old")
    with pytest.raises(InputError, match="row 7 is wrong"):
        write_predicted_labels(predictor, texts(), output)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.csv"]


def test_wrong_input_leaves_no_header_on_stdout(
    predictor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no file"):
        write_predicted_labels(predictor, read_texts(str(tmp_path / "missing.txt")), None)
    assert capsys.readouterr().out == ""


def test_missing_folders_are_created(predictor: Any, tmp_path: Path) -> None:
    write_predicted_labels(predictor, ["good"], tmp_path / "new" / "folder" / "labelled.csv")
    assert len(read_rows(tmp_path / "new" / "folder" / "labelled.csv")) == 2


@pytest.mark.parametrize("path", ["file/labelled.csv", "folder"])
def test_paths_that_cannot_be_written(path: str, predictor: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"cannot write {tmp_path / path}: "):
        write_predicted_labels(predictor, TEXTS, tmp_path / path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "A.CSV"])
def test_text_column_of_tables(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.jsonl":
        path.write_text('{"id": 1, "review": "good, \\"fine\\""}\n{"id": 2, "review": ""}\n')
    elif name == "a.parquet":
        pq.write_table(pa.table({"id": [1, 2], "sentence": ['good, "fine"', ""]}), path)
    elif name == "a.tsv":
        path.write_text('id\ttext\n1\tgood, "fine"\n2\t\n')
    else:
        path.write_text('id,text\n1,"good, ""fine"""\n2,\n')
    assert list(read_texts(str(path))) == ['good, "fine"', ""]


def test_other_files_are_read_by_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_bytes('\ufeffgood, film\r\n\r\n  naïve 😀\n"bad"\tx'.encode())
    assert list(read_texts(str(path))) == ["good, film", "", "  naïve 😀", '"bad"\tx']


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"good\nb\xe4d\n", "line 2 is not UTF-8 (byte 2)"), (b"\xff\xfeg\0", "line 1 is not UTF-8 (byte 1)")],
)
def test_lines_that_are_not_utf8_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        list(read_lines(io.BytesIO(content), "stdin"))
    assert str(refusal.value) == f"stdin: {message}: save it as UTF-8"
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError) as refusal:
        list(read_texts(str(tmp_path / "a.txt")))
    assert str(refusal.value) == f"{tmp_path / 'a.txt'}: {message}: save it as UTF-8"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*missing\.csv: pass --file with an existing file"):
        list(read_texts(str(tmp_path / "missing.csv")))
    with pytest.raises(InputError, match="no file"):
        list(read_texts(str(tmp_path)))
    (tmp_path / "a.csv").write_text("id,comment\n1,good\n")
    with pytest.raises(InputError, match=r"a\.csv: no text column"):
        list(read_texts(str(tmp_path / "a.csv")))


def test_prompts_end_with_an_empty_line(
    predictor: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter([" a good film ", "bad", "", "never asked"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    answer_prompts(predictor)
    assert capsys.readouterr().out.splitlines()[1:] == ["positive (75.0%)", "negative (87.5%)"]
    assert next(typed) == "never asked"


def test_prompts_end_with_the_end_of_input(
    predictor: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    answer_prompts(predictor)
    assert "an empty line ends" in capsys.readouterr().out


def test_label_columns_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "rated.csv"
    path.write_text("review,label,sentiment\nfine film,5 stars,good\n", encoding="utf-8")
    assert list(read_texts(str(path))) == ["fine film"]
