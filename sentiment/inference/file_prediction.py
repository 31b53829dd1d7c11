"""Reading and writing of `sentiment predict`: files, stdin, stdout and the terminal."""

import contextlib
import itertools
import signal
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.data.columns import ColumnOptions, parse_text
from sentiment.data.files import flatten_structs, is_table
from sentiment.data.files import read_rows as read_table_rows
from sentiment.data.labels import PROBABILITY_PREFIX, UNCERTAIN
from sentiment.data.streams import iterate_lines, suggest_encoding
from sentiment.exceptions import InputError, require
from sentiment.inference.predictor import Prediction, Predictor
from sentiment.inference.table_writers import SUFFIXES, CsvWriter, Writer, open_writer
from sentiment.storage import check_is_not_input, write_atomically

COLUMNS = ("label", "score")
INPUT_PREFIX = "input_"  # of an input column with the name of an output column
CHUNK_SIZE = 1024  # texts: bounds memory, and is large enough to batch similar lengths


class Row(NamedTuple):
    """A text, and all columns of its row."""

    text: str
    record: dict[str, Any]


class Chunk(NamedTuple):
    """The texts of some rows, and their columns as in the output."""

    texts: list[str]
    records: list[dict[str, Any]]


def build_rows(texts: Iterable[str]) -> Iterator[Row]:
    """Rows of texts alone, with the column `text`."""
    return (Row(text, {"text": text}) for text in texts)


