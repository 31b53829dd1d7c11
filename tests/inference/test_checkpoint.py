"""Reading of a model folder: token ids as in training, and folders that are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from sentiment.data.cleaning import CLEANINGS
from sentiment.data.sources import load_reviews
from sentiment.data.tokenization import tokenize_batch
from sentiment.exceptions import InputError
from sentiment.inference.checkpoint import Checkpoint, load_checkpoint
from sentiment.models.loading import load_tokenizer
from sentiment.serving.arguments import ServingArguments
from sentiment.serving.service import load_service

UNUSUAL_TEXTS = [
    *("", " ", "\t\n", "\x00", "a\x00b", "\ufffe", "\u200b", "\u202egood", "e\u0301", "\ufb01lm", "İstanbul", "ß"),
    *("😀" * 40, "👩‍👩‍👧", "映画はgood", "فيلم good", "नमस्ते", "\U0010ffff", "g" * 300, "good" * 100, "a.b,c!d?"),
    *("[CLS] good [SEP]", "[MASK]", "[PAD] bad", "[UNK]", "<br />", "<" * 500, "&lt;&amp;&#0;", "I <3 it", "&#xD800;"),
    *("GOOD Film", "good\u00a0film", "good\u2028film", "  many   spaces ", "don't", "street-smart", "acting ##ers"),
]


@pytest.fixture(scope="module")
def checkpoint(tiny_classifier: Path) -> Checkpoint:
    return load_checkpoint(str(tiny_classifier))


@pytest.fixture(scope="module")
def tokenizer(tiny_classifier: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_classifier))


def encode_as_in_training(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    cleaned = [CLEANINGS["light"](text) for text in texts]
    return tokenize_batch({"text": cleaned}, tokenizer, max_seq_length=16)["input_ids"]


@pytest.mark.parametrize("text", UNUSUAL_TEXTS)
def test_unusual_texts_are_encoded_as_in_training(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    assert checkpoint.encode([text]) == encode_as_in_training([text], tokenizer)


WORDS = st.lists(
    st.sampled_from(["good", "bad", "film", "actors", "Not", "<b>", "&amp;", "!", "[MASK]", "é", " ", "xyzzy"])
).map(" ".join)


@settings(deadline=None)
@given(st.lists(WORDS | st.text(), max_size=5))
def test_generated_texts_are_encoded_as_in_training(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> None:
    assert checkpoint.encode(texts) == (encode_as_in_training(texts, tokenizer) if texts else [])


@pytest.mark.parametrize("length", [13, 14, 15, 16, 1000])
def test_long_texts_are_truncated_as_in_training(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, length: int
) -> None:
    (ids,) = checkpoint.encode(["good " * length])
    assert ids == encode_as_in_training(["good " * length], tokenizer)[0]
    assert len(ids) == min(length + 2, 16)


def test_texts_are_not_padded(checkpoint: Checkpoint) -> None:
    assert [len(ids) for ids in checkpoint.encode(["good", "a good film"])] == [3, 5]


@pytest.mark.real_data
def test_real_reviews_are_encoded_as_in_training(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, real_data_dir: str
) -> None:
    texts = load_reviews("sst2", real_data_dir)["validation"]["text"][:]
    assert len(texts) == 872
    assert checkpoint.encode(texts) == encode_as_in_training(texts, tokenizer)


@pytest.fixture
def folder(tiny_classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_classifier, tmp_path / "model"))


def change_config(**changes: Any) -> Callable[[Path], None]:
    """Replaces values of the config; None removes a key."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
        config = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str, keep: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return cut


def change_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def change_vocabulary(words: int) -> Callable[[Path], None]:
    """Gives the tokenizer a vocabulary of this size."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        found = list(content["model"]["vocab"])[:words]
        found += [f"word{number}" for number in range(words - len(found))]
        content["model"]["vocab"] = {word: place for place, word in enumerate(found)}
        (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    return change


def set_nan(weights: dict[str, torch.Tensor]) -> None:
    weights["classifier.weight"][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (remove("config.json"), "no model in"),
        (remove("model.safetensors"), "cannot load the weights"),
        (remove("tokenizer.json"), "no tokenizer.json"),
        (truncate("config.json", 0.5), "cannot read the model"),
        (truncate("config.json", 0), "cannot read the model"),
        (truncate("model.safetensors", 0.5), "cannot load the weights"),
        (truncate("model.safetensors", 0), "cannot load the weights"),
        (truncate("tokenizer.json", 0.5), "cannot read the tokenizer"),
        (truncate("tokenizer.json", 0), "cannot read the tokenizer"),
        (lambda folder: (folder / "config.json").write_text("[]"), "cannot read the model"),
        (change_config(model_type="gpt2"), "is a decoder (type gpt2)"),
        (change_config(id2label={"0": "a", "1": "b", "2": "c"}), "cannot load the weights"),
        (change_config(id2label={"0": "joy"}), "has 1 label: a classifier has two or more"),
        (change_config(id2label={"0": "joy", "2": "anger"}), "the ids of its labels are not 0 to 1"),
        (change_config(id2label={"0": "joy", "1": "joy"}), "has two labels with the same name: joy, joy"),
        (change_config(preprocessing={"cleaning": "shiny", "max_seq_length": 5}), "shiny"),
        (change_config(preprocessing={"cleaning": "light", "max_seq_length": "long"}), "'max_seq_length': 'long'"),
        (change_config(preprocessing={"cleaning": "light", "max_seq_length": 100_000}), "'max_seq_length': 100000"),
        (change_config(preprocessing={"cleaning": "light", "max_seq_length": 2}), "'max_seq_length': 2"),
        (change_config(preprocessing={"cleaning": "light", "max_seq_length": True}), "'max_seq_length': True"),
        (change_config(hidden_size=64), "cannot load the weights"),
        (change_vocabulary(41), "its tokenizer has 41 tokens and its model"),
        (change_vocabulary(300), "its tokenizer has 300 tokens and its model"),
        (change_weights(lambda weights: weights.pop("classifier.weight")), "no trained classifier"),
        (change_weights(set_nan), "answers with NaN: its weights are damaged"),
    ],
)
def test_broken_folders_are_refused_in_one_line(folder: Path, breaking: Callable[[Path], None], message: str) -> None:
    breaking(folder)
    with pytest.raises(InputError) as refusal:
        load_service(ServingArguments(str(folder), precision="fp32"), in_processes=False)
    assert message in str(refusal.value)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_vocabulary_that_is_much_smaller_than_the_embeddings_is_refused(folder: Path, checkpoint: Checkpoint) -> None:
    rows = checkpoint.tokenizer.get_vocab_size()
    change_config(vocab_size=rows + 127)(folder)  # padded to a multiple of 128
    assert load_checkpoint(str(folder)).pad_token_id == 0
    change_config(vocab_size=rows + 128)(folder)
    with pytest.raises(InputError, match="the vocabularies do not match"):
        load_checkpoint(str(folder))


def test_default_label_names_are_accepted(folder: Path) -> None:
    change_config(id2label=None, label2id=None)(folder)
    assert load_service(ServingArguments(str(folder), precision="fp32"), in_processes=False).models[0].name == str(
        folder
    )


def test_a_lone_surrogate_is_refused_with_its_position(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="text 2 holds a lone surrogate"):
        checkpoint.encode(["good", "\udfff"])
