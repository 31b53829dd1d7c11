"""Rows of a CSV, TSV, JSON Lines, Parquet or text file, each fault named by file, row and column.

The loaders of `datasets` read texts such as `NA` as missing, fill short rows, and replace or report bad
bytes without a place; these readers stream as they do, and their rows go to its cache on disk.
"""

import csv
import glob
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, NamedSplit, Value, load_dataset
from datasets.exceptions import DatasetGenerationError

from sentiment.data.labels import UNLABELLED, match_columns, parse_row, shorten
from sentiment.exceptions import InputError

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
SUFFIXES = (*TABLES, ".txt")
FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})


def read_rows(
    paths: list[str], stamps: list[tuple[int, int]], with_labels: bool = True, version: int = 1
) -> Iterator[dict[str, Any]]:
    """Rows `{"text": str, "label": 0, 1 or -1}` of files that follow each other; labels as in `read_file`.

    `stamps` (time and size of each file) and `version` (of this reader) are not read: they are here so
    that the cache of `datasets`, whose key is the arguments, notices a file or a reader that changed.
    """
    del stamps, version
    for path in paths:
        rows = read_file(path, with_labels)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{path}: no rows")
        yield first
        yield from rows


def read_file(path: str, with_labels: bool = True) -> Iterator[dict[str, Any]]:
    """Rows `{"text": str, "label": 0, 1 or -1}` of one file, read as they are asked for.

    Without `with_labels` a label column may hold anything, and every label is -1.
    Raises `InputError` naming file, row and column of what cannot be used.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        return read_parquet(path, with_labels)
    if suffix == ".txt":
        return read_text(path)
    return read_jsonl(path, with_labels) if suffix == ".jsonl" else read_delimited(path, with_labels)


def read_delimited(path: str, with_labels: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of a comma- or tab-separated file in UTF-8 whose first line names the columns.

    Commas: quoting as in RFC 4180. Tabs: a cell ends at a tab or at the line's end, and quotes around a
    whole cell are taken off where those inside are doubled.
    """
    csv.field_size_limit(2**31 - 1)  # the default ends at 131,072 characters
    tabs = path.lower().endswith(".tsv")
    _refuse_utf16(path)
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        if tabs:
            reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            unquoted = ([_unquote(cell) for cell in cells] for cells in reader)
            records = _number_records(path, unquoted)
        else:
            records = _number_records(path, csv.reader(lines, strict=True))
        _, header = next(records, (0, []))
        if not header:
            return
        columns = match_columns(path, header, with_labels)
        text_at, label_at = (header.index(name) if name is not None else None for name in columns)
        assert text_at is not None  # match_columns found it
        for row, cells in records:
            if len(cells) != len(header):
                raise InputError(
                    f"{path}: row {row} has {len(cells)} fields where the header has {len(header)}; "
                    "quote the texts that contain a delimiter or a line break"
                )
            label = "" if label_at is None else cells[label_at]
            yield parse_row(path, row, columns, cells[text_at], label)


def read_jsonl(path: str, with_labels: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of a file in UTF-8 with one JSON object a line; its rows are numbered by line."""
    names: dict[str, None] = {}  # in the order in which they turn up
    columns: tuple[str, str | None] = ("", None)
    _refuse_utf16(path)
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            record = _parse_object(path, number, line)
            if not names or not record.keys() <= names.keys():
                names.update(dict.fromkeys(record))
                columns = match_columns(f"{path}: row {number}", names, with_labels)
            if columns[0] not in record:
                raise InputError(f"{path}: row {number} has no column {columns[0]!r}, which earlier rows have")
            label = None if columns[1] is None else record.get(columns[1])
            yield parse_row(path, number, columns, record[columns[0]], label)


def read_parquet(path: str, with_labels: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, a batch in memory at a time; class names in its metadata do not count."""
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = match_columns(path, file.schema_arrow.names, with_labels)
            for batch in file.iter_batches(columns=[name for name in columns if name is not None]):
                labels = batch.column(columns[1]).to_pylist() if columns[1] else [None] * len(batch)
                for text, label in zip(batch.column(columns[0]), labels, strict=True):
                    row += 1
                    yield parse_row(path, row, columns, _parquet_text(text), label)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or damaged or cut off; copy it again") from error


def read_text(path: str) -> Iterator[dict[str, Any]]:
    """Rows of a file in UTF-8 with one unlabelled review a line; a blank line is no row."""
    with Path(path).open("rb") as lines:
        for line in read_lines(lines, path):
            if line.strip():
                yield {"text": line, "label": UNLABELLED}


def read_lines(lines: BinaryIO, name: str) -> Iterator[str]:
    """The lines of a UTF-8 stream, without their ends.

    Raises:
        InputError: a line is not UTF-8; names the stream and the line.
    """
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name}: line {number} is not UTF-8 (byte {error.start + 1}): save it as UTF-8"
            ) from error


def _parquet_text(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.as_buffer().to_pybytes().decode(errors="surrogateescape")


def _refuse_utf16(path: str) -> None:
    with Path(path).open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path}: row 1, first column: the file is UTF-16; save it as UTF-8")


