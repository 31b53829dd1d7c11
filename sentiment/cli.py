"""The `sentiment` command: its options, and how every command ends."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentiment
from sentiment import commands
from sentiment.environment import get_rank
from sentiment.exceptions import (
    FULL_DISK,
    DivergenceError,
    InputError,
    SaveError,
    TrainingInterrupted,
    first_line,
)

# Errors of the operating system that a user can fix: printed in one line, without a traceback.
SYSTEM_ERRORS = FULL_DISK | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}
# Of commands that read tables; the first three are for unlabelled ones too.
COLUMN_OPTIONS = (
    *("text_column_names", "text_column_delimiter", "encoding"),
    *("label_column_name", "label_mapping", "unlabelled_value"),
)
# Commands whose options are those of runs, which `parse_arguments` parses.
RUN_COMMANDS = {
    commands.audit: "sizes, lengths, duplicates and leaks of a dataset",
    commands.train: "strategy A: fine-tune end to end, as train_e2e.py",
    commands.adapt: "strategy B, first half: adapt to unlabelled reviews, as train_mlm.py",
    commands.finetune: "strategy B, second half: fine-tune the adapted model, as train_finetune.py",
    commands.study: "training strategies x seeds x label budgets",
}
EXIT_CODES = (
    "exit codes: 0 done; 1 a file cannot be read or written, a run of a study failed, an export is refused or a record "
    "not reproduced; 2 wrong input (one line says what to do); 3 training diverged; 4 disk full; 130 or 143 "
    "interrupted"
)


def main(argv: Sequence[str] | None = None) -> None:
    """The `sentiment` command."""
    parser = build_parser()
    known, rest = parser.parse_known_args(argv)
    options = vars(known)
    command = options.pop("command")
    if command in RUN_COMMANDS:
        options["flags"] = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    run_command(command, **options)


def run_command(command: Callable[..., Any], **options: Any) -> None:
    """Runs a command; an error that the user can fix ends it with one line on stderr and an exit code."""
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        command(**options)
        sys.stdout.flush()
    except (InputError, DivergenceError, SaveError, TrainingInterrupted) as error:
        is_common = isinstance(error, (TrainingInterrupted, DivergenceError)) or getattr(
            error, "is_on_all_ranks", False
        )
        print_error(str(error), is_common)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in SYSTEM_ERRORS:
            raise
        print_error(f"{error.strerror}: {error.filename}")
        sys.exit(SaveError.exit_code if error.errno in FULL_DISK else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for its name
            raise
        print_error(f"the device memory is full: lower --batch_size or --max_seq_length ({first_line(error)})")
        sys.exit(1)


def disable_progress_bars() -> None:
    """Keep the progress bars of `datasets`, which may not be imported yet, out of a log."""
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()


def print_error(message: str, is_common: bool = False) -> None:
    """Prints an error; those of other ranks with their number, unless every rank has the same one."""
    rank = get_rank()
    if rank == 0:
        print(f"error: {message}", file=sys.stderr)
    elif not is_common:
        print(f"error (rank {rank}): {message}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, in the order of their use; each sets `command` to its function."""
    parser = argparse.ArgumentParser(
        "sentiment", description=(sentiment.__doc__ or "").split("\n\n")[0], epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"sentiment {sentiment.__version__}")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    fetching = parsers.add_parser("fetch", help="download the embedded model or reviews, and print their folder")
    fetching.add_argument("name", choices=["minilm", "snippets"])
    fetching.set_defaults(command=commands.fetch)
    for command, help_text in RUN_COMMANDS.items():
        parsers.add_parser(command.__name__, help=help_text, add_help=False).set_defaults(command=command)
    add_evaluation_commands(parsers)
    add_prediction_commands(parsers)
    add_serve_command(parsers)
    return parser


