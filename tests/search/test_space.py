"""Ranges and choices of a search, their conversion to options, and wrong ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sentiment.config.arguments import parse_strengths
from sentiment.config.parsing import build_arguments
from sentiment.exceptions import InputError
from sentiment.pipelines import finetuning
from sentiment.search.arguments import name_adaptation, read_search

ADAPTATION = {"dataset_name": "reviews.txt", "learning_rate": 3e-4}
Write = Callable[..., list[str]]


def test_ranges_and_choices(write_search_file: Write) -> None:
    space = {
        "lr": {"low": "1e-5", "high": 1e-3, "log": True},
        "early_stopping_patience": {"low": 2, "high": 6, "step": 2},
        "layer_decay": {"low": 0.7, "high": 1, "step": 0.05},
        "head_lr": {"choices": [None, 1e-3]},
        "class_weights": {"choices": ["none", "balanced"]},
        "augmentation": {"choices": [None, {"delete": 0.2, "typo": 0.1}]},
    }
    options = read_search(write_search_file(space={"finetuning": space}))
    found = {dimension.key: dimension.distribution for dimension in options.space}
    assert found["learning_rate"] == FloatDistribution(1e-5, 1e-3, log=True)
    assert found["early_stopping_patience"] == IntDistribution(2, 6, step=2)
    assert found["layer_decay"] == FloatDistribution(0.7, 1.0, step=0.05)
    assert found["head_lr"] == CategoricalDistribution([None, 1e-3])
    params = {
        "learning_rate": 0.000123456,
        "early_stopping_patience": 4,
        "layer_decay": 0.7 + 3 * 0.05,
        "head_lr": None,
    }
    candidate = options.build_candidate(params)
    expected = {"learning_rate": 0.0001235, "early_stopping_patience": 4, "layer_decay": 0.85, "head_lr": None}
    assert expected.items() <= candidate.finetuning.items()
    assert options.build_candidate({}).finetuning["learning_rate"] == 5e-3
    strengths = found["augmentation"]
    assert isinstance(strengths, CategoricalDistribution)
    augmented = options.build_candidate({"augmentation": strengths.choices[1]}).finetuning
    args = build_arguments(finetuning.ARGUMENTS, augmented)[-1]
    assert parse_strengths(args.augmentation) == {"delete": 0.2, "typo": 0.1}


def test_a_rounded_number_stays_in_its_range(write_search_file: Write) -> None:
    space = {"learning_rate": {"low": 0.00012345, "high": 0.0012344, "log": True}}
    (dimension,) = read_search(write_search_file(space={"finetuning": space})).space
    assert [dimension.convert(value) for value in (0.00012345, 0.0012344)] == [0.00012345, 0.001234]
    assert dimension.describe() == {"low": 0.00012345, "high": 0.0012344, "log": True}


def test_options_of_both_stages_by_their_names(write_search_file: Write) -> None:
    """Any option of train_mlm.py can be searched, and options of both stages with one name are told apart."""
    words = write_search_file(
        adaptation=ADAPTATION,
        space={
            "finetuning": {"learning_rate": {"low": 1e-5, "high": 1e-3}},
            "adaptation": {"learning_rate": {"choices": [1e-4, 3e-4]}, "objective": {"choices": ["mlm"]},
                           "dataset_name": {"choices": ["a.txt", ["a.txt", "b.txt"]]}},
        },
    )  # fmt: skip
    options = read_search(words)
    keys = [dimension.key for dimension in options.space]
    names = ("dataset_name", "learning_rate", "objective")
    assert keys == ["learning_rate", *(f"adaptation.{name}" for name in names)]
    candidate = options.build_candidate({"learning_rate": 1e-4, "adaptation.learning_rate": 3e-4})
    assert (candidate.finetuning["learning_rate"], candidate.strategy) == (1e-4, "finetune")
    assert candidate.adaptation is not None
    assert candidate.adaptation["learning_rate"] == 3e-4
    assert candidate.adaptation["target_dataset"] == candidate.finetuning["dataset_name"]
    assert candidate.adaptation["target_split_seed"] == candidate.finetuning["split_seed"] == 42
    assert candidate.finetuning["layer_decay"] == 0.9  # the default of train_finetune.py
    texts = options.space[1]
    assert isinstance(texts.distribution, CategoricalDistribution)  # which takes no lists
    assert [texts.convert(choice) for choice in texts.distribution.choices] == [["a.txt"], ["a.txt", "b.txt"]]


def test_an_adaptation_is_named_by_its_options(write_search_file: Write) -> None:
    space = {
        "finetuning": {"dropout": {"low": 0.0, "high": 0.2}},
        "adaptation": {"mlm_probability": {"choices": [0.15, 0.3]}},
    }
    options = read_search(write_search_file(adaptation=ADAPTATION, space=space))

    def name(seed: int = 1, **params: Any) -> str:
        adapting = options.build_candidate(params).build_adaptation(seed)
        assert adapting is not None
        return name_adaptation(adapting)

    names = [
        name(**{"dropout": dropout, "adaptation.mlm_probability": share})
        for dropout, share in ((0.1, 0.15), (0.2, 0.15), (0.1, 0.3))
    ]
    assert names[0] == names[1] != names[2]
    assert name() == name(seed=2) == names[0]  # 0.15 is the default


def test_an_adaptation_with_labels_is_one_for_each_seed(write_search_file: Write) -> None:
    """It has the labels of that seed's training rows alone, and only options of its objective."""
    space = {
        "objective": {"choices": ["mlm", "supervised_contrastive"]},
        "mlm_probability": {"choices": [0.15, 0.3]},
        "temperature": {"low": 0.05, "high": 0.5},
    }
    words = write_search_file(adaptation=ADAPTATION, space={"adaptation": space})
    content = yaml.safe_load(Path(words[0]).read_text(encoding="utf-8"))
    content["finetuning"]["max_train_samples"] = 40
    options = read_search(write_search_file(**content))
    drawn = {"adaptation.mlm_probability": 0.3, "adaptation.temperature": 0.1}
    masked = options.build_candidate(drawn | {"adaptation.objective": "mlm"})
    assert masked.build_adaptation(1) == masked.build_adaptation(2) == masked.adaptation
    assert masked.adaptation is not None
    assert "temperature" not in masked.adaptation
    assert masked.adaptation["mlm_probability"] == 0.3
    labelled = options.build_candidate(drawn | {"adaptation.objective": "supervised_contrastive"})
    adapting = labelled.build_adaptation(2)
    assert adapting is not None
    assert (adapting["seed"], adapting["target_max_train_samples"], adapting["temperature"]) == (2, 40, 0.1)
    assert not {"mlm_probability", "dataset_name"} & adapting.keys()
    assert name_adaptation(adapting) != name_adaptation(labelled.build_adaptation(1) or {})
    by_probe = write_search_file(**content | {"adaptation": ADAPTATION | {"metric_for_best_model": "probe_accuracy"}})
    assert read_search(by_probe).build_candidate({}).reads_labels


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pace": {"low": 1, "high": 2}}, "space finetuning: unknown key 'pace'; the keys are "),
        ({"learning_rat": {"low": 1, "high": 2}}, "unknown key 'learning_rat' (did you mean 'learning_rate'?)"),
        ({"learning_rate": 1e-4}, "space finetuning, learning_rate: 0.0001 is no range or choice; a range is {low"),
        ({"learning_rate": {"low": 1e-4}}, "learning_rate: lacks 'high'; a range is"),
        ({"learning_rate": {"low": 1e-4, "hihg": 1}}, "learning_rate: unknown key 'hihg' (did you mean 'high'?)"),
        ({"learning_rate": {"low": 1e-3, "high": 1e-4}}, "learning_rate: low 0.001 must be below high 0.0001"),
        ({"learning_rate": {"low": 0, "high": 1e-4}}, "space finetuning: --learning_rate 0.0: must be above 0"),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "dropout: with log, low must be above 0"),
        ({"dropout": {"low": 0.1, "high": 0.5, "log": True, "step": 0.1}}, "log and step exclude each other"),
        ({"dropout": {"low": 0.1, "high": 0.5, "log": "yes"}}, "log must be true or false, not 'yes'"),
        ({"dropout": {"low": 0.1, "high": 0.5, "step": 0.3}}, "high 0.5 is not a whole number of steps above low 0.1"),
        ({"dropout": {"low": 0.1, "high": 1.5}}, "space finetuning: --dropout 1.5: a probability"),
        ({"batch_size": {"low": 8, "high": 32, "step": 0.5}}, "batch_size: step 0.5 must be a number above 0"),
        ({"class_weights": {"low": 1, "high": 2}}, "class_weights: is not a number; a range is"),
        ({"batch_size": {"choices": []}}, "batch_size: choices must be a list"),
        ({"batch_size": {"choices": [8, 8]}}, "batch_size: 8 more than once in choices"),
        ({"batch_size": {"choices": [8], "low": 1}}, "batch_size: choices stand alone"),
        ({"batch_size": {"choices": [0]}}, "space finetuning: --batch_size 0: at least 1"),
        ({"batch_size": {"choices": ["few"]}}, "space finetuning: argument --batch_size"),
        ({"seed": {"choices": [1, 2]}}, "space finetuning: 'seed' is set by the search: remove it"),
        ({"max_rows": {"choices": [10, 20]}}, "'max_rows' decides what is scored, the same for all trials"),
        ({"max_train_samples": {"low": 10, "high": 20}}, "'max_train_samples' decides what is scored"),
        ({"lr": {"choices": [1]}, "learning_rate": {"choices": [1]}}, "'learning_rate' and 'lr' are the same option"),
        ([1], "space finetuning: must hold one 'option: range' per line"),
        ({}, "space: must name at least one option"),
    ],
)
def test_wrong_spaces_are_refused(section: Any, message: str, write_search_file: Write, tmp_path: Path) -> None:
    words = write_search_file(space={"finetuning": section})
    with pytest.raises(InputError) as refusal:
        read_search(words)
    found = str(refusal.value).replace("'lr' and 'learning_rate'", "'learning_rate' and 'lr'")
    assert found.startswith(f"{tmp_path / 'search.yaml'}, space")
    assert message in found
    assert "\n" not in found


