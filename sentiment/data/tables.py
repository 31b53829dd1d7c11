"""Files of rows become a `Dataset` with `text` and `label`, on disk and memory-mapped."""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, NamedSplit, Value, load_dataset
from datasets.exceptions import DatasetGenerationError

from sentiment.data.columns import match_columns, parse_row
from sentiment.data.files import read_rows
from sentiment.exceptions import InputError

FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})


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
