"""Rows of train, validation and test, dropped rows, and errors."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets

from sentiment.config.arguments import DataArguments
from sentiment.data import splits as data_splits
from sentiment.data.audit import find_contained
from sentiment.data.cleaning import CLEANINGS
from sentiment.data.sources import load_reviews
from sentiment.data.splits import SplitReviews, compute_fingerprint
from sentiment.exceptions import InputError

Build = Callable[..., DatasetDict]
SPLIT_NAMES = ["train", "validation", "test"]
SPLIT_MODES = ["stratified", "grouped", "official"]


def split_reviews(reviews: DatasetDict, split: str = "stratified", seed: int = 42, **options: Any) -> SplitReviews:
    return data_splits.split_reviews(reviews, DataArguments(split=split, **options), seed)


def reviews(rows: int, word: str = "film") -> list[tuple[str, int]]:
    """Distinct texts, none part of another, labels in turn."""
    return [(f"{word} number {row} is {'good' if row % 2 else 'bad'}", row % 2) for row in range(rows)]


def texts_of(result: SplitReviews) -> dict[str, list[str]]:
    return {name: part["text"][:] for name, part in result.splits.items()}


def rows_of(result: SplitReviews) -> dict[str, list[int]]:
    return {name: part["row"][:] for name, part in result.splits.items()}


def all_rows_of(result: SplitReviews) -> list[int]:
    return sorted(row for rows in rows_of(result).values() for row in rows)


def sides_of(result: SplitReviews, *texts: str) -> set[str]:
    return {name for name, part in texts_of(result).items() if set(texts) & set(part)}


def assert_apart(result: SplitReviews) -> None:
    for column in ("key", "text"):
        seen: set[str] = set()
        for part in result.splits.values():
            assert not seen & set(part[column][:])
            seen |= set(part[column][:])


@pytest.mark.parametrize("split", SPLIT_MODES)
def test_three_splits_with_equal_label_shares(split: str, build_reviews: Build) -> None:
    result = split_reviews(build_reviews(train=reviews(200), validation=reviews(40, "play")), split)
    assert list(result.splits) == SPLIT_NAMES
    expected = (180, 20, 40) if split == "official" else (192, 24, 24)
    assert tuple(len(part) for part in result.splits.values()) == expected
    for part in result.splits.values():
        assert Counter(part["label"]) == {0: len(part) // 2, 1: len(part) // 2}
    assert result.dropped == {}
    assert all_rows_of(result) == list(range(240))
    if split == "official":
        assert rows_of(result)["test"] == list(range(200, 240))


@pytest.mark.parametrize("split", SPLIT_MODES)
@pytest.mark.parametrize("cleaning", CLEANINGS)
def test_no_text_is_in_two_splits(split: str, cleaning: str, build_reviews: Build) -> None:
    published = reviews(200)
    variants = [str.upper, "{} !".format, " {}".format, "<p>{}</p>".format, "'{}'".format]
    copies = [(variants[row % 5](text), label) for row, (text, label) in enumerate(published)]
    # Equal after one cleaning and not after the other.
    glued = [(text.replace(" is ", "<br />is "), label) for text, label in published]
    spaced = [(text.replace(" is ", "<br /> is "), label) for text, label in published]
    source = build_reviews(train=published + copies + glued, validation=spaced[:60] + reviews(60, "play"))
    result = split_reviews(source, split, cleaning=cleaning)
    assert_apart(result)
    if split == "official":
        assert len(result.splits["test"]) == 120
        assert result.dropped == {"in_test": 180}
    else:
        assert sum(len(part) for part in result.splits.values()) == 720


@pytest.mark.parametrize("split", SPLIT_MODES)
def test_both_labels_and_empty_texts_are_dropped_and_counted(split: str, build_reviews: Build) -> None:
    train = [*reviews(200), ("Fine film", 1), ("", 1), (" <br /> ", 0), ("fine  FILM.", 0), ("fine film", 0)]
    result = split_reviews(
        build_reviews(train=train, validation=[*reviews(40, "play"), ("\n", 1), ("\u200b", 1)]), split
    )
    assert result.dropped == {"empty": 4, "both_labels": 3}
    assert sum(len(part) for part in result.splits.values()) == 240
    assert not sides_of(result, "Fine film", "fine FILM.", "fine film", "")


@pytest.mark.parametrize("split", ["stratified", "official"])
def test_keep_duplicates_drops_nothing_and_leaks(split: str, build_reviews: Build) -> None:
    train = [("same text", 1)] * 100 + [("same text", 0)] * 50 + [("", 0)] * 50
    source = build_reviews(train=train, validation=[("same text", 1), ("", 0)])
    result = split_reviews(source, split, keep_duplicates=True)
    assert result.dropped == {}
    assert sum(len(part) for part in result.splits.values()) == 202
    assert sides_of(result, "same text") == set(SPLIT_NAMES)


def test_grouped_refuses_keep_duplicates(build_reviews: Build) -> None:
    with pytest.raises(InputError, match="omit --keep_duplicates"):
        split_reviews(build_reviews(train=reviews(100)), "grouped", keep_duplicates=True)


def test_grouped_keeps_phrases_with_their_sentences(build_reviews: Build) -> None:
    sentences = reviews(200)
    phrases = [(f"Number {row}!", row % 2) for row in range(200)]
    result = split_reviews(build_reviews(train=[*phrases, ("film", 1), ("is good", 1), *sentences]), "grouped")
    assert result.dropped == {"in_several_splits": 2}
    for row in range(200):
        assert len(sides_of(result, f"Number {row}!", sentences[row][0])) == 1
    keys = {name: set(part["key"]) for name, part in result.splits.items()}
    for one in SPLIT_NAMES:
        for other in set(SPLIT_NAMES) - {one}:
            assert not find_contained(keys[one], keys[other])
    assert [len(part) for part in result.splits.values()] == [320, 40, 40]


def test_official_test_split_is_published_validation_and_not_in_training(build_reviews: Build) -> None:
    test = [("FILM number 7 is good!", 1), *reviews(39, "play")]
    source = build_reviews(train=reviews(200), validation=test, test=[("hidden", -1)])
    result = split_reviews(source, "official")
    assert texts_of(result)["test"] == [text for text, _ in test]
    assert result.dropped == {"in_test": 1}
    assert sides_of(result, "film number 7 is good", "hidden") == set()
    assert split_reviews(source, "official", keep_duplicates=True).dropped == {}


def test_official_test_split_is_published_test_if_only_that_is_labelled(build_reviews: Build) -> None:
    source = build_reviews(train=reviews(200), test=reviews(40, "play"), unsupervised=[("x", -1)])
    assert texts_of(split_reviews(source, "official"))["test"] == [text for text, _ in reviews(40, "play")]
    unlabelled = [(text, -1) for text, _ in reviews(40, "poem")]
    source["validation"] = build_reviews(validation=unlabelled)["validation"]
    result = split_reviews(source, "official")
    assert texts_of(result)["test"] == [text for text, _ in reviews(40, "play")]
    assert rows_of(result)["test"] == list(range(240, 280))


def test_official_without_a_labelled_test(build_reviews: Build) -> None:
    with pytest.raises(InputError, match="no labelled test or validation split: the dataset has train, test"):
        split_reviews(build_reviews(train=reviews(100), test=[("x", -1)]), "official")


@pytest.mark.parametrize("split", SPLIT_MODES)
def test_unlabelled_rows_are_dropped_and_row_numbers_are_those_of_the_source(split: str, build_reviews: Build) -> None:
    train = [row for pair in zip(reviews(100), [(f"? {i}", -1) for i in range(100)], strict=True) for row in pair]
    source = build_reviews(train=train, validation=[("?", -1), *reviews(40, "play")], test=[("test", -1)])
    result = split_reviews(source, split)
    published = concatenate_datasets([source["train"], source["validation"]])
    found = 0
    for part in result.splits.values():
        for row, text, label in zip(part["row"], part["text"], part["label"], strict=True):
            assert published[row] == {"text": text, "label": label}
            found += 1
    assert found == 140


def test_max_rows_takes_the_first_rows_or_a_random_sample(build_reviews: Build) -> None:
    source = build_reviews(train=reviews(150), validation=reviews(50, "play"))
    assert all_rows_of(split_reviews(source, max_rows="100")) == list(range(100))
    drawn = [all_rows_of(split_reviews(source, max_rows="100", sample="random", seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 100
    assert drawn[0] != list(range(100))
    whole = split_reviews(source, max_rows="all")
    assert sum(len(part) for part in whole.splits.values()) == 200
    assert rows_of(whole) == rows_of(split_reviews(source, max_rows="200"))


def test_first_rows_of_one_label_are_refused(build_reviews: Build) -> None:
    source = build_reviews(train=sorted(reviews(200), key=lambda review: review[1]))
    with pytest.raises(InputError, match=r"first 100 of 200 rows have no row of 'positive'.*--sample random"):
        split_reviews(source, max_rows="100")
    assert len(split_reviews(source, max_rows="100", sample="random").splits["train"]) == 80


@pytest.mark.parametrize(
    ("splits", "way", "message"),
    [
        (
            {"train": reviews(18)},
            "stratified",
            "of different texts there are 9 of 'negative'",
        ),
        (
            {"train": [("same", 1), ("other", 0)] * 50},
            "grouped",
            "of different texts there are 1 of 'negative'",
        ),
        (
            {"train": reviews(18), "test": reviews(9, "play")},
            "official",
            "of different texts there are 9 of 'negative'",
        ),
        (
            {"train": [(f"a {i}", 1) for i in range(50)]},
            "stratified",
            "all 50 usable rows are 'positive'",
        ),
        ({"train": [("", i % 2) for i in range(50)]}, "stratified", "no usable rows"),
        ({"train": [("a", -1)] * 50}, "stratified", "none of the 50 rows is labelled"),
        ({"test": reviews(50)}, "stratified", "no train or validation rows: the dataset has the splits test"),
        ({"train": []}, "grouped", "no train or validation rows"),
        (
            {"train": reviews(50), "test": [(f"b {i}", 0) for i in range(9)]},
            "official",
            "the test split (9 rows) has no row of 'positive': it needs two classes",
        ),
        (
            {"train": reviews(50), "test": [("", 0), ("", 1)]},
            "official",
            "test split (0 rows) has no row of 'negative', 'positive'",
        ),
    ],
)
def test_data_that_cannot_be_split_is_refused(
    splits: dict[str, Any], way: str, message: str, build_reviews: Build
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        split_reviews(build_reviews(**splits), way)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("split", SPLIT_MODES)
def test_split_depends_on_the_seed(split: str, build_reviews: Build) -> None:
    source = build_reviews(train=reviews(200), validation=reviews(40, "play"))
    first, again, other = (split_reviews(source, split, seed=seed) for seed in (1, 1, 2))
    assert rows_of(first) == rows_of(again)
    assert set(rows_of(first)["validation"]) != set(rows_of(other)["validation"])


@pytest.mark.parametrize("split", SPLIT_MODES)
def test_split_does_not_depend_on_the_cleaning(split: str, build_reviews: Build) -> None:
    odd = [("(", 0), (")", 1), ("a<br />b", 1), ("a b", 1), ("R&amp;B", 0), ("R&B", 0), ("I <3 it, 5 > 4", 1)]
    source = build_reviews(train=[*odd, *reviews(200)], validation=reviews(40, "play"))
    light, classic = (split_reviews(source, split, cleaning=cleaning) for cleaning in ("light", "classic"))
    punctuation = {0, 1}
    for name in SPLIT_NAMES:
        assert set(rows_of(light)[name]) - punctuation == set(rows_of(classic)[name])
    assert texts_of(light) != texts_of(classic)
    assert light.dropped == {}
    assert classic.dropped == {"empty": 2}


def test_fingerprint_changes_with_content_and_order(build_reviews: Build) -> None:
    part = split_reviews(build_reviews(train=reviews(100))).splits["train"]
    fingerprint = compute_fingerprint(part)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    again = split_reviews(build_reviews(train=reviews(100))).splits["train"]
    assert compute_fingerprint(again) == fingerprint
    others = [
        part.select(range(len(part) - 1)),
        part.select(range(len(part) - 1, -1, -1)),
        part.map(lambda row: {"label": 1 - row["label"]}),
        part.map(lambda row: {"text": row["text"] + "."}),
        part.map(lambda row: {"row": row["row"] + 1}),
    ]
    assert len({fingerprint, *map(compute_fingerprint, others)}) == 6


# --- the published SST-2 ---


@pytest.fixture(scope="module")
def sst2(real_data_dir: str) -> DatasetDict:
    return load_reviews("sst2", real_data_dir)


def leak(result: SplitReviews) -> tuple[int, int]:
    """Rows of test that stand word for word in training, and rows that are a training text or part of one."""
    train, test = set(result.splits["train"]["key"][:]), result.splits["test"]["key"][:]
    contained = find_contained(set(test), train)
    return sum(key in train for key in test), sum(key in contained for key in test)


@pytest.mark.real_data
def test_sst2_split_as_in_the_lab_report(sst2: DatasetDict) -> None:
    result = split_reviews(sst2, max_rows="all", keep_duplicates=True)
    assert [len(part) for part in result.splits.values()] == [54_576, 6_822, 6_823]
    in_train, contained = (count / 6_823 for count in leak(result))
    assert in_train == pytest.approx(0.20, abs=0.01)
    assert contained == pytest.approx(0.88, abs=0.01)


@pytest.mark.real_data
def test_sst2_by_default_has_no_text_in_two_splits(sst2: DatasetDict) -> None:
    result = split_reviews(sst2)
    assert_apart(result)
    assert result.splits["test"].num_rows == pytest.approx(1_000, abs=20)
    classic = split_reviews(sst2, cleaning="classic")
    punctuation = {4_246, 8_304}  # the rows "(" and ")"
    for name in SPLIT_NAMES:
        assert set(rows_of(result)[name]) - punctuation == set(rows_of(classic)[name])


@pytest.mark.real_data
def test_official_test_split_of_sst2_has_872_sentences(sst2: DatasetDict) -> None:
    result = split_reviews(sst2, "official", max_rows="all")
    assert texts_of(result)["test"] == [" ".join(text.split()) for text in sst2["validation"]["text"][:]]
    assert len(result.splits["test"]) == 872
    assert leak(result) == (0, 3)


@pytest.mark.real_data
def test_grouped_sst2_trains_on_no_part_of_a_test_text(sst2: DatasetDict) -> None:
    result = split_reviews(sst2, "grouped", max_rows="all")
    assert_apart(result)
    assert leak(result) == (0, 0)
    assert result.dropped["in_several_splits"] == pytest.approx(2_900, abs=150)


def test_own_train_validation_and_test_are_used_as_they_are(build_reviews: Build) -> None:
    source = build_reviews(train=reviews(60), validation=reviews(20, "play"), test=reviews(20, "song"))
    for way in ("official", "auto"):
        found = split_reviews(source, way, dataset_name="own.csv")
        assert found.method == "official"
        assert {name: len(part) for name, part in found.splits.items()} == {"train": 60, "validation": 20, "test": 20}
        assert {name: text.split()[0] for name, (text, *_) in texts_of(found).items()} == {
            name: text.split()[0] for name, (text, *_) in {
                "train": reviews(60)[0], "validation": reviews(20, "play")[0], "test": reviews(20, "song")[0],
            }.items()
        }  # fmt: skip
        rows = [row for part in found.splits.values() for row in part["row"]]
        assert sorted(rows) == list(range(100))


def test_own_test_split_may_lack_a_class() -> None:
    names = ("bad", "fair", "good")
    train = [(f"{names[i % 3]} film {i}", i % 3) for i in range(90)]
    label = ClassLabel(names=[*names])
    parts = {"train": train, "test": [(f"song {i}", i % 2) for i in range(20)]}
    source = DatasetDict(
        {
            name: Dataset.from_dict(dict(zip(("text", "label"), zip(*rows, strict=True), strict=True))).cast_column(
                "label", label
            )
            for name, rows in parts.items()
        }
    )
    found = split_reviews(source, "auto", dataset_name="own.csv")
    assert Counter(found.splits["test"]["label"]) == {0: 10, 1: 10}
    assert set(found.splits["validation"]["label"]) == {0, 1, 2}


def test_own_train_and_test_leave_a_tenth_of_train_for_validation(build_reviews: Build) -> None:
    found = split_reviews(build_reviews(train=reviews(100), test=reviews(20, "song")), "auto", dataset_name="own")
    assert (found.method, {name: len(part) for name, part in found.splits.items()}) == (
        "official", {"train": 90, "validation": 10, "test": 20},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("splits", "dataset"),
    [
        ({"train": reviews(100), "validation": reviews(20, "play")}, "own"),
        ({"train": reviews(100), "test": [("a", -1)] * 4}, "own"),
        ({"train": reviews(100), "test": reviews(20, "song")}, "imdb"),
    ],
)
def test_without_an_own_test_split_rows_are_split_at_random(
    splits: dict[str, Any], dataset: str, build_reviews: Build
) -> None:
    assert split_reviews(build_reviews(**splits), "auto", dataset_name=dataset).method == "stratified"


def test_texts_of_test_leave_validation_and_train_and_those_of_validation_train(build_reviews: Build) -> None:
    shared = [("in all three", 1), ("in two", 0)]
    source = build_reviews(
        train=[*reviews(60), *shared],
        validation=[*reviews(20, "play"), *shared],
        test=[*reviews(20, "song"), shared[0]],
    )
    found = split_reviews(source, "official")
    texts = texts_of(found)
    assert [shared[0][0] in texts[name] for name in ("train", "validation", "test")] == [False, False, True]
    assert [shared[1][0] in texts[name] for name in ("train", "validation", "test")] == [False, True, False]
    assert found.dropped == {"in_test": 3}
