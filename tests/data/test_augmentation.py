"""Each kind of augmentation: what it changes, that labels stay right, and that any text goes through."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.config.arguments import parse_strengths
from sentiment.data.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Example,
    Material,
    check_augmentations,
    compute_row_shares,
)
from sentiment.data.augmentation.augmenter import Augmenter, choose_examples
from sentiment.data.augmentation.base import is_negation_or_sentiment
from sentiment.data.augmentation.contrast import TEMPLATES, combine
from sentiment.data.augmentation.lexicon import load_lexicon
from sentiment.data.augmentation.typos import misspell
from sentiment.data.augmentation.word_lists import find_synonyms, load_keyboard, load_misspellings, load_words
from sentiment.exceptions import InputError

TEXTS = ["the film is a joy", "a dull and tedious plot", "The actors are great.", "It bored me!"]
LABELS = [1, 0, 1, 0]
LONG = (
    "The film is not bad, but the story of the actor and his picture is never quite as good as it looks at the start."
)


def propose_words(text: str, places: Sequence[tuple[int, int]]) -> list[list[tuple[str, float]]]:
    """Proposals of a made-up model: a neutral word, one with a sentiment, and the word itself."""
    return [[("table", 0.5), ("awful", 0.3), (text[slice(*place)], 0.2)] for place in places]


MATERIAL = Material(TEXTS, LABELS, "en", propose_words)
WORD_KINDS = [name for name, kind in AUGMENTATIONS.items() if kind.unit == "words"]


def build(name: str, strength: float = 0.3, material: Material = MATERIAL) -> Augmentation:
    return AUGMENTATIONS[name](strength, material)


def augment_all(name: str, text: str, label: int = 1, strength: float = 0.3, seeds: int = 30) -> list[Example]:
    kind = build(name, strength)
    found = [kind.augment(Example(text, label), np.random.default_rng(seed)) for seed in range(seeds)]
    return [example for example in found if example is not None]


# --- kinds that change words ---


@pytest.mark.parametrize("name", WORD_KINDS)
def test_kinds_that_change_words_keep_the_label_and_what_it_hangs_on(name: str) -> None:
    found = augment_all(name, LONG)
    assert len(found) > 20
    assert len({example.text for example in found}) > 3
    for example in found:
        assert example.label == 1
        assert example.text != LONG
        if name not in ("typo", "synonym"):  # these change words of sentiment, into those of the same
            kept = [word for word in example.text.split() if is_negation_or_sentiment(word)]
            assert kept == [word for word in LONG.split() if is_negation_or_sentiment(word)]


def test_synonyms_have_the_same_polarity() -> None:
    lexicon = load_lexicon()
    assert "tedious" in find_synonyms("boring")
    assert "movie" in find_synonyms("film")
    for word in ("boring", "great", "film", "quickly", "terrible", "nice", "story", "good", "plot"):
        for synonym in find_synonyms(word):
            assert np.sign(lexicon.get(synonym, 0)) == np.sign(lexicon.get(word, 0)), (word, synonym)
    for word in ("the", "not", "but", "n't", "is", "xyzzy"):
        assert find_synonyms(word) == ()


def test_synonyms_keep_case_and_punctuation() -> None:
    for example in augment_all("synonym", "Film, (BORING) film!"):
        assert re.fullmatch(r"[A-Z][a-z]+, \([A-Z]+\) [a-z]+!", example.text)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_the_strength_is_the_share_of_words(strength: float) -> None:
    words = [f"w{number}" for number in range(40)]
    text = " ".join(words)
    deleted = augment_all("delete", text, strength=strength)
    if strength == 1.0:
        assert deleted == []  # a text of no words is none
    else:
        assert {len(example.text.split()) for example in deleted} == {40 - round(40 * strength)}
    for example in augment_all("punctuation", text, strength=strength):
        assert len(example.text.split()) == 40 + round(40 * strength)
        assert [word for word in example.text.split() if word.isalnum()] == words
    for example in augment_all("swap", text, strength=strength):
        assert sorted(example.text.split()) == sorted(words)
        moved = sum(one != other for one, other in zip(example.text.split(), words, strict=True))
        assert moved == round(40 * strength)


def test_insertions_add_synonyms_of_words_of_the_text() -> None:
    text = "the film was a picture"
    for example in augment_all("insert", text):
        rest = example.text.split()
        for word in text.split():
            rest.remove(word)
        assert rest
        assert all(word in find_synonyms("film") + find_synonyms("picture") for word in rest)


def test_typos_are_no_words_of_another_meaning() -> None:
    for word in ("not", "but", "good", "film", "embarrassing", "receive", "never"):
        found = {misspell(word, np.random.default_rng(seed)) for seed in range(60)} - {None}
        assert len(found) > 2
        for wrong in found:
            assert wrong != word
            assert wrong not in load_words()
            assert wrong in load_misspellings().get(word, []) or abs(len(str(wrong)) - len(word)) <= 1
    misspellings = load_misspellings()
    assert not {wrong for wrongs in misspellings.values() for wrong in wrongs} & (
        load_words().keys() | misspellings.keys()
    )
    assert "bt" in {misspell("but", np.random.default_rng(seed)) for seed in range(60)}  # the lab report's
    assert "recieve" in {misspell("receive", np.random.default_rng(seed)) for seed in range(20)}
    assert {"w", "r"} <= set(load_keyboard()["e"])


def test_words_of_a_model_are_never_words_of_sentiment() -> None:
    for example in augment_all("masked_lm", "the actor is not good", strength=0.5):
        assert "awful" not in example.text
        assert re.search(r"not good$", example.text)
        assert "table" in example.text


def test_scripts_without_spaces_are_changed_by_characters() -> None:
    material = Material(["电影很好看"], [1], "zh")
    kind = AUGMENTATIONS["delete"](0.2, material)
    found = kind.augment(Example("电影很好看", 1), np.random.default_rng(0))
    assert found is not None
    assert len(found.text) == 4


# --- contrast ---


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_label_of_a_contrast_is_that_of_the_clause_that_decides(template: str) -> None:
    text = combine(template, "The cast is fine.", "the plot bored me").lower()
    pattern = (
        r"(although|even though) the cast is fine, the plot bored me|"
        r"the cast is fine(, (but|yet)|\. however,) the plot bored me|the plot bored me, although the cast is fine"
    )
    assert re.fullmatch(pattern, text)


def test_contrasts_are_of_both_classes() -> None:
    """The clause after "but", or outside the clause of "although", is the one whose label stands."""
    seen = set()
    for row, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
        for example in augment_all("contrast", text, label):
            lowered = example.text.lower()
            clauses = {other.strip(".! ").lower(): LABELS[place] for place, other in enumerate(TEXTS)}
            found = sorted((lowered.index(clause), own) for clause, own in clauses.items() if clause in lowered)
            assert len(found) == 2
            assert found[0][1] != found[1][1]
            conceded_last = re.search(r"\w, although ", lowered) is not None
            assert example.label == found[0 if conceded_last else 1][1]
            seen.add((row, example.label, conceded_last))
    assert len(seen) > 8


@pytest.mark.parametrize(
    "text", ["word " * 31, "but it is good", "good but long", "...", "", "Although good, it is long"]
)
def test_what_is_no_clause_has_no_contrast(text: str) -> None:
    assert augment_all("contrast", text) == []


def test_no_contrast_without_a_text_of_the_other_class() -> None:
    kind = AUGMENTATIONS["contrast"](0.3, Material(["good", "fine"], [1, 1]))
    assert kind.augment(Example("good", 1), np.random.default_rng(0)) is None


# --- sentiment swap ---


@pytest.mark.parametrize(
    ("text", "label"),
    [("I loved it.", 1), ("a dull film", 0), ("not good", 0), ("it isn't bad", 1), ("the cast is superb", 1)],
)
def test_a_swap_reverses_text_and_label(text: str, label: int) -> None:
    found = augment_all("sentiment_swap", text, label)
    assert len(found) == 30
    assert all(example.label == 1 - label and example.text != text for example in found)


def test_no_swap_where_the_words_do_not_say_what_the_label_says() -> None:
    assert augment_all("sentiment_swap", "a great film", 0) == []
    assert augment_all("sentiment_swap", "it is set in Paris", 1) == []


# --- the augmenter ---


def build_augmenter(strengths: dict[str, float], share: float = 0.5, seed: int = 0, rows: int = 400) -> Augmenter:
    texts = [f"{text} {number}" for number in range(rows // 4) for text in TEXTS]
    return Augmenter(strengths, share, Material(texts, LABELS * (rows // 4), "en", propose_words), "light", seed)


def augment_epoch(augmenter: Augmenter, epoch: int) -> list[tuple[str, int, str | None]]:
    return [augmenter.augment_row(row, epoch) for row in range(len(augmenter.material.texts))]


def test_rows_depend_on_seed_epoch_and_number_alone() -> None:
    strengths = dict.fromkeys(AUGMENTATIONS, 0.1)
    first, second = build_augmenter(strengths), build_augmenter(strengths)
    assert augment_epoch(first, 3) == augment_epoch(second, 3)
    assert [second.augment_row(row, 3) for row in (399, 7)] == [augment_epoch(first, 3)[row] for row in (399, 7)]
    assert augment_epoch(first, 4) != augment_epoch(first, 3)
    assert augment_epoch(build_augmenter(strengths, seed=1), 3) != augment_epoch(first, 3)


def test_kinds_get_their_shares_of_the_rows() -> None:
    strengths = {"delete": 0.1, "swap": 0.2, "contrast": 0.2}
    assert compute_row_shares(strengths, 0.5) == {"delete": 0.25, "swap": 0.25, "contrast": 0.2}
    kinds = [kind for _, _, kind in augment_epoch(build_augmenter(strengths, rows=4000), 0)]
    for name, share in (("delete", 0.25), ("swap", 0.25), ("contrast", 0.2), (None, 0.3)):
        assert kinds.count(name) / 4000 == pytest.approx(share, abs=0.03)


def test_a_row_that_stays_is_the_row_itself() -> None:
    augmenter = build_augmenter({"sentiment_swap": 0.5})
    for row, (text, label, kind) in enumerate(augment_epoch(augmenter, 0)):
        if kind is None:
            assert (text, label) == (augmenter.material.texts[row], augmenter.material.labels[row])


def test_views_of_unlabelled_texts_keep_the_sentiment() -> None:
    augmenter = build_augmenter({"contrast": 0.2, "sentiment_swap": 0.2, "punctuation": 0.3})
    for row in range(20):
        view = augmenter.augment_text("the film is not good", 0, row)
        assert view.translate(str.maketrans("", "", ".;?:!,")).split() == ["the", "film", "is", "not", "good"]
        assert view != "the film is not good"


def test_classic_cleaning_is_kept() -> None:
    material = Material(["the film is a joy", "a dull plot"] * 50, [1, 0] * 50)
    augmenter = Augmenter({"contrast": 0.9}, 0.0, material, "classic", 0)
    for row in range(100):
        assert re.fullmatch(r"[a-z ]+", augmenter.augment_row(row, 0).text)


def test_examples_show_each_kind_in_turn() -> None:
    examples = choose_examples(build_augmenter({"delete": 0.2, "contrast": 0.2, "sentiment_swap": 0.2}))
    assert len(examples) == 20
    assert [example["kind"] for example in examples[:4]] == ["delete", "contrast", "sentiment_swap", "delete"]


# --- any text ---

PIECES = "good bad not n't but the film I 's ... , ! 电影 \u200d é ² \x00 A"
MIXED = st.lists(st.sampled_from([*PIECES.split(" "), "\n"]))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@settings(deadline=None, max_examples=60)
@given(
    text=st.one_of(st.text(), MIXED.map(" ".join)), seed=st.integers(0, 2**32), strength=st.sampled_from([0.01, 0.3, 1])
)
def test_any_text_goes_through_any_kind(name: str, text: str, seed: int, strength: float) -> None:
    for language in ("en", "zh"):
        if language == "zh" and AUGMENTATIONS[name].is_english:
            continue
        kind = build(name, strength, Material([*TEXTS, text], [*LABELS, 1], language, propose_words))
        found = kind.augment(Example(text, 1), np.random.default_rng(seed))
        assert found is None or (found.text.strip() and found.label in (0, 1))


# --- options ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("synonym=0.1,typo=0.05, contrast=0.2", {"synonym": 0.1, "typo": 0.05, "contrast": 0.2}),
        ("swap", {"swap": 0.1}),
        ({"swap": 0.3, "typo": None}, {"swap": 0.3, "typo": 0.1}),
        ('{"swap": 0.3}', {"swap": 0.3}),
        (None, {}),
        ("", {}),
    ],
)
def test_strengths(value: object, expected: dict[str, float]) -> None:
    assert parse_strengths(value) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["swap=0", "swap=2", "swap=much", "swap=nan", "swap=0.1,swap=0.2", "{", "{1: 2}"])
def test_strengths_that_are_none(value: str) -> None:
    with pytest.raises(InputError, match=r"^--augmentation"):
        parse_strengths(value)


@pytest.mark.parametrize(
    ("names", "language", "classes", "message"),
    [
        (["swop"], "en", ["negative", "positive"], r"unknown kind 'swop' \(did you mean 'swap'\?\)"),
        (["xx"], "en", ["negative", "positive"], "unknown kind 'xx'; choose from synonym, insert"),
        (["typo"], "und", ["negative", "positive"], "typo: its word lists are English, .* delete, swap, punctuation"),
        (["contrast"], "en", ["ham", "spam"], "contrast: for the classes negative and positive only"),
        (["sentiment_swap"], "en", ["1", "2", "3"], "sentiment_swap: for the classes negative and positive only"),
    ],
)
def test_kinds_that_texts_cannot_have(
    names: Sequence[str], language: str, classes: Sequence[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_augmentations(dict.fromkeys(names, 0.1), 0.5, language, classes, "light")
