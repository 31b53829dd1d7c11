import pytest
from transformers import BertTokenizerFast

from sentiment.evaluation.error_analysis import (
    ALL_TEXTS,
    CHARACTER_LENGTHS,
    ENGLISH_SLICES,
    assign_slices,
    extract_features,
    list_slices,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "dull", "##ness", "film", "but", "does"]
VOCABULARY += ["n", "'", "t", "not", "street", "smart", "-", ",", "."]
NEGATION, CONTRAST = ENGLISH_SLICES
SLICES = list_slices("en")
SPLIT = "a word split into subwords"


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={token: index for index, token in enumerate(VOCABULARY)})


def slices_of(text: str, tokenizer: BertTokenizerFast) -> set[str]:
    (features,) = extract_features([text], tokenizer)
    return {name for name, belongs in SLICES.items() if belongs(features)}


@pytest.mark.parametrize(
    "text",
    [
        "it does n't work",
        "it doesn't work",
        "it doesn\N{RIGHT SINGLE QUOTATION MARK}t work",
        "it doesnt work",
        "it does nt work",
        "DON'T",
        "isnt it",
        "no",
        "Not good",
        "without a plot",
        "there is hardly a plot",
        "'never' again",
    ],
)
def test_negation(text: str, tokenizer: BertTokenizerFast) -> None:
    assert NEGATION in slices_of(text, tokenizer)


@pytest.mark.parametrize("text", ["a note", "another knot", "it does work", "nonetheless good", "can it"])
def test_no_negation(text: str, tokenizer: BertTokenizerFast) -> None:
    assert NEGATION not in slices_of(text, tokenizer)


def test_contrast(tokenizer: BertTokenizerFast) -> None:
    assert CONTRAST in slices_of("good , But dull", tokenizer)
    assert CONTRAST in slices_of("good (though dull)", tokenizer)
    assert CONTRAST not in slices_of("butter and a throughout", tokenizer)


@pytest.mark.parametrize(
    ("words", "name"),
    [(1, "1 word"), (2, "2-5 words"), (5, "2-5 words"), (6, "6-10 words"), (10, "6-10 words"),
     (11, "11-20 words"), (20, "11-20 words"), (21, "over 20 words"), (300, "over 20 words")],
)  # fmt: skip
def test_length(words: int, name: str, tokenizer: BertTokenizerFast) -> None:
    # Free-standing punctuation does not count.
    lengths = {found for found in slices_of("film " * words + ", .", tokenizer) if "word" in found} - {
        SPLIT,
        "no word split into subwords",
    }
    assert lengths == {name}


def test_a_text_without_words_is_in_the_shortest_slice(tokenizer: BertTokenizerFast) -> None:
    assert "1 word" in slices_of("...", tokenizer)


def test_split_words(tokenizer: BertTokenizerFast) -> None:
    assert SPLIT in slices_of("a good dullness", tokenizer)
    # Punctuation separates words; an unknown word is one [UNK]; two equal words are two words.
    for text in ["street-smart", "does n't", "zzz", "good good"]:
        assert SPLIT not in slices_of(text, tokenizer)


def test_long_texts_are_not_truncated_and_do_not_warn(
    tokenizer: BertTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer(["good film"], truncation=True, max_length=3, padding="max_length")
    assert SPLIT in slices_of("film " * 600 + "dullness", tokenizer)
    assert not caplog.records


def test_masks_of_each_slice_in_order(tokenizer: BertTokenizerFast) -> None:
    masks = {name: mask.tolist() for name, mask in assign_slices(["good", "not good"], tokenizer).items()}
    assert list(masks) == ["all texts", *SLICES]
    assert masks["all texts"] == [True, True]
    assert masks["1 word"] == [True, False]
    assert masks[NEGATION] == [False, True]
    assert assign_slices([], tokenizer)["all texts"].shape == (0,)


def slices_in(language: str, text: str, tokenizer: BertTokenizerFast) -> list[str]:
    masks = assign_slices([text], tokenizer, language)
    return [name for name, mask in masks.items() if mask[0] and name != ALL_TEXTS]


@pytest.mark.parametrize(
    ("language", "text", "name"),
    [
        ("zh", "好\uff01\uff01", "1-2 characters"),
        ("zh-TW", "這部電影\uff0c很好看。", "3-10 characters"),
        ("ja", "か\u3099" * 10, "3-10 characters"),  # ga, as two code points
        ("th", "หนังเรื่องนี้ดีมาก", "11-20 characters"),  # vowel signs and tone marks are no letters
        ("zh", "好 😀" * 21, "21-40 characters"),
        ("zh", "好" * 41, "over 40 characters"),
        ("zh", "😀", "1-2 characters"),
    ],
)
def test_lengths_in_characters_where_words_have_no_spaces(
    language: str, text: str, name: str, tokenizer: BertTokenizerFast
) -> None:
    assert slices_in(language, text, tokenizer) == [name]


@pytest.mark.parametrize(
    "text", ["", "😀", "好", "好" * 2, "好" * 3, "好" * 10, "好" * 11, "好" * 20, "好" * 21, "好" * 90]
)
def test_lengths_partition_texts_in_characters_too(text: str, tokenizer: BertTokenizerFast) -> None:
    assert len(slices_in("ja", text, tokenizer)) == 1
    assert set(slices_in("ja", text, tokenizer)) <= {*CHARACTER_LENGTHS}


def test_english_lists_are_for_english_only(tokenizer: BertTokenizerFast) -> None:
    text = "not good but dull"  # "not" and "but" mean other things in other languages
    assert {NEGATION, CONTRAST} <= {*slices_in("en-GB", text, tokenizer)}
    for language in ("de", "ar", "ko", "und"):
        assert slices_in(language, text, tokenizer) == ["2-5 words", "no word split into subwords"]
