import shutil
from pathlib import Path

import pytest

from sentiment.exceptions import InputError
from sentiment.models.loading import load_tokenizer


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bert, tmp_path / "model")


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        load_tokenizer(str(folder))
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)
    return str(refusal.value)


def test_tokenizer_and_its_length(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer("A good film.").tokens() == ["[CLS]", "a", "good", "film", ".", "[SEP]"]
    assert tokenizer.model_max_length == 64
    assert load_tokenizer(str(folder), max_length=16).model_max_length == 16


def test_missing_files_do_not_make_an_empty_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    assert "no tokenizer.json or vocab.txt" in refused(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_file(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    assert "cannot read the tokenizer" in refused(folder)


def test_empty_folder(tmp_path: Path) -> None:
    assert "cannot read the tokenizer" in refused(tmp_path)
