"""Label values of any kind as classes: names, order, mapping, and what is refused."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.config.arguments import DataArguments
from sentiment.config.parsing import parse_arguments
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.labels import (
    LabelOptions,
    align_labels,
    canonical_names,
    encode_labels,
    parse_label_mapping,
    plain_label,
)
from sentiment.data.sources import load_reviews
from sentiment.exceptions import InputError
from sentiment.models.model_folder import read_class_names

FORMATS = ("csv", "tsv", "jsonl", "parquet")


def write_table(path: Path, **columns: list[Any]) -> Path:
    frame = pd.DataFrame(columns)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def load_labels(path: Path, **options: Any) -> tuple[list[str], list[int]]:
    part = load_reviews(str(path), **options)["train"]
    return part.features["label"].names, part["label"][:]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        ([5, 1, 10, 1], ["1", "5", "10"], [1, 0, 2, 0]),
        ([5.0, 1.0, None, 4.5], ["1", "4.5", "5"], [2, 0, -1, 1]),
        (["neutral", "Bad", "good", "bad"], ["Bad", "good", "neutral"], [2, 0, 1, 0]),
        (["positive", "negative", "neutral", None], ["negative", "neutral", "positive"], [2, 0, 1, -1]),
        ([True, False, True, None], ["negative", "positive"], [1, 0, 1, -1]),
        (["Pos", "NEG", "1", "0"], ["negative", "positive"], [1, 0, 1, 0]),
        (["0", "1", "2", "1"], ["0", "1", "2"], [0, 1, 2, 1]),
        (["1", "2", "1", "1"], ["1", "2"], [0, 1, 0, 0]),
    ],
)
def test_the_same_labels_are_the_same_classes_in_every_format(
    suffix: str, values: list[Any], names: list[str], ids: list[int], tmp_path: Path
) -> None:
    path = write_table(tmp_path / f"a.{suffix}", text=list("abcd"), label=values)
    assert load_labels(path) == (names, ids)


def test_names_of_a_class_label_count_and_not_its_numbers(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["1", "2"])})
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 0]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    assert load_labels(tmp_path / "a.parquet") == (["1", "2"], [0, 0])


def test_a_class_label_keeps_its_order_and_its_unused_names(tmp_path: Path) -> None:
    names = ["good", "fair", "awful", "unused"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = datasets.Dataset.from_dict({"text": list("abcd"), "label": [2, 0, 1, -1]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    assert load_labels(tmp_path / "a.parquet") == (names, [2, 0, 1, -1])


def test_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    for split, labels in (("train", [1, 2]), ("test", [3, 1])):
        write_table(tmp_path / f"{split}.csv", text=["a", "b"], label=labels)
    splits = load_reviews(str(tmp_path))
    assert {name: part.features["label"].names for name, part in splits.items()} == {
        "train": ["1", "2", "3"], "test": ["1", "2", "3"],
    }  # fmt: skip
    assert splits["test"]["label"][:] == [2, 0]


STARS = [1, 2, 3, 4, 5, None]


@pytest.mark.parametrize(
    "mapping",
    ["1=negative,2=negative,3=null,4=positive,5=positive", {1: "neg", 2.0: "neg", 3: None, "4": "pos", 5: "pos"}],
)
def test_mapped_labels_and_rows_left_out(mapping: Any, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", text=list("abcdef"), label=STARS)
    options = LabelOptions(parse_label_mapping(mapping))
    assert load_labels(path, labels=options) == (["negative", "positive"], [0, 0, -2, 1, 1, -1])


def test_decimal_commas_of_whole_numbers_are_numbers(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", text=list("abcd"), label=["5,0", "10,0", "5", "1,5"])
    assert load_labels(path) == (["1,5", "10", "5"], [2, 1, 2, 0])


def test_a_class_may_be_called_none() -> None:
    assert parse_label_mapping("0=none,1=anger,2=null") == {"0": "none", "1": "anger", "2": None}


def test_rows_left_out_are_counted_and_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    labels = [row % 5 + 1 for row in range(100)]
    path = write_table(tmp_path / "a.csv", text=[f"text {row}" for row in range(100)], label=labels)
    mapping = "1=negative,2=negative,3=null,4=positive,5=positive"
    reviews = load_split_reviews(DataArguments(dataset_name=str(path), label_mapping=mapping, max_rows="70"), 1)
    assert reviews.dropped == {"left_out_by_mapping": 20, "over_max_rows": 10}
    rows = sorted(row for part in reviews.splits.values() for row in part["row"])
    assert rows == [row for row in range(100) if row % 5 != 2][:70]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("1=negative,2=positive", "split train has the label '3', which --label_mapping lacks"),
        ("1=negative,1.0=positive", "--label_mapping names 1 twice"),
        ("1", "pass label=class"),
        ("=negative", "a missing label cannot be mapped"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(mapping: str, message: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", text=list("abc"), label=[1, 2, 3])
    with pytest.raises(InputError) as refusal:
        load_split_reviews(DataArguments(dataset_name=str(path), label_mapping=mapping), 1)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_minus_one_beside_other_labels_must_be_explained(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", text=list("abcd"), label=[-1, 1, -1, 1])
    with pytest.raises(InputError, match=r"2 rows with label -1 beside 1: pass --label_mapping -1=negative.*-1$"):
        load_labels(path)
    assert load_labels(path, labels=LabelOptions(unlabelled_value="-1")) == (["negative", "positive"], [-1, 1, -1, 1])
    mapping = parse_label_mapping("-1=negative,1=positive")
    assert load_labels(path, labels=LabelOptions(mapping)) == (["negative", "positive"], [0, 1, 0, 1])


def test_a_split_of_minus_one_alone_is_masked(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", text=["a", "b"], label=[0, 1])
    write_table(tmp_path / "test.csv", text=["c", "d"], label=[-1, -1])
    assert load_reviews(str(tmp_path))["test"]["label"][:] == [-1, -1]


def test_a_thousand_classes_are_read_and_more_are_refused(tmp_path: Path) -> None:
    texts = [f"text {row}" for row in range(1001)]
    names, ids = load_labels(write_table(tmp_path / "a.csv", text=texts[:1000], label=[*range(1000)]))
    assert (len(names), ids) == (1000, [*range(1000)])
    with pytest.raises(InputError, match=r"1,001 different labels, over 1,000: that is no column of classes"):
        load_labels(write_table(tmp_path / "b.csv", text=texts, label=[*range(1001)]))


@pytest.mark.parametrize(
    "name", ["stars", "rating", "Score", "sentiment", "airline_sentiment", "liked", "feedback", "polarity", "class"]
    + ["target", "category", "label_text", "overall_rating", "review_ranking", "recommended"],
)  # fmt: skip
def test_a_column_that_looks_like_a_label_is_never_unlabelled(name: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", **{"id": [1, 2], "text": ["a", "b"], name: [0, 1]})
    with pytest.raises(InputError, match=rf"no column 'label', but '{name}': pass --label_column_name {name}"):
        load_reviews(str(path))
    is_rating = name in ("stars", "rating", "Score", "overall_rating")
    names = ["0", "1"] if is_rating else ["negative", "positive"]
    assert load_labels(path, label_column_name=name) == (names, [0, 1])
    assert load_reviews(str(path), with_labels=False)["train"].column_names == ["text"]


@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        ([1, 0], ["0", "1"], [1, 0]),
        ([1, 1], ["1"], [0, 0]),
        ([1.0, None], ["1"], [0, -1]),
        ([1, 5], ["1", "5"], [0, 1]),
        (["neg", "1"], ["negative", "positive"], [0, 1]),
        ([False, True], ["negative", "positive"], [0, 1]),
    ],
)
def test_ratings_of_0_and_1_are_not_negative_and_positive(
    values: list[Any], names: list[str], ids: list[int], tmp_path: Path
) -> None:
    path = write_table(tmp_path / "a.csv", text=["a", "b"], stars=values)
    assert load_labels(path, label_column_name="stars") == (names, ids)
    mapping = LabelOptions(parse_label_mapping("0=bad,1=bad,5=good,neg=bad,false=bad,true=good"))
    assert set(load_labels(path, label_column_name="stars", labels=mapping)[0]) <= {"bad", "good"}


@pytest.mark.parametrize("values", [[1, 0], [1, 1], ["1", "0"], [True, False]])
def test_0_and_1_of_a_label_are_negative_and_positive(values: list[Any], tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", text=["a", "b"], label=values)
    assert load_labels(path) == (["negative", "positive"], [int(value) for value in values])


def test_classes_called_0_and_1_keep_their_names_in_a_model() -> None:
    assert read_class_names("a", {0: "0", 1: "1"}) == ("0", "1")
    assert read_class_names("a", {0: "LABEL_0", 1: "LABEL_1"}) == ("negative", "positive")
    assert align_labels(["negative", "positive"], ["0", "1"], "a.csv", "a model") == [0, 1]
    assert align_labels(["1"], ["1", "2", "3"], "a.csv", "a model") == [0]
    with pytest.raises(
        InputError, match=r"the classes of a\.csv are 0, 1, and those of a model are negative, positive"
    ):
        align_labels(["0", "1"], ["negative", "positive"], "a.csv", "a model")


def test_names_of_checkpoints_and_of_data_share_one_vocabulary() -> None:
    for names in (["neg", "pos"], ["NEGATIVE", "POSITIVE"], ["0", "1"], ["False", "True"], ["LABEL_0", "LABEL_1"]):
        assert canonical_names(names) == ("negative", "positive")
    for names in (["positive", "negative"], ["1", "2"], ["LABEL_0", "LABEL_1", "LABEL_2"]):
        assert canonical_names(names) == tuple(names)


@given(
    st.lists(st.none() | st.integers() | st.booleans() | st.text(max_size=4) | st.floats(allow_infinity=False)),
    st.lists(st.text(min_size=1, max_size=3), unique_by=str.casefold, max_size=4),
)
@settings(derandomize=True, deadline=None)
def test_every_row_gets_the_class_of_its_label(values: list[Any], declared: list[str]) -> None:
    labels = [plain_label(value) for value in values]
    counts = {"train": dict.fromkeys(labels, 1)}
    try:
        names, ids = encode_labels("a.csv", counts, LabelOptions(unlabelled_value="-1"), declared)
    except InputError:
        pytest.fail("nothing here may be refused")
    assert len({name.casefold() for name in names}) == len(names)
    for label in labels:
        number = -1 if label is None else ids[label]
        if label is None or label == "-1":
            assert number == -1
        elif names == ("negative", "positive"):
            assert number in (0, 1)
        else:
            assert names[number].casefold() == label.casefold()


@given(st.permutations(["negative", "Neutral", "positive", "2", "mixed "]), st.integers(0, 5))
def test_classes_of_data_and_of_a_model_are_matched_by_name(names: list[str], count: int) -> None:
    model = ("positive", "neutral", "mixed", "negative", "2")
    found = align_labels(names[:count], model, "a.csv", "a model")
    assert [model[number] for number in found] == [name.strip().lower() for name in names[:count]]


def test_two_classes_that_mean_negative_and_positive_match_those_of_any_model() -> None:
    assert align_labels(["neg", "pos"], ["negative", "neutral", "positive"], "a", "b") == [0, 2]
    assert align_labels(["a", "A"], ["A", "a"], "a", "b") == [1, 0]  # names that differ in case only


@pytest.mark.parametrize("names", [["1", "2", "3"], ["negative", "positive", "neither"], ["good"]])
def test_classes_that_a_model_lacks_are_refused_with_both_lists(names: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        align_labels(names, ["negative", "neutral", "positive"], "reviews.csv", "outputs/e2e")
    message = str(refusal.value)
    assert f"the classes of reviews.csv are {', '.join(names)}" in message
    assert "those of outputs/e2e are negative, neutral, positive" in message
    assert "\n" not in message


def test_numpy_numbers_are_plain_labels() -> None:
    assert [plain_label(value) for value in (np.int8(3), np.float32(3), np.bool_(True), np.float64("nan"))] == [
        "3", "3", "true", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["starRating", "reviewRating.ratingValue", "isRecommended", "sentimentLabel", "Sentiment_Polarity", "overall"]
    + ["Recommended IND", "voted_up", "is_positive", "stars_given", "points", "rating_1_5"],
)  # fmt: skip
def test_ratings_by_other_names_are_never_unlabelled(name: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", **{"text": ["a", "b"], name: [1, 2], "reviewId": [3, 4]})
    with pytest.raises(InputError, match="or --label_column_name none if the reviews are unlabelled; found columns"):
        load_reviews(str(path))
    assert load_labels(path, label_column_name=name)[0] == ["1", "2"]
    assert load_labels(path, label_column_name="none")[1] == [-1, -1]


def test_names_of_classes_are_labels_beside_a_mapping(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", text=["a", "b", "c", "d"], label=["1", "5", "positive", "3"])
    options = LabelOptions({"1": "negative", "3": None, "5": "positive"})
    assert load_labels(path, labels=options)[1][:3] == [0, 1, 1]
    path = write_table(tmp_path / "b.csv", text=["a", "b"], label=["2", "3"])
    with pytest.raises(InputError, match="label '2', which --label_mapping lacks"):  # a number may be another label
        load_labels(path, labels=LabelOptions({"3": "2"}))


def test_signs_and_decimals_are_numbers() -> None:
    assert [plain_label(value) for value in ("+1", "-1", Decimal("1.0"), "+1.0", "+x")] == ["1", "-1", "1", "1", "+x"]


def test_yes_and_no_are_texts_in_a_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("label_mapping: {no: negative, yes: positive}\nkeep_duplicates: no\n")
    (args,) = parse_arguments([DataArguments], [str(tmp_path / "run.yaml")])
    assert parse_label_mapping(args.label_mapping) == {"no": "negative", "yes": "positive"}
    assert args.keep_duplicates is False
