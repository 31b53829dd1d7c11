"""`sentiment predict`: texts from files and streams to tables, with a stub predictor."""

import csv
import datetime
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.data.files import read_lines
from sentiment.exceptions import InputError
from sentiment.inference import table_writers
from sentiment.inference.file_prediction import (
    CHUNK_SIZE,
    Row,
    answer_prompts,
    build_rows,
    check_output,
    read_rows,
    read_schema,
    write_predictions,
)
from sentiment.inference.predictor import Prediction

TEXTS = ["a good, fine film", 'he said "good"', "line one\nline two", " bad ", "naïve 😀"]


class StubPredictor:
    """Predicts positive for texts with the word good."""

    checkpoint = SimpleNamespace(labels=("negative", "positive"))

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


def read_rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def read_text_cells(path: str) -> list[str]:
    return [row.text for row in read_rows(path)]


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a file in any of the formats."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    if path.suffix == ".xlsx":
        header, *rows = openpyxl.load_workbook(path).active.values
        return [dict(zip(header, row, strict=True)) for row in rows]
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="," if path.suffix == ".csv" else "\t"))


FORMATS = (".csv", ".tsv", ".tab", ".jsonl", ".parquet", ".xlsx")


def test_one_row_per_text_in_order_and_quoted(predictor: Any, tmp_path: Path) -> None:
    output = tmp_path / "labelled.csv"
    write_predictions(predictor, build_rows(TEXTS), output)
    header, *rows = read_rows_of(output)
    assert header == ["text", "label", "score"]
    assert [text for text, _, _ in rows] == TEXTS
    assert [row[1:] for row in rows] == [
        ["positive", "0.750000"] if "good" in text else ["negative", "0.875000"] for text in TEXTS
    ]
    assert b"\r" not in output.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.csv"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_suffix_decides_the_format(suffix: str, predictor: Any, tmp_path: Path) -> None:
    output = tmp_path / f"labelled{suffix}"
    texts = [*TEXTS, "=1+1", " ", "#N/A", "007", "مرحبا", "很好\x0b"]
    rows = [Row(text, {"id": str(number), "review": text}) for number, text in enumerate(texts)]
    write_predictions(predictor, rows, output, with_probabilities=True)
    found = read_table(output)
    assert [[*row] for row in found] == [["id", "review", "label", "score", "p_negative", "p_positive"]] * len(texts)
    assert [row["id"] for row in found] == [str(number) for number in range(len(texts))]
    assert [row["review"].replace("_x000B_", "\x0b") for row in found] == texts
    for row, prediction in zip(found, predictor.predict(texts), strict=True):
        assert (row["label"] or None) == (prediction and prediction.label)
        numbers = [row["score"], row["p_negative"], row["p_positive"]]
        if prediction is None:
            assert [number or None for number in numbers] == [None] * 3
        else:
            assert [float(number) for number in numbers] == [prediction.score, *prediction.probabilities.values()]
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_columns_of_every_kind_are_kept(suffix: str, predictor: Any, tmp_path: Path) -> None:
    values = {
        "stars": [5, None],
        "price": [1.5, 2.0],
        "liked": [True, False],
        "order": [12345678901234567, 2],
        "at": [datetime.date(2024, 5, 1), None],
        "nested": [{"a": [1]}, {"a": []}],
        "empty": [None, None],
    }
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["good", "bad"]} | values), tmp_path / "in.parquet")
    values["nested.a"] = [[1], []]  # fields of a struct are columns, by their path
    values = {name: values[name] for name in (*list(values)[:5], "nested.a", "empty")}
    source = str(tmp_path / "in.parquet")
    output = tmp_path / f"out{suffix}"
    write_predictions(predictor, read_rows(source), output, schema=read_schema(source))
    first, second = read_table(output)
    assert [*first] == ["id", "text", *values, "label", "score"]
    if suffix == ".parquet":
        assert {name: [first[name], second[name]] for name in values} == values
        kept = read_schema(source)
        assert kept is not None
        assert [pq.read_schema(output).field(name).type for name in kept.names] == kept.types
        return
    assert [str(first["stars"]), str(first["price"])] == ["5", "1.5"]
    assert [str(first["liked"]).lower(), str(second["liked"]).lower()] == ["true", "false"]
    assert second["stars"] in ("", None)
    assert str(first["order"]) == "12345678901234567"
    assert str(first["at"]) == "2024-05-01"
    assert first["nested.a"] in ([1], "[1]")