def _number_records(path: str, reader: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
    row = 0
    try:
        for cells in reader:
            if cells:  # a blank line is no row
                yield row, cells
                row += 1
    except csv.Error as error:
        cause = "a quote is not closed" if "unexpected end" in str(error) else f"malformed ({error})"
        raise InputError(f"{path}: row {row}: {cause}; double the quotes inside a quoted text") from None


def _unquote(cell: str) -> str:
    if len(cell) < 2 or not (cell[0] == cell[-1] == '"'):
        return cell
    inner = cell[1:-1].replace('""', "\0")
    return cell if '"' in inner else inner.replace("\0", '"')


def _parse_object(path: str, number: int, line: str) -> dict[str, Any]:
    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            raise InputError(f"{path}: line {number} names a column twice")
        return record

    try:
        record = json.loads(line, object_pairs_hook=refuse_duplicates)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise InputError(f"{path}: line {number} is not JSON: {reason}; one object a line is needed") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: line {number} is not a JSON object with columns, but {shorten(repr(record))}")
    return record


def load_split(split: str, paths: list[Path], with_labels: bool = True) -> Dataset:
    """Rows of one split from its files, which are of one kind and follow each other.

    Without `with_labels` every label is -1, whatever the files hold.
    Raises `InputError` naming file, row and column of what cannot be used, or a file without rows.
    """
    if paths[0].suffix.lower() == ".parquet":
        return _load_parquet(split, paths, with_labels)
    stats = [path.stat() for path in paths]
    stamps = [(stat.st_mtime_ns, stat.st_size) for stat in stats]
    arguments = {"paths": [str(path.absolute()) for path in paths], "stamps": stamps, "with_labels": with_labels}
    return load_generated(split, read_rows, arguments)


def load_generated(
    split: str, generator: Callable[..., Iterator[dict[str, Any]]], arguments: dict[str, Any]
) -> Dataset:
    """Rows that a generator yields, kept in the cache of `datasets` under the generator and its arguments."""
    try:
        rows = Dataset.from_generator(generator, features=FEATURES, gen_kwargs=arguments, split=NamedSplit(split))
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"cannot read split {split}: {error.__cause__ or error}") from error
    return cast(Dataset, rows)


def normalise(rows: Dataset, parts: list[tuple[str, int]], with_labels: bool = True) -> Dataset:
    """The rows with `text` and `label` alone, labels by their names if they have names, or all -1.

    `parts` are the places that the rows come from, each with its number of rows; messages name them.
    """
    columns = match_columns(parts[0][0], rows.column_names, with_labels)
    feature = rows.features[columns[1]] if columns[1] else None
    names = feature.names if isinstance(feature, ClassLabel) else None
    arguments = {"columns": columns, "names": names, "parts": parts}
    try:
        return rows.map(
            _parse_batch,
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            features=FEATURES,
            fn_kwargs=arguments,
        )
    except UnicodeDecodeError:
        place, row = _locate(parts, _find_undecodable(rows, columns[0]))
        raise InputError(f"{place}: row {row}, column {columns[0]!r}: the text is not UTF-8") from None


def _load_parquet(split: str, paths: list[Path], with_labels: bool) -> Dataset:
    parts = []
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                columns = match_columns(str(path), file.schema_arrow.names, with_labels)
                parts.append((str(path), file.metadata.num_rows))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: not a Parquet file, or damaged or cut off; copy it again") from error
    if not any(count for _, count in parts):
        raise InputError(f"{paths[0]}: no rows")
    try:
        rows = load_dataset(
            "parquet",
            data_files={split: [glob.escape(str(path.absolute())) for path in paths]},  # they are patterns
            columns=[name for name in columns if name is not None],
            split=split,
        )
    except DatasetGenerationError as error:
        place = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and its other parts"
        raise InputError(f"{place}: damaged, or its parts differ in their columns; copy it again") from error
    return normalise(rows, parts, with_labels)


def _parse_batch(
    batch: dict[str, list[Any]],
    indices: list[int],
    columns: tuple[str, str | None],
    names: list[str] | None,
    parts: list[tuple[str, int]],
) -> dict[str, list[Any]]:
    texts = batch[columns[0]]
    labels = batch[columns[1]] if columns[1] else [None] * len(texts)
    rows = []
    for index, text, label in zip(indices, texts, labels, strict=True):
        place, row = _locate(parts, index) if len(parts) > 1 else (parts[0][0], index + 1)
        # ClassLabel numbers mean what their names say: 0 may be "positive"
        named = names[label] if names and label is not None and label >= 0 else label
        rows.append(parse_row(place, row, columns, text, named))
    return {name: [row[name] for row in rows] for name in FEATURES}


def _locate(parts: list[tuple[str, int]], index: int) -> tuple[str, int]:
    for place, count in parts:
        if index < count:
            return place, index + 1
        index -= count
    return parts[-1][0], index + 1


def _find_undecodable(rows: Dataset, column: str) -> int:
    index = 0
    for batch in rows.with_format("arrow").iter(batch_size=1000):
        for cell in batch[column].cast(pa.large_binary()):
            try:
                (cell.as_py() or b"").decode()
            except UnicodeDecodeError:
                return index
            index += 1
    return index