def add_evaluation_commands(parsers: Any) -> None:
    """Add `evaluate`, `compare` and `verify`."""
    evaluating = parsers.add_parser("evaluate", help="metrics of a checkpoint on labelled rows")
    evaluating.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    evaluating.add_argument("--dataset", required=True, help="as for train_e2e.py")
    evaluating.add_argument("--data_dir", help="folder with local copies of datasets, read instead of the Hub")
    add_column_options(evaluating, COLUMN_OPTIONS)
    evaluating.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    evaluating.add_argument("--output", type=Path, metavar="FILE", help="also write the metrics to a JSON file")
    evaluating.set_defaults(command=commands.evaluate)

    comparing = parsers.add_parser(
        "compare", help="verdict on two fine-tunings: which is better, by how much, how sure"
    )
    comparing.add_argument("folder_a", metavar="RUN_A", help="the folder of a finished fine-tuning")
    comparing.add_argument(
        "folder_b", metavar="RUN_B", help="another one, tested on the same rows; differences are B - A"
    )
    comparing.add_argument("--output_dir", default="outputs/comparison", help="folder of the report")
    comparing.add_argument("--dataset", help="other labelled rows to test both on, as for train_e2e.py")
    comparing.add_argument("--data_dir", help="folder with local copies of datasets, read instead of the Hub")
    add_column_options(comparing, COLUMN_OPTIONS)
    comparing.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    comparing.set_defaults(command=commands.compare)

    verifying = parsers.add_parser(
        "verify", help="evaluate a run's model again, and compare with the metrics on record"
    )
    verifying.add_argument("run", metavar="RUN", help="the folder of a finished run")
    verifying.add_argument("--data_dir", help="folder with local copies of datasets; default: that of the run")
    verifying.set_defaults(command=commands.verify)


def add_prediction_commands(parsers: Any) -> None:
    """Add `predict` and `export`."""
    predicting = parsers.add_parser("predict", help="classify texts, from arguments, a file, stdin or a prompt")
    predicting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    predicting.add_argument("texts", nargs="*", metavar="TEXT")
    predicting.add_argument("--file", help="CSV, JSON, Parquet or Excel with a text column, or one text per line")
    add_column_options(predicting, COLUMN_OPTIONS[:3])
    predicting.add_argument(
        "--output", type=Path, metavar="FILE", help=".csv, .tsv, .jsonl, .parquet or .xlsx; default: CSV on stdout"
    )
    predicting.add_argument("--probabilities", action="store_true", help="also a column p_<label> for each class")
    predicting.set_defaults(command=commands.predict)

    exporting = parsers.add_parser("export", help="write ONNX files, which `serve --backend onnx` runs without torch")
    exporting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    exporting.add_argument("--int8", action="store_true", help="also an int8 file: faster, and nearly as accurate")
    exporting.add_argument(
        "--dataset", help="labelled texts for the check, as for train_e2e.py; default: the run's test rows"
    )
    exporting.add_argument("--data_dir", help="folder with local copies of datasets, read instead of the Hub")
    add_column_options(exporting, COLUMN_OPTIONS)
    exporting.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    exporting.set_defaults(command=commands.export)


def add_serve_command(parsers: Any) -> None:
    """Add `serve`."""
    serving = parsers.add_parser("serve", help="HTTP service with a demo page", allow_abbrev=False)
    serving.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    serving.add_argument(
        "--compare-with", metavar="MODEL", help="second model, to answer with both and list disagreements"
    )
    serving.add_argument(
        "--backend", choices=["torch", "onnx"], help="onnx: files written by `sentiment export`; default torch"
    )
    serving.add_argument("--precision", help="auto (default: the fastest), fp32, bf16, fp16 (CUDA) or int8 (onnx)")
    serving.add_argument("--host", help="address to listen on; default 127.0.0.1 (this machine only)")
    serving.add_argument("--port", type=int, help="default 8000; 0 for a free one")
    serving.add_argument("--token-file", metavar="FILE", help="file with the bearer token that requests must send")
    serving.add_argument(
        "--cors-origins", nargs="+", metavar="ORIGIN", help="origins allowed to call the service from a browser (CORS)"
    )
    serving.add_argument("--max-sentences", type=int, metavar="N", help="maximum sentences per request; default 128")
    serving.add_argument(
        "--max-characters", type=int, metavar="N", help="maximum characters per sentence; default 10,000"
    )
    serving.add_argument("--max-body-bytes", type=int, metavar="N", help="maximum request body; default 1 MiB")
    serving.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="batches in parallel; default: one per core, up to 4 (onnx: 16); 1 on a GPU",
    )
    serving.add_argument(
        "--max-batch-tokens",
        type=int,
        metavar="N",
        help="maximum tokens per batch, padding included; default 256, on a GPU 8,192",
    )
    serving.add_argument(
        "--max-waiting-tokens", type=int, metavar="N", help="queued tokens beyond which requests get 429; default 8,192"
    )
    serving.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="maximum time to answer a request; default 10"
    )
    serving.set_defaults(command=commands.serve)


def add_column_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add options that say which columns are read, and how, as for train_e2e.py."""
    for name in names:
        parser.add_argument(f"--{name}", metavar=name.rsplit("_", 1)[-1].upper(), help="as for train_e2e.py")
