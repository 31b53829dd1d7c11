"""Token ids by words are the tokenizer's own, whatever the text."""

import pytest
from datasets.fingerprint import Hasher
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizerFast, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sentiment.data.cleaning import clean_light
from sentiment.data.sources import load_reviews
from sentiment.data.word_pieces import TextEncoder
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


def build_tokenizer(**options: bool) -> PreTrainedTokenizerBase:
    return BertTokenizerFast(vocab=VOCABULARY, **options)


@pytest.fixture(scope="module", params=[{}, {"do_lower_case": False}, {"strip_accents": False}], ids=str)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    encoder = TextEncoder(build_tokenizer(**request.param))
    assert encoder.looks_words_up
    return encoder


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts(encoder: TextEncoder, text: str) -> None:
    assert encoder.encode([text, text]) == encoder.tokenize([text, text])


@given(
    st.text()
    | st.text(st.characters(max_codepoint=127))
    | st.lists(st.sampled_from([*ODD_TEXTS, "good", "Film.", "s"])).map(" ".join)
)
def test_any_text(encoder: TextEncoder, text: str) -> None:
    assert encoder.encode([text]) == encoder.tokenize([text])


def test_words_are_split_once() -> None:
    encoder = TextEncoder(build_tokenizer())
    encoder.encode(["Good film, good films"])
    encoder.encode(["a café"])
    assert set(encoder.words) == {"good", "film", ",", "films", "a"}
    assert set(encoder.others) == {"café"}
    assert encoder.encode(["café"]) == [encoder.others["café"]] == [[VOCABULARY["cafe"]]]


def test_what_was_encoded_before_is_no_part_of_the_fingerprint() -> None:
    encoder = TextEncoder(build_tokenizer())
    before = Hasher.hash(encoder)
    encoder.encode(["good film é"])
    encoder.tokenizer(["good"], truncation=True, max_length=3)
    assert Hasher.hash(encoder) == before
    assert Hasher.hash(TextEncoder(build_tokenizer(do_lower_case=False))) != before


def test_other_tokenizers_do_it_themselves() -> None:
    backend = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]")
    encoder = TextEncoder(tokenizer)
    assert not encoder.looks_words_up
    assert encoder.encode(["good, film", "Good film"]) == [
        [1, VOCABULARY["film"]],
        [VOCABULARY[w] for w in WORDS[0:3:2]],
    ]


def test_added_words_of_any_case_do_it_themselves() -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["Good film"])  # found in normalized text
    encoder = TextEncoder(tokenizer)
    assert encoder.encode(["a good film"]) == encoder.tokenize(["a good film"])


@pytest.mark.real_data
@pytest.mark.parametrize(("dataset", "split"), [("sst2", "train"), ("imdb", "unsupervised")])
def test_published_texts(dataset: str, split: str) -> None:
    raw = load_reviews(dataset, with_labels=False)[split]["text"][:3000]
    texts = [*raw, *map(clean_light, raw)]
    encoder = TextEncoder(load_tokenizer(resolve_model("minilm")))
    assert encoder.encode(texts) == encoder.tokenize(texts)