def test_columns_with_the_names_of_the_predictions(
    predictor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("label,p_positive,review,score\n1,x,good,0.5\n0,y,bad,\n")
    write_predictions(predictor, read_rows(str(tmp_path / "in.csv")), None)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "input_label,p_positive,review,input_score,label,score",
        "1,x,good,0.5,positive,0.750000",
        "0,y,bad,,negative,0.875000",
    ]
    assert printed.err.splitlines() == [
        "columns of the input whose names the prediction has are written as others: label as input_label, "
        "score as input_score"
    ]
    write_predictions(predictor, read_rows(str(tmp_path / "in.csv")), None, with_probabilities=True)
    assert capsys.readouterr().out.splitlines()[0] == (
        "input_label,input_p_positive,review,input_score,label,score,p_negative,p_positive"
    )
    (tmp_path / "in.csv").write_text("label,input_label,text\n1,2,good\n")
    with pytest.raises(InputError, match=r"the input has columns 'label' and 'input_label'.*rename one of them"):
        write_predictions(predictor, read_rows(str(tmp_path / "in.csv")), tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_line_says_what_was_written(predictor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,good\n2,\n3,bad\n")
    write_predictions(predictor, read_rows(str(tmp_path / "in.csv")), tmp_path / "out.csv")
    assert capsys.readouterr().err.splitlines() == [f"{tmp_path / 'out.csv'}: 3 rows, 1 without a text"]


def test_rows_of_json_lines_may_have_columns_of_their_own(predictor: Any, tmp_path: Path) -> None:
    rows = [Row("good", {"text": "good", "a": 1})] * CHUNK_SIZE + [Row("bad", {"text": "bad", "b": None})]
    write_predictions(predictor, rows, tmp_path / "out.jsonl")
    *_, last = read_table(tmp_path / "out.jsonl")
    assert last == {"text": "bad", "b": None, "label": "negative", "score": 0.875}
    for suffix in (".csv", ".parquet", ".xlsx"):
        with pytest.raises(InputError, match=r"a later row has the column 'b'.*write \.jsonl"):
            write_predictions(predictor, rows, tmp_path / f"out{suffix}")
    within = [Row("good", {"text": "good", "a": 1}), Row("bad", {"text": "bad", "b": 2})]
    write_predictions(predictor, within, tmp_path / "out.csv")
    assert read_rows_of(tmp_path / "out.csv")[0] == ["text", "a", "b", "label", "score"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.jsonl"]


def test_values_of_several_types_do_not_fit_into_parquet(predictor: Any, tmp_path: Path) -> None:
    rows = [Row("good", {"text": "good", "a": 1})] * CHUNK_SIZE
    for value in ("one", 1.5, True, {"b": 1}, 2**70):
        with pytest.raises(InputError, match=r"column 'a' has values of several types .*write \.jsonl or \.csv"):
            write_predictions(predictor, [*rows, Row("bad", {"text": "bad", "a": value})], tmp_path / "out.parquet")
        assert list(tmp_path.iterdir()) == []


def test_nested_values_of_json_keep_every_key_in_parquet(predictor: Any, tmp_path: Path) -> None:
    rows = [Row("good", {"text": "good", "a": {"b": 1}})] * CHUNK_SIZE + [Row("bad", {"text": "bad", "a": {"c": 2}})]
    write_predictions(predictor, rows, tmp_path / "out.parquet")
    first, *_, last = read_table(tmp_path / "out.parquet")
    assert [json.loads(row["a"]) for row in (first, last)] == [{"b": 1}, {"c": 2}]


def test_limits_of_excel(predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.xlsx"
    write_predictions(predictor, build_rows(["x" * 32_767]), output)
    with pytest.raises(InputError, match=r"row 2: 'xxx.*' has 32,768 characters, and a cell of \.xlsx holds 32,767"):
        write_predictions(predictor, build_rows(["good", "x" * 32_768]), output)
    monkeypatch.setattr(table_writers, "EXCEL_ROWS", 3)
    write_predictions(predictor, build_rows(["good"] * 2), output)
    with pytest.raises(InputError, match=r"\.xlsx holds 2 rows at most: write \.csv or \.parquet"):
        write_predictions(predictor, build_rows(["good"] * 3), output)
    assert [path.name for path in tmp_path.iterdir()] == ["out.xlsx"]
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"pip install 'adapt-or-finetune\[excel\]'"):
        write_predictions(predictor, build_rows(["good"]), output)


@pytest.mark.parametrize("name", ["out", "out.txt", "out.csv.gz", "out.json"])
def test_other_suffixes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the suffix names the format, one of \.csv, .*\.xlsx"):
        check_output(tmp_path / name)


def test_the_input_is_never_written_over(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\ngood\n")
    (tmp_path / "link.csv").symlink_to(source)
    os.link(source, tmp_path / "hard.csv")
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "b.csv.part").symlink_to(source)
    others = [tmp_path / name for name in ("link.csv", "hard.csv", "folder/in.csv", "../" + tmp_path.name + "/in.csv")]
    with source.open() as stream:
        for path in (source, *others, tmp_path / "b.csv"):
            for read in (str(source), stream.fileno()):
                with pytest.raises(InputError, match="is the file that is read, which would be lost: name another"):
                    check_output(path, read)
        check_output(tmp_path / "new.csv", stream.fileno())
    check_output(tmp_path / "new.csv", str(source))
    check_output(tmp_path / "new.csv", str(tmp_path / "missing.csv"))
    check_output(None, str(source))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_sigterm_leaves_no_unfinished_file(suffix: str, tiny_classifier: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sentiment", "predict", str(tiny_classifier), "--output", f"out{suffix}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    # It waits for more rows after the first chunk.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, text=True
    ) as started:
        assert started.stdin is not None
        started.stdin.write("a good film\n" * (CHUNK_SIZE + 1))
        started.stdin.flush()
        wait_until(lambda: bool(list(tmp_path.glob("*.part"))))
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in (started.stderr.read() if started.stderr else "")
    assert list(tmp_path.iterdir()) == []


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("timeout")


def test_blank_texts_have_a_row_without_a_label(predictor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write_predictions(predictor, build_rows(["", "good", " \t", "<br />", "bad"]), None)
    lines = ["text,label,score", ",,", "good,positive,0.750000", " \t,,", "<br />,,", "bad,negative,0.875000"]
    assert capsys.readouterr().out.splitlines() == lines
    write_predictions(predictor, [], None)
    assert capsys.readouterr().out == "text,label,score\n"


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_rows(suffix: str, predictor: Any, tmp_path: Path) -> None:
    write_predictions(predictor, [], tmp_path / f"out{suffix}")
    assert read_table(tmp_path / f"out{suffix}") == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_many_texts_are_predicted_in_chunks(suffix: str, predictor: Any, tmp_path: Path) -> None:
    texts = ["good" if row % 3 else "bad" for row in range(2 * CHUNK_SIZE + 5)]
    write_predictions(predictor, build_rows(iter(texts)), tmp_path / f"labelled{suffix}")
    assert predictor.calls == [CHUNK_SIZE, CHUNK_SIZE, 5]
    assert [(row["text"], row["label"]) for row in read_table(tmp_path / f"labelled{suffix}")] == [
        (text, "positive" if text == "good" else "negative") for text in texts
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_error_leaves_the_old_file(suffix: str, predictor: Any, tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield from ["good"] * (CHUNK_SIZE + 1)
        raise InputError("row 7 is wrong")

    output = tmp_path / f"labelled{suffix}"
    output.write_text("old")
    with pytest.raises(InputError, match="row 7 is wrong"):
        write_predictions(predictor, build_rows(texts()), output)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_wrong_input_leaves_no_header_on_stdout(
    predictor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no file"):
        write_predictions(predictor, read_rows(str(tmp_path / "missing.txt")), None)
    assert capsys.readouterr().out == ""


def test_missing_folders_are_created(predictor: Any, tmp_path: Path) -> None:
    write_predictions(predictor, build_rows(["good"]), tmp_path / "new" / "folder" / "labelled.csv")
    assert len(read_rows_of(tmp_path / "new" / "folder" / "labelled.csv")) == 2


def test_paths_that_cannot_be_written(predictor: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "file/labelled.csv", tmp_path / "folder.csv"):
        with pytest.raises(InputError, match=f"cannot write {path}: "):
            write_predictions(predictor, build_rows(TEXTS), path)
    with pytest.raises(InputError, match=r"cannot write .*folder\.csv: it is a folder"):
        check_output(tmp_path / "folder.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_bytes_of_any_column_that_are_not_utf8_are_named(predictor: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"name,text\na,good\nM\xfcller,bad\n")
    with pytest.raises(InputError, match=r"in\.csv: row 2, column 'name': byte 0xFC at character 2 is not UTF-8"):
        write_predictions(predictor, read_rows(str(tmp_path / "in.csv")), tmp_path / "out.csv")


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
    assert list(read_text_cells(str(path))) == ['good, "fine"', ""]


def test_other_files_are_read_by_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_bytes('\ufeffgood, film\r\n\r\n  naïve 😀\n"bad"\tx'.encode())
    assert list(read_text_cells(str(path))) == ["good, film", "", "  naïve 😀", '"bad"\tx']


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"good\nb\xe4d\n", "line 2 is not UTF-8 (byte 2)")],
)
def test_lines_that_are_not_utf8_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        list(read_lines(io.BytesIO(content), "stdin"))
    assert str(refusal.value) == f"stdin: {message}: save it as UTF-8"
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError) as refusal:
        list(read_text_cells(str(tmp_path / "a.txt")))
    assert f"{tmp_path / 'a.txt'}: row 2, column 'text': byte 0xE4 at character 2 is not UTF-8" in str(refusal.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*missing\.csv: pass --file with an existing file"):
        list(read_text_cells(str(tmp_path / "missing.csv")))
    with pytest.raises(InputError, match="no file"):
        list(read_text_cells(str(tmp_path)))
    (tmp_path / "a.csv").write_text("id,comment\n1,good\n")
    with pytest.raises(InputError, match=r"a\.csv: no text column"):
        list(read_text_cells(str(tmp_path / "a.csv")))


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
    assert list(read_text_cells(str(path))) == ["fine film"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.data", b"text,label\ngood,1\nbad,0\n"),
        ("r", b"id;text\n1;good\n2;bad\n"),
        ("r.log", b'{"text": "good"}\n{"text": "bad"}\n'),
    ],
)
def test_tables_are_known_by_their_content(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert [row.text for row in read_rows(str(tmp_path / name))] == ["good", "bad"]


@pytest.mark.parametrize("name", ["r.txt", "r.log"])
def test_lines_of_text_stay_lines(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("a good text, really\nbad; very bad\n")
    assert [row.text for row in read_rows(str(tmp_path / name))] == ["a good text, really", "bad; very bad"]
