"""Rows computed once and kept in the cache of `datasets`, under a version of the code that computed them."""

import os
from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset, Features, IterableDataset, NamedSplit, Value
from datasets.exceptions import DatasetGenerationError

from sentiment.environment import choose_num_proc
from sentiment.exceptions import InputError

# The cache identifies a function by its name, not by its body. Increase the version whenever readers, cleaning, keys,
# hashes or tokenization return other values for the same input, so that rows cached before are not used again.
VERSION = 6
FEATURES = Features({"text": Value("string"), "label": Value("string")})


def call_function(*arguments: Any, function: Callable[..., Any], version: int, **keywords: Any) -> Any:  # noqa: ARG001
    """What the function returns; `version` is only part of the cache's key."""
    return function(*arguments, **keywords)


def map_batches(
    rows: Any, function: Callable[..., Any], num_proc: int | None = None, fn_kwargs: Any = None, **options: Any
) -> Any:
    """`rows.map` in batches for a `Dataset` (by default in one process per 10,000 rows) or an `IterableDataset`."""
    if isinstance(rows, Dataset):
        options["num_proc"] = choose_num_proc(len(rows), num_proc)
    versioned = {"function": function, "version": VERSION, **(fn_kwargs or {})}
    mapped = rows.map(call_function, batched=True, fn_kwargs=versioned, **options)
    # With num_proc, `datasets` turns the threads of tokenizers off, and on again only for Python's own os.environ.
    parallelism = os.environ.get("TOKENIZERS_PARALLELISM")
    os.unsetenv("TOKENIZERS_PARALLELISM") if parallelism is None else os.putenv("TOKENIZERS_PARALLELISM", parallelism)
    return mapped


def generate_rows(
    split: str, generator: Callable[..., Iterator[dict[str, Any]]], arguments: dict[str, Any], streaming: bool = False
) -> Any:
    """The rows of a generator, with the columns `text` and `label`: a cached `Dataset`, or an `IterableDataset`."""
    versioned = {"function": generator, "version": VERSION, **arguments}
    source = IterableDataset if streaming else Dataset
    try:
        return source.from_generator(call_function, features=FEATURES, gen_kwargs=versioned, split=NamedSplit(split))
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"cannot read split {split}: {error.__cause__ or error}") from error
