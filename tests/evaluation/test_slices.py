import pytest
from transformers import BertTokenizerFast

from sentiment.evaluation.error_analysis import (
    ENGLISH_SLICES,
    LENGTHS_IN_WORDS,
    SUBWORD_SLICES,
    assign_slices,
    choose_slices,
    describe_slices,
    extract_features,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "dull", "##ness", "film", "but", "does"]
VOCABULARY += ["n", "'", "t", "not", "street", "smart", "-", ",", "."]
SLICES = {**LENGTHS_IN_WORDS, **ENGLISH_SLICES, **SUBWORD_SLICES}
NEGATION = next(name for name in SLICES if name.startswith("negation"))
CONTRAST = next(name for name in SLICES if name.startswith("contrast"))
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


ENGLISH = ["The plot is thin, but it is funny.", "not for me"]
GERMAN = ["Der Film ist gut, aber viel zu lang.", "Das war nichts für mich"]
CHINESE = ["这部电影很好看。", "ok 剧情太差"]
FRENCH_AND_RUSSIAN = ["Un film très émouvant et drôle", "Очень скучный фильм"]


@pytest.mark.parametrize(
    ("texts", "language", "has_english_lists", "length"),
    [
        (ENGLISH, "auto", True, "6-10 words"),
        (ENGLISH, "de", False, "6-10 words"),
        (GERMAN, "auto", False, "6-10 words"),
        (GERMAN, "en", True, "6-10 words"),
        (FRENCH_AND_RUSSIAN, "auto", False, "6-10 words"),
        (CHINESE, "auto", False, "6-15 tokens"),
    ],
)
def test_lists_of_words_are_for_english_and_lengths_in_tokens_for_scripts_without_spaces(
    texts: list[str], language: str, has_english_lists: bool, length: str
) -> None:
    slices = choose_slices(texts, language)
    assert (NEGATION in slices) == has_english_lists
    assert length in slices
    assert (SPLIT in slices) == ("words" in length)
    notes = describe_slices(["all texts", *slices])
    assert notes.startswith(f"Lengths are in {'words' if 'words' in length else 'tokens'}")
    assert ("English only" in notes) != has_english_lists


def test_lengths_in_tokens_partition_texts_without_spaces(tokenizer: BertTokenizerFast) -> None:
    masks = assign_slices(["好" * tokens for tokens in (1, 5, 6, 15, 16, 30, 31, 60, 61)], tokenizer)
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    assert counts == {
        "all texts": 9, "1-5 tokens": 2, "6-15 tokens": 2, "16-30 tokens": 2, "31-60 tokens": 2, "over 60 tokens": 1
    }  # fmt: skip