def test_wrong_sections_and_flags_are_refused(write_search_file: Write, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], list[str], str]] = [
        ({"trial": 3}, [], "unknown key 'trial' (did you mean 'trials'?)"),
        ({"finetuning": {"seed": 1}}, [], "finetuning: 'seed' is set by the search: remove it"),
        ({"finetuning": {"pace": 1}}, [], "finetuning: unknown key 'pace'"),
        ({"adaptation": ADAPTATION | {"model": "x"}}, [], "adaptation: 'model' is set by the search: remove it"),
        ({"space": {"mlm": {}}}, [], "space: unknown key 'mlm'; the keys are finetuning, adaptation"),
        ({"space": {"adaptation": {"learning_rate": {"choices": [1]}}}}, [], "space: 'adaptation' needs a section"),
        ({"adaptation": ADAPTATION, "finetuning": {"keep_duplicates": True}}, [], "with keep_duplicates, equal texts"),
        ({}, ["--trials", "0"], "--trials 0: at least 1"),
        ({}, ["--seeds", "1", "1"], "--seeds: 1 more than once"),
        ({}, ["--confirm_seeds", "1"], "--confirm_seeds 1: the trials are trained with it, pass others"),
        ({}, ["--metric", "loss"], "--metric"),
        ({}, ["--launcher", "cloud"], "--launcher cloud: choose among local"),
        ({}, ["--quick"], "unknown option '--quick'"),
    ]
    for changes, flags, message in cases:
        with pytest.raises(InputError) as refusal:
            read_search([*write_search_file(**changes), *flags])
        assert message in str(refusal.value)
    content = yaml.safe_load((tmp_path / "search.yaml").read_text(encoding="utf-8"))
    assert content["trials"] == 3


def test_the_packaged_search_is_read() -> None:
    options = read_search(["--data_dir", "here"])
    assert {dimension.key for dimension in options.space} >= {"learning_rate", "head_lr", "adversarial_epsilon"}
    assert (options.args.confirm_seeds, options.finetuning["data_dir"]) == ([11, 12, 13], "here")
    assert options.adaptation is None
