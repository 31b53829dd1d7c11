"""Masked words of excerpts, and the predictions of a model for them."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase

from sentiment.inference.fill_mask import fill_masks, mask_words
from sentiment.models.masked_lm import load_masked_lm

TEXTS = ["the film is very funny and the ending is great", "a story but not boring", "the a is and", "unknown words"]


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


def test_one_content_word_per_text_is_masked(tokenizer: PreTrainedTokenizerBase) -> None:
    masks = mask_words(TEXTS, tokenizer, seed=1)
    assert len(masks) == 2  # stop words and unknown words are not masked
    for mask in masks:
        assert mask["text"].replace("[MASK]", mask["word"]) in TEXTS
        assert mask["word"] in ("film", "funny", "ending", "great", "story", "boring")
    assert mask_words(TEXTS, tokenizer, seed=1) == masks
    assert len(mask_words(TEXTS, tokenizer, count=1)) == 1


def test_excerpts_fit_the_length_of_the_model(tokenizer: PreTrainedTokenizerBase) -> None:
    text = " ".join(["the"] * 100 + ["funny"] + ["the"] * 100)
    assert len(mask_words([text], tokenizer)[0]["text"].split()) == 31
    tokenizer.model_max_length = 12
    (mask,) = mask_words([text], tokenizer)
    assert mask["text"] == "the the the the [MASK] the the the the"
    dots = "." * 50
    assert mask_words([f"{dots} funny {dots}"], tokenizer) == []  # no excerpt fits


def test_predictions_are_the_most_probable_tokens_at_the_mask(
    tiny_bert: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model, _ = load_masked_lm(str(tiny_bert))
    text = "the film is [MASK] and funny"
    ((first, second),) = fill_masks(model.train(), tokenizer, [text], top_k=2)
    assert model.training
    encoded = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        scores = model.eval()(encoded["input_ids"]).logits[0, 4].softmax(-1)
    assert first == (tokenizer.convert_ids_to_tokens(int(scores.argmax())), pytest.approx(float(scores.max())))
    assert first[1] >= second[1] > 0


WORDS = [
    "电",
    "影",
    "很",
    "好",
    "か",
    "き",
    "หนัง",
    "ดี",
    "رائع",
    "جدا",
    "فيلم",
    "अच्छी",
    "फिल्म",
    "영화가",
    "좋았다",
    "café",
    "😀",
]


@pytest.fixture(scope="module")
def multilingual() -> BertTokenizerFast:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "。", *WORDS]
    return BertTokenizerFast(
        vocab={word: place for place, word in enumerate(vocabulary)}, do_lower_case=False, strip_accents=False,
        model_max_length=64,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "excerpts"),
    [
        ("电影很好。", {"[MASK]影很好。", "电[MASK]很好。", "电影[MASK]好。", "电影很[MASK]。"}),
        ("か か\u3099", {"[MASK] か\u3099"}),  # not a letter without its mark
        ("หนัง ดี", {"[MASK] ดี", "หนัง [MASK]"}),
        ("فيلم رائع جدا", {"[MASK] رائع جدا", "فيلم [MASK] جدا"}),  # the last has three letters
        ("अच्छी\nफिल्म", {"[MASK] फिल्म", "अच्छी [MASK]"}),
        ("영화가 좋았다", set()),  # three letters
        ("café café.", {"[MASK] café."}),
        ("😀 😀 xxxx", set()),
    ],
)
def test_words_of_many_languages_are_masked(text: str, excerpts: set[str], multilingual: BertTokenizerFast) -> None:
    found = [mask_words([text], multilingual, seed=seed) for seed in range(40)]
    assert {mask["text"] for masks in found for mask in masks} == excerpts
    for masks in found:
        for mask in masks:
            assert mask["text"].replace("[MASK]", mask["word"]) == " ".join(text.split())


def test_excerpts_of_long_texts_without_spaces(multilingual: BertTokenizerFast) -> None:
    (mask,) = mask_words(["电" * 200], multilingual, seed=1)
    assert len(mask["text"].replace("[MASK]", "")) == 30
