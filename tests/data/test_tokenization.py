"""Token ids as the tokenizer gives them, truncated or in chunks; batches of similar lengths."""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from sentiment.config.arguments import DataArguments
from sentiment.data import tokenization
from sentiment.data.cleaning import clean_light
from sentiment.data.sources import load_reviews
from sentiment.data.splits import split_reviews
from sentiment.data.tokenization import (
    LONG_TEXTS,
    chunk_tokens,
    compare_long_text_modes,
    compute_padding_share,
    encode_texts,
    group_by_length,
    tokenize_long_texts,
    tokenize_reviews,
)
from sentiment.models.loading import load_tokenizer
from sentiment.models.model_folder import resolve_model

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgilmnostuvxyz!.,'-_<>&#[]0123", "##s", "##lm", "##1"]
WORDS = ["good", "Good", "film", "films", "cafe", "naive", "strasse", "mask", "it", "映"]
VOCABULARY = {word: position for position, word in enumerate([*PIECES, *WORDS])}
ODD_TEXTS = [
    *("", " ", "  ", "a  b", "\t", "a\x00b", "a\x1fb", "a\x7fb", "a\x85b c", "a\u2028b", "\u200bgood", "good\xa0film"),
    *("café", "CAFÉ", "cafe\u0301", " \u0301good", "naïve good", "straße", "İt", "映画はgood", "good…film", "“good”"),
    *(
        "[MASK]",
        "a[MASK]b",
        "[mask]",
        "[CLS] good [SEP] é",
        "good_film",
        "it's",
        "f" * 99,
        "f" * 100,
        "f" * 101,
        "#1 ##s",
    ),
]
WORDS = ["the", "film", "is", "not", "good", "but", "very", "funny", "and", "the", "ending", "is", "a", "bad", "plot"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


# --- ids of the tokenizer ---


def encode_by_call(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


@pytest.fixture(scope="module", params=[{}, {"do_lower_case": False}, {"strip_accents": False}], ids=str)
def small_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return BertTokenizerFast(vocab=VOCABULARY, **request.param)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts(small_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert encode_texts([text, text], small_tokenizer) == encode_by_call([text, text], small_tokenizer)


@given(
    st.text()
    | st.text(st.characters(max_codepoint=127))
    | st.lists(st.sampled_from([*ODD_TEXTS, "good", "Film.", "s"])).map(" ".join)
)
def test_any_text(small_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert encode_texts([text], small_tokenizer) == encode_by_call([text], small_tokenizer)


def test_settings_of_earlier_calls_are_not_applied(small_tokenizer: PreTrainedTokenizerBase) -> None:
    expected = encode_by_call(["good film", "s"], small_tokenizer)
    small_tokenizer(["good"], truncation=True, max_length=3, padding="max_length")
    assert encode_texts(["good film", "s"], small_tokenizer) == expected


@pytest.mark.real_data
@pytest.mark.parametrize(("dataset", "split"), [("sst2", "train"), ("imdb", "unsupervised")])
def test_published_texts(dataset: str, split: str, real_data_dir: str) -> None:
    raw = load_reviews(dataset, real_data_dir, with_labels=False)[split]["text"][:3000]
    texts = [*raw, *map(clean_light, raw)]
    tokenizer = load_tokenizer(resolve_model("minilm"))
    assert encode_texts(texts, tokenizer) == encode_by_call(texts, tokenizer)


# --- one sequence per review ---


@pytest.fixture(scope="module")
def splits(build_reviews: Callable[..., DatasetDict]) -> DatasetDict:
    good = [(" ".join(["a", *["very"] * row, "good film"]), 1) for row in range(20)]
    bad = [(" ".join(["a", *["very"] * row, "bad film"]), 0) for row in range(20)]
    return split_reviews(build_reviews(train=good + bad), DataArguments(), seed=42).splits


def test_rows_keep_order_number_and_label(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenized = tokenize_reviews(splits, tokenizer, max_seq_length=64)
    assert list(tokenized) == ["train", "validation", "test"]
    for name, part in splits.items():
        assert sorted(tokenized[name].column_names) == ["input_ids", "labels", "length", "row"]
        assert tokenized[name]["row"][:] == part["row"][:]
        assert tokenized[name]["labels"][:] == part["label"][:]
        for text, input_ids, length in zip(
            part["text"], tokenized[name]["input_ids"], tokenized[name]["length"], strict=True
        ):
            assert tokenizer.decode(input_ids) == f"[CLS] {text} [SEP]"
            assert length == len(input_ids) == len(text.split()) + 2


def test_texts_are_truncated_and_not_padded(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    part = tokenize_reviews(splits, tokenizer, max_seq_length=8)["train"]
    lengths = [min(8, len(text.split()) + 2) for text in splits["train"]["text"]]
    assert part["length"][:] == lengths
    assert [len(input_ids) for input_ids in part["input_ids"]] == lengths
    assert {input_ids[-1] for input_ids in part["input_ids"]} == {tokenizer.sep_token_id}


def test_two_processes_give_the_same(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    one = tokenize_reviews(splits, tokenizer, max_seq_length=64, num_proc=1)
    two = tokenize_reviews(splits, tokenizer, max_seq_length=64, num_proc=2)
    assert one["train"].to_dict() == two["train"].to_dict()


# --- long reviews ---


def build_splits(*word_counts: int) -> DatasetDict:
    texts = [" ".join((WORDS * count)[:count]) for count in word_counts]
    return DatasetDict({"train": Dataset.from_dict({"text": texts, "key": texts})})


@given(st.lists(st.integers(0, 30_000)), st.integers(3, 64))
def test_chunks_hold_every_token_once(tokens: list[int], max_seq_length: int) -> None:
    pieces = chunk_tokens(tokens, max_seq_length - 2, "chunk")
    assert [token for piece in pieces for token in piece] == tokens
    assert len(pieces) == math.ceil(len(tokens) / (max_seq_length - 2))
    lengths = [len(piece) for piece in pieces]
    assert all(0 < length <= max_seq_length - 2 for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


@given(st.lists(st.integers(0, 30_000)), st.integers(3, 64))
def test_truncation_keeps_the_beginning(tokens: list[int], max_seq_length: int) -> None:
    assert chunk_tokens(tokens, max_seq_length - 2, "truncate") == ([tokens[: max_seq_length - 2]] if tokens else [])


@pytest.mark.parametrize("long_texts", ["chunk", "truncate"])
def test_columns_of_both_modes(tokenizer: PreTrainedTokenizerBase, long_texts: str) -> None:
    splits = build_splits(3, 13, 6)
    part = tokenize_long_texts(splits, tokenizer, max_seq_length=8, long_texts=long_texts)["train"]
    assert sorted(part.column_names) == ["input_ids", "length", "special_tokens_mask"]
    assert part["length"][:] == ([5, 6, 6, 7, 8] if long_texts == "chunk" else [5, 8, 8])
    inner = []
    for row in part:
        ids = row["input_ids"]
        assert len(ids) == len(row["special_tokens_mask"]) == row["length"]
        assert row["special_tokens_mask"] == [1, *[0] * (len(ids) - 2), 1]
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        inner.append(tokenizer.decode(ids[1:-1]))
    texts = splits["train"]["text"][:]
    if long_texts == "chunk":
        assert [inner[0], " ".join(inner[1:4]), inner[4]] == texts
    else:
        assert inner == [" ".join(text.split()[:6]) for text in texts]


def test_truncated_texts_are_those_of_a_truncating_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = build_splits(3, 60, 6)
    part = tokenize_long_texts(splits, tokenizer, max_seq_length=16, long_texts="truncate")["train"]
    expected = tokenizer(splits["train"]["text"][:], truncation=True, max_length=16, return_special_tokens_mask=True)
    assert part["input_ids"][:] == expected["input_ids"]
    assert part["special_tokens_mask"][:] == expected["special_tokens_mask"]


def test_review_without_a_token_gives_no_sequence(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = DatasetDict({"train": Dataset.from_dict({"text": ["\u200b", "a film"]})})
    for mode in ("chunk", "truncate"):
        assert tokenize_long_texts(splits, tokenizer, 8, mode)["train"]["length"][:] == [4]


def test_two_processes_give_the_same_chunks(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = build_splits(*range(1, 40))
    one = tokenize_long_texts(splits, tokenizer, 8, "chunk", num_proc=1)["train"]
    two = tokenize_long_texts(splits, tokenizer, 8, "chunk", num_proc=2)["train"]
    assert one.to_dict() == two.to_dict()


def test_text_is_tokenized_once(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reviews.txt").write_text("a good film\n" * 12)
    splits = DatasetDict({"train": Dataset.from_text(str(tmp_path / "reviews.txt"), cache_dir=str(tmp_path))})
    first = tokenize_long_texts(splits, tokenizer, 8, "chunk")["train"]
    tokenizer("another text", truncation=True, max_length=4, padding="max_length")  # leaves its traces in a tokenizer
    monkeypatch.setattr(tokenization, "encode_texts", None)
    again = tokenize_long_texts(splits, tokenizer, 8, "chunk")["train"]
    assert again.cache_files == first.cache_files
    assert compare_long_text_modes(splits["train"], tokenizer, 8, 4)["truncate"]["texts"] == 12


def test_modes_are_counted_as_by_hand(tokenizer: PreTrainedTokenizerBase) -> None:
    modes = compare_long_text_modes(build_splits(3, 13, 6)["train"], tokenizer, max_seq_length=8, batch_size=5)
    # 3, 4, 4, 5 and 6 words and two special tokens each, padded to 8; and 3, 6 and 6 words
    assert modes["chunk"] == {"texts": 5, "tokens": 32, "lost_tokens": 0, "padding_share": pytest.approx(8 / 40)}
    assert modes["truncate"] == {"texts": 3, "tokens": 21, "lost_tokens": 7, "padding_share": pytest.approx(3 / 24)}


def test_counts_are_those_of_the_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    splits = build_splits(*range(1, 60))
    modes = compare_long_text_modes(splits["train"], tokenizer, max_seq_length=16, batch_size=8)
    for mode in LONG_TEXTS:
        lengths = tokenize_long_texts(splits, tokenizer, 16, mode)["train"]["length"][:]
        assert (modes[mode]["texts"], modes[mode]["tokens"]) == (len(lengths), sum(lengths))
        assert modes[mode]["padding_share"] == compute_padding_share(lengths, 8)


def test_padding_is_that_of_the_trainers_batches() -> None:
    lengths = np.random.default_rng(0).integers(3, 129, size=2000).tolist()
    order = group_by_length(lengths, 32, torch.Generator().manual_seed(1))
    batches = [[lengths[row] for row in order[start : start + 32]] for start in range(0, len(order), 32)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    assert compute_padding_share(lengths, 32) == pytest.approx(1 - sum(lengths) / padded, abs=0.005)
    assert compute_padding_share([7] * 50, 8) == 0
    assert compute_padding_share([4, 8], 2) == 0.25


# --- batches of similar lengths ---


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_lengths(count: int) -> list[int]:
    """Lengths with a long tail, as those of sentences."""
    return np.random.default_rng(0).gamma(2, 6, size=count).astype(int).tolist()


def measure_padding(lengths: list[int], order: list[int], batch_size: int) -> float:
    batches = [
        [lengths[row] for row in order[start : start + batch_size]] for start in range(0, len(order), batch_size)
    ]
    return 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_every_row_occurs_once(count: int) -> None:
    assert sorted(group_by_length(draw_lengths(count), 8, seeded(0))) == list(range(count))


@pytest.mark.parametrize(("count", "batch_size"), [(800, 128), (8000, 128), (8000, 32)])
def test_less_padding_than_in_the_order_of_transformers(count: int, batch_size: int) -> None:
    lengths = draw_lengths(count)
    ours = measure_padding(lengths, group_by_length(lengths, batch_size, seeded(0)), batch_size)
    theirs = measure_padding(lengths, get_length_grouped_indices(lengths, batch_size, generator=seeded(0)), batch_size)
    assert ours < 0.7 * theirs


def test_the_longest_texts_come_first_and_others_in_random_order() -> None:
    lengths = draw_lengths(803)
    first_lengths = []
    for seed in range(20):
        order = group_by_length(lengths, 8, seeded(seed))
        firsts = [max(lengths[row] for row in order[start : start + 8]) for start in range(0, 800, 8)]
        assert firsts[0] == max(firsts)
        first_lengths.append(firsts[1:])
    means = np.mean(first_lengths, axis=0)
    assert np.std(means) < np.std(first_lengths) / 3  # no place of an epoch has long texts as a rule
    last = [lengths[group_by_length(lengths, 8, seeded(seed))[-1]] for seed in range(20)]
    assert len(set(last)) > 5  # nor has the last batch, which is smaller


def test_batches_of_one_length_differ_between_seeds() -> None:
    lengths = [5] * 64
    orders = [group_by_length(lengths, 8, seeded(seed)) for seed in (0, 1)]
    batches = [{frozenset(order[start : start + 8]) for start in range(0, 64, 8)} for order in orders]
    assert not batches[0] & batches[1]
    assert group_by_length(lengths, 8, seeded(0)) == orders[0]


def test_batches_of_many_lengths_differ_between_seeds() -> None:
    lengths = np.random.default_rng(0).integers(20, 512, size=2000).tolist()
    pairs = []
    for seed in (0, 1):
        batches = np.array(group_by_length(lengths, 8, seeded(seed))).reshape(-1, 8)
        pairs.append({frozenset(pair) for batch in batches.tolist() for pair in combinations(batch, 2)})
    assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])


# --- texts beside tokens ---


@pytest.mark.parametrize("long_texts", LONG_TEXTS)
@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_each_sequence_has_the_part_of_the_review_that_it_is(
    build_tiny_encoder: Callable[[str], Path], kind: str, long_texts: str
) -> None:
    tokenizer = load_tokenizer(str(build_tiny_encoder(kind)), 16)
    texts = ["The  film is not GOOD", "good " * 40 + "but very funny", "", "the plot\nis bad, and " * 9]
    splits = DatasetDict({"train": Dataset.from_dict({"text": texts})})
    plain = tokenize_long_texts(splits, tokenizer, 16, long_texts)["train"]
    found = tokenize_long_texts(splits, tokenizer, 16, long_texts, keep_texts=True)["train"]
    for name in ("input_ids", "special_tokens_mask", "length"):
        assert found[name][:] == plain[name][:]
    assert found["text"][0] == texts[0]
    assert all(any(part in text for text in texts) for part in found["text"])
    if long_texts == "chunk":  # nothing is lost or there twice, but for white space
        assert "".join("".join(found["text"]).split()) == "".join("".join(texts).split())
    if kind == "bert":
        assert tokenizer(found["text"][:])["input_ids"] == found["input_ids"][:]
