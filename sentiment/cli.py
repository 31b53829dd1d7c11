"""The `sentiment` command, and how every command ends.

Commands import what they need when they run, so that `sentiment fetch` does not import torch.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sentiment
from sentiment.environment import get_rank
from sentiment.exceptions import (
    FULL_DISK,
    DivergenceError,
    InputError,
    SaveError,
    TrainingInterrupted,
    first_line,
    require,
)

# Errors of the operating system that a user can fix: printed in one line, without a traceback.
SYSTEM_ERRORS = FULL_DISK | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}
# Of commands that read tables; the first three are for unlabelled ones too.
COLUMN_OPTIONS = (
    *("text_column_names", "text_column_delimiter", "encoding"),
    *("label_column_name", "label_mapping", "unlabelled_value"),
)
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
    if command in (audit, study, train, adapt, finetune):  # their options are those of the training scripts
        options["flags"] = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    run_command(command, **options)


def run_command(command: Callable[..., Any], **options: Any) -> None:
    """Runs a command; an error that the user can fix ends it with one line on stderr and an exit code."""
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


def print_error(message: str, is_common: bool = False) -> None:
    """Prints an error; those of other ranks with their number, unless every rank has the same one."""
    rank = get_rank()
    if rank == 0:
        print(f"error: {message}", file=sys.stderr)
    elif not is_common:
        print(f"error (rank {rank}): {message}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` to its function."""
    parser = argparse.ArgumentParser(
        "sentiment", description=(sentiment.__doc__ or "").split("\n\n")[0], epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"sentiment {sentiment.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fetching = commands.add_parser("fetch", help="download the embedded model or reviews, and print their folder")
    fetching.add_argument("name", choices=["minilm", "snippets"])
    fetching.set_defaults(command=fetch)

    auditing = commands.add_parser("audit", help="sizes, lengths, duplicates and leaks of a dataset", add_help=False)
    auditing.set_defaults(command=audit)

    for trainer, help_text in (
        (train, "strategy A: fine-tune end to end, as train_e2e.py"),
        (adapt, "strategy B, first half: adapt to unlabelled reviews, as train_mlm.py"),
        (finetune, "strategy B, second half: fine-tune the adapted model, as train_finetune.py"),
    ):
        commands.add_parser(trainer.__name__, help=help_text, add_help=False).set_defaults(command=trainer)

    evaluating = commands.add_parser("evaluate", help="metrics of a checkpoint on labelled rows")
    evaluating.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    evaluating.add_argument("--dataset", required=True, help="as for train_e2e.py")
    evaluating.add_argument("--data_dir", help="folder with local copies of datasets, read instead of the Hub")
    add_column_options(evaluating, COLUMN_OPTIONS)
    evaluating.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    evaluating.add_argument("--output", type=Path, metavar="FILE", help="also write the metrics to a JSON file")
    evaluating.set_defaults(command=evaluate)

    predicting = commands.add_parser("predict", help="classify texts, from arguments, a file, stdin or a prompt")
    predicting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    predicting.add_argument("texts", nargs="*", metavar="TEXT")
    predicting.add_argument("--file", help="CSV, JSON, Parquet or Excel with a text column, or one text per line")
    add_column_options(predicting, COLUMN_OPTIONS[:3])
    predicting.add_argument(
        "--output", type=Path, metavar="FILE", help=".csv, .tsv, .jsonl, .parquet or .xlsx; default: CSV on stdout"
    )
    predicting.add_argument("--probabilities", action="store_true", help="also a column p_<label> for each class")
    predicting.set_defaults(command=predict)

    comparing = commands.add_parser(
        "compare", help="verdict on two fine-tunings: which is better, by how much, how sure"
    )
    comparing.add_argument("folder_a", metavar="RUN_A", help="the folder of a finished fine-tuning")
    comparing.add_argument(
        "folder_b", metavar="RUN_B", help="another one, tested on the same rows; differences are B - A"
    )
    comparing.add_argument("--output_dir", default="outputs/comparison", help="folder of the report")
    comparing.set_defaults(command=compare)

    verifying = commands.add_parser(
        "verify", help="evaluate a run's model again, and compare with the metrics on record"
    )
    verifying.add_argument("run", metavar="RUN", help="the folder of a finished run")
    verifying.add_argument("--data_dir", help="folder with local copies of datasets; default: that of the run")
    verifying.set_defaults(command=verify)

    studying = commands.add_parser("study", help="training strategies x seeds x label budgets", add_help=False)
    studying.set_defaults(command=study)

    exporting = commands.add_parser("export", help="write ONNX files, which `serve --backend onnx` runs without torch")
    exporting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    exporting.add_argument("--int8", action="store_true", help="also an int8 file: faster, and nearly as accurate")
    exporting.add_argument(
        "--dataset", help="labelled texts for the check, as for train_e2e.py; default: the run's test rows"
    )
    exporting.add_argument("--data_dir", help="folder with local copies of datasets, read instead of the Hub")
    add_column_options(exporting, COLUMN_OPTIONS)
    exporting.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    exporting.set_defaults(command=export)

    serving = commands.add_parser("serve", help="HTTP service with a demo page", allow_abbrev=False)
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
    serving.set_defaults(command=serve)
    return parser


def add_column_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add options that say which columns are read, and how, as for train_e2e.py."""
    for name in names:
        parser.add_argument(f"--{name}", metavar=name.rsplit("_", 1)[-1].upper(), help="as for train_e2e.py")


def build_reading_options(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `load_reviews` for `COLUMN_OPTIONS`; those that are not given have their defaults."""
    from sentiment.data.labels import LabelOptions, parse_label_mapping

    given = {name: value for name, value in options.items() if value is not None}
    labels = LabelOptions(parse_label_mapping(given.pop("label_mapping", None)), given.pop("unlabelled_value", None))
    return given | {"labels": labels}


def fetch(name: str) -> None:
    """Prints the folder of the embedded model or reviews, downloaded on first use."""
    from sentiment.demo.embedded import EMBEDDED

    print(EMBEDDED[name]())


@dataclass
class AuditArguments:
    """Options of an audit beside those of the data."""

    model: str = field(
        default="minilm",
        metadata={"help": "Model whose tokenizer counts tokens; minilm has the vocabulary of bert-base-uncased."},
    )
    seed: int = field(default=42, metadata={"help": "Seed of the split."})
    output: str | None = field(default=None, metadata={"help": "Also write the audit as JSON to this file."})

    def __post_init__(self) -> None:
        """Raises InputError for a seed that no generator takes."""
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: from 0 to 4294967295")


def audit(flags: Sequence[str]) -> None:
    """Prints the audit of a dataset, as published and as split by a run."""
    from sentiment.config.arguments import DataArguments
    from sentiment.config.parsing import parse_arguments
    from sentiment.data.finetuning_data import audit_published, audit_reviews, load_split_reviews
    from sentiment.models.loading import load_tokenizer
    from sentiment.models.model_folder import resolve_model
    from sentiment.reporting.terminal import render_audit
    from sentiment.storage import write_json

    data_args, args = parse_arguments([DataArguments, AuditArguments], flags, prog="sentiment audit")
    tokenizer = load_tokenizer(resolve_model(args.model))
    audits = {
        "published": audit_published(data_args, tokenizer),
        "split": audit_reviews(load_split_reviews(data_args, args.seed), data_args, tokenizer),
    }
    print(render_audit(audits["published"], f"{data_args.dataset_name} as published"))
    print(render_audit(audits["split"], f"{data_args.dataset_name} as split by a run"))
    if args.output:
        write_json(Path(args.output), {"options": asdict(data_args) | asdict(args)} | audits)


def train(flags: Sequence[str]) -> None:
    """Fine-tunes a pretrained model end to end."""
    from sentiment.pipelines.finetuning import main

    main("e2e", flags, prog="sentiment train")


def adapt(flags: Sequence[str]) -> None:
    """Adapts a pretrained model to unlabelled reviews."""
    from sentiment.pipelines.adaptation import main

    main(flags, prog="sentiment adapt")


def finetune(flags: Sequence[str]) -> None:
    """Fine-tunes an adapted model."""
    from sentiment.pipelines.finetuning import main

    main("finetune", flags, prog="sentiment finetune")


def evaluate(
    model: str, dataset: str, data_dir: str | None, split: str | None, output: Path | None, **columns: Any
) -> None:
    """Prints the metrics of a checkpoint on the labelled rows of a split."""
    import numpy as np

    from sentiment.data.labels import align_labels
    from sentiment.data.leaks import assign_clusters
    from sentiment.data.sources import load_reviews
    from sentiment.data.splits import choose_labelled_split, join_labelled
    from sentiment.evaluation.metrics import evaluate_probabilities
    from sentiment.inference.predictor import Predictor
    from sentiment.reporting.terminal import render_metrics
    from sentiment.storage import write_json

    predictor = Predictor.from_pretrained(model)
    reviews = load_reviews(dataset, data_dir, **build_reading_options(columns))
    name = choose_labelled_split(reviews, [split] if split else ["test", "validation", "train"])
    part = join_labelled(reviews, [name])
    texts, class_names = part["text"][:], predictor.checkpoint.labels
    order = align_labels(part.features["label"].names, class_names, dataset, model)
    labels = np.asarray(order)[part["label"][:]]
    metrics = evaluate_probabilities(
        predictor.predict_probabilities(texts), labels, class_names, assign_clusters(texts)
    )
    print(f"{dataset}, split {name}: {len(part):,} labelled rows\n{render_metrics(metrics)}")
    if output:
        write_json(output, {"model": model, "dataset": dataset, "split": name, "rows": len(part)} | metrics)


def predict(
    model: str,
    texts: list[str],
    file: str | None,
    output: Path | None,
    probabilities: bool,
    **columns: str | None,
) -> None:
    """Writes the columns of each row, its label and score, in order."""
    from sentiment.data.files import read_lines
    from sentiment.inference import file_prediction
    from sentiment.inference.predictor import Predictor

    if texts and file:
        raise InputError("pass either texts or --file, not both")
    given = {name: value for name, value in columns.items() if value is not None}
    require(bool(file) or not given, f"--{', --'.join(given)}: for --file only")
    file_prediction.check_output(output, file or (None if texts else 0))  # 0 is stdin
    predictor = Predictor.from_pretrained(model)
    if not texts and not file and sys.stdin.isatty():
        file_prediction.answer_prompts(predictor)
        return
    if file:
        rows = file_prediction.read_rows(file, **given)
    else:
        rows = file_prediction.build_rows(texts or read_lines(sys.stdin.buffer, "stdin"))
    schema = file_prediction.read_schema(file) if file else None
    file_prediction.write_predictions(predictor, rows, output, probabilities, schema)


def compare(folder_a: str, folder_b: str, output_dir: str) -> None:
    """Prints the verdict on two fine-tunings and writes the report."""
    from sentiment.pipelines.comparison import compare as compare_runs
    from sentiment.reporting.terminal import render_comparison

    comparison = compare_runs(folder_a, folder_b, output_dir)
    print(f"{render_comparison(comparison)}\n\nReport: {Path(output_dir) / 'report.html'}")


def verify(run: str, data_dir: str | None) -> None:
    """Evaluates a run's model again; exit code 1, with a line per difference, if the record is not reproduced."""
    from sentiment.pipelines.verification import TOLERANCE, verify_run

    verification = verify_run(Path(run), data_dir)
    if not verification.differences:
        print(f"{run}: {verification.evaluated}: every metric on record is reproduced to {TOLERANCE:g}")
        return
    print(f"{run}: {verification.evaluated}: differences from the record:")
    print("\n".join(f"  {line}" for line in verification.differences))
    if verification.surroundings:
        print(
            "the environment differs from that of the training:\n"
            + "\n".join(f"  {line}" for line in verification.surroundings)
        )
    sys.exit(1)


def study(flags: Sequence[str]) -> None:
    """Trains the missing runs of a study, prints the verdict and writes the report; exit code 1 if a run failed."""
    from sentiment.reporting.study_report import render_study
    from sentiment.study.runner import run_study

    verdict = run_study(flags)
    if verdict is None:
        sys.exit(1)
    print(f"{render_study(verdict)}\n\nReport: {Path(verdict['options']['study']['output_dir']) / 'report.html'}")


def export(
    model: str, int8: bool, dataset: str | None, data_dir: str | None, split: str | None, **columns: Any
) -> None:
    """Writes ONNX files beside the weights and prints the comparison with torch; exit code 1 if one is refused."""
    from sentiment.inference.export import export_model, render_export

    given = {name: value for name, value in columns.items() if value is not None}
    require(bool(dataset) or not given, f"--{', --'.join(given)}: for --dataset only")
    report = export_model(model, int8, dataset, split, data_dir, **(build_reading_options(given) if given else {}))
    print(render_export(report))
    if report["refused"]:
        sys.exit(f"error: {report['refused']}")


def serve(**options: Any) -> None:
    """Serves a model over HTTP until SIGTERM or SIGINT."""
    from sentiment.serving.arguments import ServingArguments
    from sentiment.serving.server import serve as serve_http

    serve_http(ServingArguments(**{name: value for name, value in options.items() if value is not None}))
