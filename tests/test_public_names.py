"""Names that users rely on: whoever renames one breaks their scripts."""

from dataclasses import fields

from sentiment.cli import build_parser
from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)


def test_options() -> None:
    names = {field.name for group in (ModelArguments, DataArguments, FinetuningArguments) for field in fields(group)}
    assert names >= {
        *("model", "dataset", "data_dir", "output_dir", "split", "max_rows", "cleaning", "keep_duplicates"),
        *("max_seq_length", "lr", "head_lr", "layer_decay", "batch_size", "num_train_epochs", "dropout"),
        *("precision", "seed", "resume", "overwrite", "train_rows", "split_seed"),
    }


def test_options_of_an_adaptation() -> None:
    names = {field.name for group in (ModelArguments, CorpusArguments, AdaptationArguments) for field in fields(group)}
    assert names >= {
        *("model", "dataset", "data_dir", "output_dir", "max_rows", "max_seq_length", "long_texts", "mlm_probability"),
        *("target_dataset", "head_warmup_ratio", "streaming", "max_steps", "num_train_epochs", "lr", "resume"),
    }


def test_commands() -> None:
    usage = build_parser().format_help()
    assert [
        name for name in ("fetch", "audit", "evaluate", "predict", "compare") if f"\n    {name} " not in usage
    ] == []
