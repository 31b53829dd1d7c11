"""The `sentiment` command, and how every command ends.

Commands import what they need when they run, so that `sentiment fetch` does not wait for torch.
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
from sentiment.exceptions import DivergenceError, InputError, SaveError, TrainingInterrupted

FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
SYSTEM_REFUSALS = FULL_DISK | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}


EXIT_CODES = (
    "exit codes: 0 done, 1 a file cannot be written or read, a run of a study failed, an export is refused or a record "
    "is not reproduced, "
    "2 wrong input (one line says what to do), 3 a training diverged, 4 the disk is full, 130 or 143 interrupted"
)


def main(argv: Sequence[str] | None = None) -> None:
    """The `sentiment` command."""
    parser = build_parser()
    known, rest = parser.parse_known_args(argv)
    options = vars(known)
    command = options.pop("command")
    if command in (audit, study):  # their options are those of runs, which have a parser of their own
        options["flags"] = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    run_command(command, **options)


def run_command(command: Callable[..., Any], **options: Any) -> None:
    """Runs a command; wrong input ends it with one line on stderr and exit code 2."""
    try:
        command(**options)
        sys.stdout.flush()
    except (InputError, DivergenceError, SaveError, TrainingInterrupted) as error:
        if int(os.environ.get("RANK", "0")) == 0:  # processes of one run end alike
            print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, such as `head`, has all that it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in SYSTEM_REFUSALS:
            raise
        print(f"error: {error.strerror}: {error.filename}", file=sys.stderr)
        sys.exit(SaveError.exit_code if error.errno in FULL_DISK else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` to the function that does it."""
    parser = argparse.ArgumentParser("sentiment", description=sentiment.__doc__, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"sentiment {sentiment.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fetching = commands.add_parser("fetch", help="fetch the embedded model or reviews, and print where they are")
    fetching.add_argument("name", choices=["minilm", "snippets"])
    fetching.set_defaults(command=fetch)

    auditing = commands.add_parser("audit", help="sizes, lengths, duplicates and leaks of a dataset", add_help=False)
    auditing.set_defaults(command=audit)

    evaluating = commands.add_parser("evaluate", help="metrics of a checkpoint on labelled rows")
    evaluating.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    evaluating.add_argument("--dataset", required=True, help="as for train_e2e.py")
    evaluating.add_argument("--data_dir", help="folder with local copies, used in place of the Hub")
    evaluating.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    evaluating.add_argument("--output", type=Path, metavar="FILE", help="also write the metrics as JSON")
    evaluating.set_defaults(command=evaluate)

    predicting = commands.add_parser("predict", help="label texts; without any on a terminal, ask for them")
    predicting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    predicting.add_argument("texts", nargs="*", metavar="TEXT")
    predicting.add_argument("--file", help=".csv, .tsv, .jsonl or .parquet with a text column, or one text a line")
    predicting.add_argument("--output", type=Path, metavar="FILE", help="write the CSV there, not to stdout")
    predicting.set_defaults(command=predict)

    comparing = commands.add_parser("compare", help="which of two fine-tunings is better, by how much, and how sure")
    comparing.add_argument("folder_a", metavar="RUN_A", help="the folder of a finished fine-tuning")
    comparing.add_argument("folder_b", metavar="RUN_B", help="another, tested on the same rows; differences are B - A")
    comparing.add_argument("--output_dir", default="outputs/comparison", help="where the report is written")
    comparing.set_defaults(command=compare)

    verifying = commands.add_parser("verify", help="whether a run's model still gives the metrics on record")
    verifying.add_argument("run", metavar="RUN", help="the folder of a finished run")
    verifying.add_argument("--data_dir", help="folder with local copies, where it is another than the run's")
    verifying.set_defaults(command=verify)

    studying = commands.add_parser("study", help="ways of training x seeds x label budgets", add_help=False)
    studying.set_defaults(command=study)

    exporting = commands.add_parser("export", help="ONNX files, which `serve --backend onnx` runs without torch")
    exporting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    exporting.add_argument("--int8", action="store_true", help="also one in int8: faster, and nearly as accurate")
    exporting.add_argument("--dataset", help="labelled texts to check on, as for train_e2e.py; default: the test rows")
    exporting.add_argument("--data_dir", help="folder with local copies, used in place of the Hub")
    exporting.add_argument("--split", help="published split; default: the first labelled of test, validation, train")
    exporting.set_defaults(command=export)

    serving = commands.add_parser("serve", help="an HTTP service, and a page to try it", allow_abbrev=False)
    serving.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    serving.add_argument("--compare-with", metavar="MODEL", help="answer with this one too, and say where they differ")
    serving.add_argument("--backend", choices=["torch", "onnx"], help="onnx: what `sentiment export` wrote")
    serving.add_argument("--precision", help="auto (default: the fastest), fp32, bf16, fp16 (CUDA) or int8 (onnx)")
    serving.add_argument("--host", help="address to listen on; default 127.0.0.1, this machine only")
    serving.add_argument("--port", type=int, help="default 8000; 0 for a free one")
    serving.add_argument("--token-file", metavar="FILE", help="holds what requests must bring as a bearer token")
    serving.add_argument("--cors-origins", nargs="+", metavar="ORIGIN", help="whose pages may call the service")
    serving.add_argument("--max-sentences", type=int, metavar="N", help="of one request; default 128")
    serving.add_argument("--max-characters", type=int, metavar="N", help="of one sentence; default 10,000")
    serving.add_argument("--max-body-bytes", type=int, metavar="N", help="of one request; default 1 MiB")
    serving.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="batches at a time; default: one a core, up to 4; with onnx 16; on a GPU 1",
    )
    serving.add_argument(
        "--max-batch-tokens", type=int, metavar="N", help="padding included; default 256, on a GPU 8,192"
    )
    serving.add_argument("--max-waiting-tokens", type=int, metavar="N", help="past them: 429; default 8,192")
    serving.add_argument("--timeout", type=float, metavar="SECONDS", help="a request may wait; default 10")
    serving.set_defaults(command=serve)
    return parser


