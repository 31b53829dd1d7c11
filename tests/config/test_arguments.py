"""Flags, YAML files and defaults: which beats which, and what is refused."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

import sentiment
from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.config.parsing import build_arguments, parse_arguments
from sentiment.config.presets import apply_lab_values
from sentiment.exceptions import InputError

CLASSES = [ModelArguments, DataArguments, FinetuningArguments]
MLM_CLASSES = [ModelArguments, CorpusArguments, AdaptationArguments]


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def parse(*words: object, classes: list[Any] = CLASSES) -> dict[str, Any]:
    parsed = parse_arguments(classes, [str(word) for word in words])
    return {option.name: getattr(part, option.name) for part in parsed for option in fields(part)}


def refused(*words: object, classes: list[Any] = CLASSES) -> str:
    with pytest.raises(InputError) as refusal:
        parse(*words, classes=classes)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_without_arguments_it_is_the_labs_experiment() -> None:
    model_args, data_args, args = parse_arguments(CLASSES, [])
    apply_lab_values(data_args, args)
    options = vars(model_args) | vars(data_args) | vars(args)
    expected = {
        "model_name_or_path": "google-bert/bert-base-uncased",
        "dataset_name": "sst2",
        "split": "auto",  # stratified for SST-2
        "sample": "first",
        "max_seq_length": 128,
        "learning_rate": 5e-5,
        "layer_decay": 1.0,
        "dropout": 0.0,
        "adversarial_epsilon": 0.0,
        "num_train_epochs": 20,
        "early_stopping_patience": 3,
        "max_grad_norm": 1.0,
        "output_dir": "outputs/e2e",
    }
    assert {name: options[name] for name in expected} == expected
    assert (data_args.row_limit, args.global_batch_size) == (10_000, 128)
    assert CorpusArguments().row_limit == 10_000
    assert AdaptationArguments().global_batch_size == 32


def test_flag_beats_file_and_file_beats_default(run_yaml: Path) -> None:
    run_yaml.write_text("lr: 1e-3\nbatch_size: 16\nkeep_duplicates: true\n")
    options = parse(run_yaml, "--batch_size", 8)
    assert (options["learning_rate"], options["batch_size"], options["keep_duplicates"]) == (1e-3, 8, True)
    assert options["early_stopping_patience"] == 3
    assert parse(run_yaml, "--keep_duplicates", "false")["keep_duplicates"] is False


def test_defaults_of_the_caller_are_the_weakest(run_yaml: Path) -> None:
    run_yaml.write_text("lr: 1e-3\n")
    defaults = {"learning_rate": 5.0, "output_dir": "outputs/finetune"}
    (args,) = parse_arguments([FinetuningArguments], [str(run_yaml)], defaults)
    assert (args.learning_rate, args.output_dir) == (1e-3, "outputs/finetune")


def test_values_of_a_file_have_the_types_of_the_options(run_yaml: Path) -> None:
    run_yaml.write_text("lr: 2e-5\nhead_lr: 1\nseed: 7\nmodel: 123\ndata_dir:\ndataset: a b=c.csv\nresume: no\n")
    options = parse(run_yaml)
    assert options["learning_rate"] == 2e-5
    assert isinstance(options["learning_rate"], float)
    assert isinstance(options["head_lr"], float)
    assert (options["seed"], options["model_name_or_path"], options["dataset_name"]) == (7, "123", "a b=c.csv")
    assert options["data_dir"] is None
    assert options["resume"] is False


def test_empty_file_changes_nothing(run_yaml: Path) -> None:
    run_yaml.write_text("# nothing\n")
    assert parse(run_yaml) == parse()


def test_default_words_are_those_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train_e2e.py", "--lr", "0.5"])
    (args,) = parse_arguments([FinetuningArguments])
    assert args.learning_rate == 0.5


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("learning_rat: 1\n", ["unknown key 'learning_rat' (did you mean 'learning_rate'?)"]),
        ("lr: 1e-5\nlearning_rate: 2e-5\n", ["'lr' and 'learning_rate' are the same option"]),
        ("lr: 1e-5\nseed: 1\nlr: 2e-5\n", ["the key 'lr' occurs twice", "line 3"]),
        ("label_mapping:\n  1: bad\n  2: good\n  1: good\n", ["the key '1' occurs twice", "line 4"]),
        ("label_mapping: {true: bad, True: good}\n", ["the key 'True' occurs twice"]),
        ("zzz: 5\n", ["unknown key 'zzz'; the keys are"]),
        ("5: 5\n", ["unknown key '5'"]),
        ("lr: [1, 2]\n", ["'lr' must be a single value"]),
        ("lr: {a: 1}\n", ["'lr' must be a single value"]),
        ("- lr\n", ["must hold one 'key: value' per line"]),
        ("lr\n", ["must hold one 'key: value' per line"]),
        ("lr: [1\n", ["is not valid YAML"]),
        ("lr: 1\n\tbatch_size: 2\n", ["is not valid YAML", "line 2"]),
    ],
)
def test_what_a_file_must_not_hold(content: str, parts: list[str], run_yaml: Path) -> None:
    run_yaml.write_text(content)
    message = refused(run_yaml)
    assert [part for part in [str(run_yaml), *parts] if part not in message] == []


def test_files_that_cannot_be_read(tmp_path: Path, run_yaml: Path) -> None:
    assert refused(run_yaml) == f"cannot read {run_yaml}: No such file or directory"
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot read" in refused(tmp_path / "folder.yaml")
    run_yaml.write_bytes(b"lr: \xff\n")
    assert "is not valid YAML" in refused(run_yaml)


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense", "1"],
        ["--rat", "1"],
        ["--batch", "8"],  # an abbreviation of --batch_size
        ["--lr", "1", "run.yaml"],  # the file must stand first
    ],
)
def test_unknown_options_and_abbreviations(words: list[str]) -> None:
    message = refused(*words)
    assert words[-1] in message
    assert ("before all flags" if words[-1] == "run.yaml" else "--help") in message


@pytest.mark.parametrize(
    "flag",
    [
        "--lr=0",
        "--lr=-0.5",
        "--lr=nan",
        "--head_lr=0",
        "--layer_decay=0",
        "--layer_decay=1.1",
        "--max_grad_norm=0",
        "--warmup_steps=-0.1",
        "--weight_decay=-1",
        "--batch_size=0",
        "--num_train_epochs=0",
        "--early_stopping_patience=0",
        "--seed=-1",
        "--seed=4294967296",
        "--dropout=1",
        "--dropout=-0.1",
        "--adversarial_epsilon=-1",
        "--max_rows=0",
        "--max_rows=-5",
        "--max_rows=many",
        "--max_rows=1.5",
        "--max_seq_length=2",
        "--preprocessing_num_workers=0",
    ],
)
def test_values_that_no_run_can_use(flag: str) -> None:
    name = flag.replace("--lr", "--learning_rate")
    assert refused(flag).startswith(name.replace("=", " "))


def test_values_are_refused_from_a_file_too(run_yaml: Path) -> None:
    run_yaml.write_text("max_seq_length: 1\n")
    assert refused(run_yaml).startswith("--max_seq_length 1:")


def test_resume_and_overwrite_contradict_each_other() -> None:
    assert "contradict" in refused("--resume", "--overwrite")


@pytest.mark.parametrize(
    "flag",
    ["--lr=fast", "--batch_size=1.5", "--split=random", "--cleaning=spotless", "--precision=int8", "--resume=maybe"],
)
def test_values_of_another_type(flag: str) -> None:
    assert re.match(rf"argument \S*{flag.partition('=')[0]}\b", refused(flag))


@pytest.mark.parametrize(
    ("value", "limit"), [("all", None), ("ALL", None), ("1_000", 1_000), ("1,000", 1_000), ("7", 7)]
)
def test_max_rows(value: str, limit: int | None, run_yaml: Path) -> None:
    assert DataArguments(max_rows=value).row_limit == limit
    run_yaml.write_text(f"max_rows: {value}\n")
    (args,) = parse_arguments([DataArguments], [str(run_yaml)])
    assert args.row_limit == limit


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((Path(sentiment.__file__).parent / "config").glob("*.yaml"))
        if not path.stem.startswith(("study", "offline_study", "search"))  # they have options of their own
    ],
    ids=lambda path: path.name,
)
def test_shipped_files_hold_only_what_differs_from_the_defaults(path: Path) -> None:
    classes = MLM_CLASSES if "mlm" in path.stem else CLASSES
    options, defaults = parse(path, classes=classes), parse(classes=classes)
    keys = re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert keys
    assert [key for key in keys if options[key] == defaults[key]] == []


def test_other_dataclasses_can_be_parsed_with_them() -> None:
    @dataclass
    class Other:
        word: str = "x"

    data, other = parse_arguments([DataArguments, Other], ["--word", "y", "--dataset", "imdb"])
    assert (data.dataset_name, other.word) == ("imdb", "y")


def test_several_datasets_by_flag_or_file(run_yaml: Path) -> None:
    assert parse(classes=MLM_CLASSES)["dataset_name"] == ["imdb"]
    assert parse("--dataset", "imdb", "own.txt", "--lr", 1, classes=MLM_CLASSES)["dataset_name"] == ["imdb", "own.txt"]
    for content in ("dataset: [imdb, a b.txt]\nlr: 1.0\n", "lr: 1.0\ndataset:\n- imdb\n- a b.txt\n"):
        run_yaml.write_text(content)
        assert parse(run_yaml, classes=MLM_CLASSES)["dataset_name"] == ["imdb", "a b.txt"]
    run_yaml.write_text("dataset: imdb\n")
    assert parse(run_yaml, classes=MLM_CLASSES)["dataset_name"] == ["imdb"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--mlm_probability=0"],
        ["--mlm_probability=1"],
        ["--head_warmup_ratio=-0.1"],
        ["--validation_split_percentage=0"],
        ["--max_rows=none"],
        ["--max_seq_length=2"],
        ["--max_steps=0", "--streaming=true"],
        ["--label_smoothing_factor=0.1"],
        ["--shuffle_buffer_size=0"],
    ],
)
def test_values_that_no_adaptation_can_use(flags: list[str]) -> None:
    assert flags[0].split("=")[0] in refused(*flags, classes=MLM_CLASSES)


def test_a_stream_needs_its_steps() -> None:
    options = parse("--streaming", "--max_steps", 10, classes=MLM_CLASSES)
    assert (options["streaming"], options["max_steps"]) == (True, 10)


def test_one_option_under_two_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"flags: .* are the same option"):
        parse("--lr", "1e-4", "--learning_rate", "2e-4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "gruoped"}, "--split gruoped: choose from auto, stratified, official, grouped"),
        ({"sample": "rnd"}, "--sample rnd: choose from first, random"),
        ({"metric_for_best_model": "bleu"}, "--metric_for_best_model bleu: choose from accuracy"),
        ({"max_seq_length": "long"}, "max_seq_length='long': Input should be a valid integer"),
        ({"num_train_epochs": [1]}, r"num_train_epochs=\[1\]: Input should be a valid number"),
        ({"learning_rat": 1.0}, "unknown option 'learning_rat'"),
    ],
)
def test_options_from_python_are_checked_like_flags(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_arguments([DataArguments, FinetuningArguments], options)


def test_options_from_python_are_converted(tmp_path: Path) -> None:
    given = {"max_rows": 300, "num_train_epochs": "2", "output_dir": tmp_path, "dataset_name": "imdb"}
    corpus_args, args = build_arguments([CorpusArguments, AdaptationArguments], given)
    assert (corpus_args.max_rows, corpus_args.dataset_name) == ("300", ["imdb"])
    assert (args.num_train_epochs, args.output_dir) == (2, str(tmp_path))


def test_a_key_that_occurs_twice_is_refused(run_yaml: Path) -> None:
    run_yaml.write_text("lr: 1e-3\nbatch_size: 8\nlr: 1e-4\n")
    assert "key 'lr' occurs twice" in refused(run_yaml)
