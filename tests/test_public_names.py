"""Names that users rely on: renaming one breaks their scripts."""

import inspect
from dataclasses import fields

import sentiment
from sentiment.command_parser import build_parser
from sentiment.config.parsing import get_canonical_names
from sentiment.pipelines import adaptation, finetuning


def test_python_names() -> None:
    assert sorted(sentiment.__all__) == ["Predictor", "adapt", "compare", "finetune"]
    signatures = {name: list(inspect.signature(getattr(sentiment, name)).parameters) for name in sentiment.__all__}
    assert signatures == {
        "Predictor": ["checkpoint", "backend"],
        "adapt": ["model_name_or_path", "dataset_name", "output_dir", "options"],
        "compare": ["run_a", "run_b", "output_dir", "dataset", "metric", "label_issues", "behaviour", "reading"],
        "finetune": ["model_name_or_path", "dataset_name", "output_dir", "strategy", "options"],
    }
    assert next(iter(inspect.signature(sentiment.Predictor.from_pretrained).parameters)) == "path"
    for name in sentiment.__all__:
        assert inspect.getdoc(getattr(sentiment, name))


def test_options_of_a_fine_tuning() -> None:
    names = {option.name for group in finetuning.ARGUMENTS for option in fields(group)}
    assert names >= {
        *("model_name_or_path", "model_revision", "dataset_name", "dataset_revision", "data_dir", "output_dir"),
        *("text_column_names", "label_column_name", "split", "split_seed", "max_rows", "max_train_samples", "cleaning"),
        *("keep_duplicates", "max_seq_length", "learning_rate", "head_lr", "layer_decay", "batch_size"),
        *("per_device_train_batch_size", "num_train_epochs", "dropout", "precision", "seed", "resume", "overwrite"),
    }


def test_options_of_an_adaptation() -> None:
    names = {option.name for group in adaptation.ARGUMENTS for option in fields(group)}
    assert names >= {
        *("model_name_or_path", "dataset_name", "data_dir", "output_dir", "max_rows", "max_seq_length", "long_texts"),
        *("target_dataset", "head_warmup_ratio", "streaming", "max_steps", "num_train_epochs", "learning_rate"),
        *("mlm_probability", "validation_split_percentage", "resume"),
    }


def test_aliases() -> None:
    for arguments in (finetuning.ARGUMENTS, adaptation.ARGUMENTS):
        names = get_canonical_names(arguments)
        found = {alias: names[alias] for alias in ("model", "dataset", "lr")}
        assert found == {"model": "model_name_or_path", "dataset": "dataset_name", "lr": "learning_rate"}


def test_commands() -> None:
    usage = build_parser().format_help()
    commands = (
        "fetch",
        "audit",
        "train",
        "adapt",
        "finetune",
        "evaluate",
        "predict",
        "suggest",
        "compare",
        "verify",
        "study",
        "search",
        "export",
        "serve",
    )
    assert [name for name in commands if f"\n  {name} " not in usage] == []