def fetch(name: str) -> None:
    """Prints the path of the embedded model or reviews, fetched if need be."""
    from sentiment.demo.embedded import EMBEDDED

    print(EMBEDDED[name]())


@dataclass
class AuditArguments:
    """What an audit counts with, and where to."""

    model: str = field(
        default="minilm",
        metadata={"help": "Whose tokenizer counts tokens; minilm's vocabulary is that of bert-base-uncased."},
    )
    seed: int = field(default=42, metadata={"help": "Of the split."})
    output: str | None = field(default=None, metadata={"help": "Also write the audit as JSON to this file."})

    def __post_init__(self) -> None:
        """Refuses a seed that no generator takes."""
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: from 0 to 4294967295")


def audit(flags: Sequence[str]) -> None:
    """Prints the audit of a dataset, as published and as a run would split it."""
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
    print(render_audit(audits["split"], f"{data_args.dataset_name} as a run splits it"))
    if args.output:
        write_json(Path(args.output), {"options": asdict(data_args) | asdict(args)} | audits)


def evaluate(model: str, dataset: str, data_dir: str | None, split: str | None, output: Path | None) -> None:
    """Prints the metrics of a checkpoint on the labelled rows of a split."""
    from sentiment.data.sources import load_reviews
    from sentiment.data.splits import choose_labelled_split, join_labelled
    from sentiment.evaluation.metrics import evaluate_probabilities
    from sentiment.inference.predictor import SentimentPredictor
    from sentiment.reporting.terminal import render_metrics
    from sentiment.storage import write_json

    predictor = SentimentPredictor.from_pretrained(model)
    reviews = load_reviews(dataset, data_dir)
    name = choose_labelled_split(reviews, [split] if split else ["test", "validation", "train"])
    part = join_labelled(reviews, [name])
    metrics = evaluate_probabilities(predictor.predict_probabilities(part["text"][:]), part["label"][:])
    print(f"{dataset}, split {name}: {len(part):,} labelled rows\n{render_metrics(metrics)}")
    if output:
        write_json(output, {"model": model, "dataset": dataset, "split": name, "rows": len(part)} | metrics)


def predict(model: str, texts: list[str], file: str | None, output: Path | None) -> None:
    """Writes `text,label,probability` (of positive) for each text, in order."""
    from sentiment.data.files import read_lines
    from sentiment.inference.file_prediction import answer_prompts, read_texts, write_predicted_labels
    from sentiment.inference.predictor import SentimentPredictor

    if texts and file:
        raise InputError("pass either texts or --file, not both")
    predictor = SentimentPredictor.from_pretrained(model)
    if texts:
        write_predicted_labels(predictor, texts, output)
    elif file:
        write_predicted_labels(predictor, read_texts(file), output)
    elif sys.stdin.isatty():
        answer_prompts(predictor)
    else:
        write_predicted_labels(predictor, read_lines(sys.stdin.buffer, "stdin"), output)


def compare(folder_a: str, folder_b: str, output_dir: str) -> None:
    """Prints the verdict on two fine-tunings and writes the report."""
    from sentiment.pipelines.comparison import compare_runs
    from sentiment.reporting.terminal import render_comparison

    comparison = compare_runs(folder_a, folder_b, output_dir)
    print(f"{render_comparison(comparison)}\n\nReport: {Path(output_dir) / 'report.html'}")


def verify(run: str, data_dir: str | None) -> None:
    """Evaluates a run's model again; exit code 1, with a line for each difference, if the record is not reproduced."""
    from sentiment.pipelines.verification import TOLERANCE, verify_run

    verification = verify_run(Path(run), data_dir)
    if not verification.differences:
        print(f"{run}: {verification.evaluated}: every metric on record is reproduced to {TOLERANCE:g}")
        return
    print(f"{run}: {verification.evaluated}: not what is on record:")
    print("\n".join(f"  {line}" for line in verification.differences))
    if verification.surroundings:
        print("and this is not where it was trained:\n" + "\n".join(f"  {line}" for line in verification.surroundings))
    sys.exit(1)


def study(flags: Sequence[str]) -> None:
    """Trains what is not finished yet of a study, prints what it shows and writes the report; exit code 1 if not."""
    from sentiment.reporting.study_report import render_study
    from sentiment.study.runner import run_study

    verdict = run_study(flags)
    if verdict is None:
        sys.exit(1)
    print(f"{render_study(verdict)}\n\nReport: {Path(verdict['options']['study']['output_dir']) / 'report.html'}")


def export(model: str, int8: bool, dataset: str | None, data_dir: str | None, split: str | None) -> None:
    """Writes ONNX files beside the weights and prints how they compare; exit code 1 if one is refused."""
    from sentiment.inference.export import export_model, render_export

    report = export_model(model, int8, dataset, split, data_dir)
    print(render_export(report))
    if report["refused"]:
        sys.exit(f"error: {report['refused']}")


def serve(**options: Any) -> None:
    """Serves a model over HTTP until it is told to end."""
    from sentiment.serving.arguments import ServingArguments
    from sentiment.serving.server import serve as serve_http

    serve_http(ServingArguments(**{name: value for name, value in options.items() if value is not None}))
