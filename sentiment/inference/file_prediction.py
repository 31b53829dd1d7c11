"""Reading and writing of `sentiment predict`: files, stdin, stdout and the terminal."""

import contextlib
import csv
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from sentiment.data.columns import ColumnOptions
from sentiment.data.files import TABLE_SUFFIXES, read_lines, read_rows
from sentiment.exceptions import InputError
from sentiment.inference.predictor import Predictor
from sentiment.storage import write_atomically

COLUMNS = ("text", "label", "score")
CHUNK_SIZE = 1024  # texts: bounds memory, and is large enough to batch similar lengths


def read_texts(file: str, text_column_names: str | None = None) -> Iterator[str]:
    """The text columns of a table (.csv, .tsv, .jsonl, .parquet), or the lines of any other file.

    Raises:
        InputError: no such file, no text column, or bytes that are not UTF-8; names file, row and column.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"no file {file}: pass --file with an existing file")
    if path.suffix.lower() in TABLE_SUFFIXES:
        yield from (row["text"] for row in read_rows(file, ColumnOptions(text_column_names, with_labels=False)))
    else:
        with path.open("rb") as lines:
            yield from read_lines(lines, file)


def write_predicted_labels(predictor: Predictor, texts: Iterable[str], output: Path | None) -> None:
    """Write a CSV row per text to stdout, or to a file, which appears when it is complete."""
    if output is None:
        write_rows(predictor, texts, sys.stdout)
        return
    with write_atomically(output) as staged, staged.open("w", encoding="utf-8", newline="") as stream:
        write_rows(predictor, texts, stream)


def write_rows(predictor: Predictor, texts: Iterable[str], stream: TextIO) -> None:
    """Write header and rows; label and score are empty for texts that are empty after cleaning."""
    writer = csv.writer(stream, lineterminator="\n")
    remaining = iter(texts)
    chunk = list(itertools.islice(remaining, CHUNK_SIZE))  # before the header: wrong input leaves no output
    writer.writerow(COLUMNS)
    while chunk:
        for text, prediction in zip(chunk, predictor.predict(chunk), strict=True):
            cells = [prediction.label, f"{prediction.score:.6f}"] if prediction else ["", ""]
            writer.writerow([text, *cells])
        chunk = list(itertools.islice(remaining, CHUNK_SIZE))


def answer_prompts(predictor: Predictor) -> None:
    """Prompt for texts on the terminal and print label and score of each, until an empty line."""
    print("Type a review and press Enter; an empty line ends.")
    with contextlib.suppress(EOFError):
        while text := input("> ").strip():
            prediction = predictor.predict([text])[0]
            print(f"{prediction.label} ({prediction.score:.1%})" if prediction else "no text left after cleaning")
