"""Texts in, labels out: the ways that `sentiment predict` reads and writes."""

import contextlib
import csv
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from sentiment.data.files import TABLES, read_file, read_lines
from sentiment.exceptions import InputError
from sentiment.inference.predictor import SentimentPredictor

COLUMNS = ("text", "label", "probability")
TEXTS_AT_ONCE = 1024  # bounds memory, and leaves like lengths enough to be batched together


def read_texts(file: str) -> Iterator[str]:
    """The texts of a table (.csv, .tsv, .jsonl, .parquet: its text column), or the lines of any other file.

    Raises:
        InputError: no such file, no text column, or bytes that are not UTF-8; names file, row and column.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"no file {file}: pass --file with an existing file")
    if path.suffix.lower() in TABLES:
        yield from (row["text"] for row in read_file(file, with_labels=False))
    else:
        with path.open("rb") as lines:
            yield from read_lines(lines, file)


def write_predicted_labels(predictor: SentimentPredictor, texts: Iterable[str], output: Path | None) -> None:
    """Writes one CSV row a text, to the file, which appears when it is whole, or to stdout."""
    if output is None:
        write_rows(predictor, texts, sys.stdout)
        return
    unfinished = output.with_name(output.name + ".part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8", newline="") as stream:
            write_rows(predictor, texts, stream)
        unfinished.replace(output)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # where it could not be opened, it cannot be removed either
            unfinished.unlink()


def write_rows(predictor: SentimentPredictor, texts: Iterable[str], stream: TextIO) -> None:
    """Writes header and rows; a text that cleaning leaves nothing of gets a row without label and probability."""
    writer = csv.writer(stream, lineterminator="\n")
    remaining = iter(texts)
    chunk = list(itertools.islice(remaining, TEXTS_AT_ONCE))  # before the header: wrong input leaves no output
    writer.writerow(COLUMNS)
    while chunk:
        has_text = [bool(predictor.clean(text)) for text in chunk]
        predictions = iter(predictor.predict(list(itertools.compress(chunk, has_text))))
        for text, known in zip(chunk, has_text, strict=True):
            if known:
                prediction = next(predictions)
                writer.writerow([text, prediction.label, f"{prediction.probability:.6f}"])
            else:
                writer.writerow([text, "", ""])
        chunk = list(itertools.islice(remaining, TEXTS_AT_ONCE))


def answer_prompts(predictor: SentimentPredictor) -> None:
    """Asks for one text after another on the terminal and prints label and confidence; an empty line ends it."""
    print("Type a review and press Enter; an empty line ends.")
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            return
        if not text:
            return
        prediction = predictor.predict([text])[0]
        print(f"{prediction.label} ({prediction.confidence:.1%})")