def read_rows(file: str, **columns: Any) -> Iterator[Row]:
    """The rows of a table of any format, or the lines of another file; `columns` are fields of `ColumnOptions`.

    Raises:
        InputError: no such file, no text column, or bytes that are not UTF-8; names file, row and column.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"no file {file}: pass --file with an existing file")
    options = ColumnOptions(**columns, with_labels=False, with_record=True)
    if is_table(file, options):
        yield from (Row(row["text"], row["record"]) for row in read_table_rows(file, options))
    else:
        lines = iterate_lines(file, columns.get("encoding"))
        yield from build_rows(parse_text(file, number, "text", line, suggest_encoding) for number, line in lines)


def read_schema(file: str) -> pa.Schema | None:
    """The types of the columns of a Parquet file; None for other files, which have none."""
    if Path(file).suffix.lower() == ".parquet":
        with contextlib.suppress(pa.ArrowException, OSError):  # reported when its rows are read
            return flatten_structs(pq.read_schema(file).empty_table()).schema
    return None


def check_output(output: Path | None, source: str | int | None = None) -> None:
    """Raise InputError for a file that cannot be written, or is the input: a path, or a file descriptor."""
    if output is None:
        return
    problem = f"--output {output}: the suffix names the format, one of {', '.join(SUFFIXES)}"
    require(output.suffix.lower() in SUFFIXES, problem)
    require(not output.is_dir(), f"cannot write {output}: it is a folder")
    if source is not None:
        check_is_not_input(output, source)


def write_predictions(
    predictor: Predictor,
    rows: Iterable[Row],
    output: Path | None,
    with_probabilities: bool = False,
    schema: pa.Schema | None = None,
    abstain_below: float = 0.0,
) -> None:
    """Write the columns of each row, its label and score to stdout as CSV, or to a file, which appears when complete.

    Label and score are empty for texts that are empty after cleaning. A column of the input that has the name of one
    that is added is called `input_<name>`, and a line on stderr says so.

    Args:
        predictor: the model.
        rows: in order; those of a chunk are in memory at a time.
        output: a file whose suffix is one of `SUFFIXES`; None for stdout.
        with_probabilities: also a column `p_<label>` for each class.
        schema: types of the input's columns, for Parquet.
        abstain_below: the score below which a text's label is `UNCERTAIN`.

    Raises:
        InputError: a value or a column that the format cannot hold; the rows' own errors.
    """
    if output is None:
        write_chunks(predictor, rows, None, "", with_probabilities, schema, abstain_below)
        return
    with exit_on_sigterm(), write_atomically(output) as staged:
        counts = write_chunks(predictor, rows, staged, output.suffix.lower(), with_probabilities, schema, abstain_below)
    found = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    print(f"{output}: {found or '0 rows'}", file=sys.stderr)


def write_chunks(
    predictor: Predictor,
    rows: Iterable[Row],
    path: Path | None,
    suffix: str,
    with_probabilities: bool,
    schema: pa.Schema | None,
    abstain_below: float,
) -> Counter[str]:
    """Write chunks of rows as `write_predictions` to a new file, whatever its name, in the format of a suffix.

    Returns how many rows there were, and how many of them had no text.
    """
    labels = predictor.checkpoint.labels if with_probabilities else ()
    added = dict.fromkeys([*COLUMNS, *(f"{PROBABILITY_PREFIX}{label}" for label in labels)])
    chunks = read_chunks(rows, added)
    first = next(chunks)  # before the header: wrong input leaves no output
    columns = [*dict.fromkeys(itertools.chain(*first.records or [{"text": ""}])), *added]
    report_renamed(columns, added)
    types = [pa.field(name, pa.string() if name == "label" else pa.float64()) for name in added]
    types += [field.with_name(rename(field.name, added)) for field in schema or ()]
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        writer: Writer
        if path is None:
            writer = CsvWriter(sys.stdout, columns)
        else:
            writer = stack.enter_context(open_writer(path, suffix, columns, first.records, pa.schema(types)))
        for chunk in itertools.chain([first], chunks):
            predictions = predictor.predict(chunk.texts)
            cells = (build_cells(one, labels, suffix, abstain_below) for one in predictions)
            writer.write([record | more for record, more in zip(chunk.records, cells, strict=True)])
            counts["rows"] += len(predictions)
            counts["without a text"] += predictions.count(None)
    return counts


def read_chunks(rows: Iterable[Row], added: Collection[str]) -> Iterator[Chunk]:
    """Texts and records of `CHUNK_SIZE` rows at a time, at least once; names of the added columns are left free."""
    remaining = iter(rows)
    chunk = list(itertools.islice(remaining, CHUNK_SIZE))
    while True:
        records = []
        for row in chunk:
            record = {rename(name, added): value for name, value in row.record.items()}
            require(len(record) == len(row.record), describe_clash(row.record, added))
            records.append(record)
        yield Chunk([row.text for row in chunk], records)
        chunk = list(itertools.islice(remaining, CHUNK_SIZE))
        if not chunk:
            return


def rename(name: str, added: Collection[str]) -> str:
    """The name of a column of the input in the output.

    >>> rename("stars", ["label", "score"]), rename("label", ["label", "score"])
    ('stars', 'input_label')
    """
    return f"{INPUT_PREFIX}{name}" if name in added else name


def describe_clash(names: Iterable[str], added: Collection[str]) -> str:
    """In one line: the input has a column, and another one with the name that the first gets."""
    clashing = ", ".join(f"{name!r} and '{INPUT_PREFIX}{name}'" for name in names if name in added)
    return f"the input has columns {clashing}, and the first gets the name of the second: rename one of them"


def report_renamed(columns: Sequence[str], added: Collection[str]) -> None:
    """Say on stderr which columns of the input have other names in the output."""
    renamed = [name for name in added if f"{INPUT_PREFIX}{name}" in columns]
    if renamed:
        listed = ", ".join(f"{name} as {INPUT_PREFIX}{name}" for name in renamed)
        print(f"columns of the input whose names the prediction has are written as others: {listed}", file=sys.stderr)


def build_cells(
    prediction: Prediction | None, labels: Sequence[str], suffix: str, abstain_below: float = 0.0
) -> dict[str, Any]:
    """The added columns of a row; numbers as text of 6 decimals in CSV and TSV."""
    if prediction is None:
        return dict.fromkeys([*COLUMNS, *(f"{PROBABILITY_PREFIX}{label}" for label in labels)])
    numbers = {"score": prediction.score}
    numbers |= {f"{PROBABILITY_PREFIX}{label}": prediction.probabilities[label] for label in labels}
    is_text = suffix in ("", ".csv", ".tsv", ".tab")
    label = prediction.label if prediction.score >= abstain_below else UNCERTAIN
    return {"label": label} | {name: f"{number:.6f}" if is_text else number for name, number in numbers.items()}


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the process as an exception does, so that unfinished files are removed."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def answer_prompts(predictor: Predictor) -> None:
    """Prompt for texts on the terminal and print label and score of each, until an empty line."""
    print("Type a review and press Enter; an empty line ends.")
    with contextlib.suppress(EOFError):
        while text := input("> ").strip():
            prediction = predictor.predict([text])[0]
            print(f"{prediction.label} ({prediction.score:.1%})" if prediction else "no text left after cleaning")
