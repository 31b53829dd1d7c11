"""Cached rows are used again, unless the version of the code that computed them has changed."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer

import sentiment.data
from sentiment.data import caching, cleaning, tokenization
from sentiment.data.caching import generate_rows, map_batches
from sentiment.data.sources import load_reviews
from sentiment.data.splits import add_keys
from sentiment.data.tokenization import tokenize_long_texts, tokenize_reviews

SUFFIX = {"now": "first"}  # stands for the body of a function, which `datasets` does not look at


def add_suffix(batch: dict[str, list[str]], separator: str) -> dict[str, list[str]]:
    return {"text": [text + separator + SUFFIX["now"] for text in batch["text"]]}


def yield_suffix(path: str) -> Iterator[dict[str, Any]]:
    yield {"text": path + SUFFIX["now"], "label": 1}


@pytest.fixture
def reviews(tmp_path: Path) -> Dataset:
    rows = "".join(f"review {row} is good,{row % 2}\n" for row in range(40))
    (tmp_path / "reviews.csv").write_text("text,label\n" + rows)
    return load_reviews(str(tmp_path / "reviews.csv"))["train"]


def test_changed_function_is_used_under_a_new_version_only(
    reviews: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute() -> tuple[str, str]:
        mapped = map_batches(reviews, add_suffix, fn_kwargs={"separator": "-"})
        generated = generate_rows("train", yield_suffix, {"path": str(tmp_path)})
        return mapped["text"][0].rpartition("-")[2], generated["text"][0].removeprefix(str(tmp_path))

    monkeypatch.setitem(SUFFIX, "now", "first")
    assert compute() == ("first", "first")
    monkeypatch.setitem(SUFFIX, "now", "second")
    assert compute() == ("first", "first")
    monkeypatch.setattr(caching, "VERSION", caching.VERSION + 1)
    assert compute() == ("second", "second")


def test_each_step_of_the_preparation_is_computed_again_under_a_new_version(
    reviews: Dataset, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)

    def prepare() -> dict[str, Any]:
        keyed = add_keys(reviews, "light", None)
        part = DatasetDict({"train": keyed.add_column("row", range(len(keyed)))})
        return {
            "cleaning": keyed["text"][0],
            "tokens": tokenize_reviews(part, tokenizer, 16)["train"]["length"][0],
            "chunks": tokenize_long_texts(part, tokenizer, 16, "chunk")["train"]["length"][0],
        }

    before = prepare()
    monkeypatch.setitem(cleaning.CLEANINGS, "light", lambda text: text + " !")
    monkeypatch.setattr(tokenization, "encode_texts", lambda texts, _: [[7] * 5 for _ in texts])
    assert prepare() == before
    monkeypatch.setattr(caching, "VERSION", caching.VERSION + 1)
    assert prepare() == {"cleaning": "review 0 is good !", "tokens": 7, "chunks": 7}


@pytest.mark.parametrize("value", [None, "true"])
def test_processes_of_a_map_leave_the_threads_of_tokenizers_on(
    reviews: Dataset, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if value:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", value)
    map_batches(reviews, add_suffix, 2, {"separator": "-"})
    getenv = ctypes.CDLL(None).getenv  # what tokenizers reads
    getenv.restype = ctypes.c_char_p
    assert getenv(b"TOKENIZERS_PARALLELISM") == (value and value.encode())


def test_every_map_and_generator_has_the_version() -> None:
    for path in Path(sentiment.data.__path__[0]).glob("*.py"):
        calls = re.findall(r"\.(?:map|from_generator|filter)\(", path.read_text(encoding="utf-8"))
        assert len(calls) == (2 if path.name == "caching.py" else 0), path.name
