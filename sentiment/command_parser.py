"""The options of the `sentiment` command, by the step of their use."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import sentiment
from sentiment import commands
from sentiment.config.data_arguments import METRICS
from sentiment.environment import print_error
from sentiment.exceptions import InputError, suggest_name

# Of commands that read tables; the first four are for `predict` too, which keeps the column of labels as it is.
COLUMN_OPTIONS = (
    *("text_column_names", "text_column_delimiter", "encoding"),
    *("label_column_name", "label_mapping", "unlabelled_value"),
)
LABELLED_SPLIT = "the first labelled of test, validation, train"  # by default
# Commands by the step of their use, and what they do.
STEPS = {
    "prepare": {
        "fetch": "download the embedded model, reviews or word lists, and print their folder",
        "audit": "sizes, lengths, duplicates and leaks of a dataset",
    },
    "train": {
        "train": "strategy A: fine-tune end to end, as train_e2e.py",
        "adapt": "strategy B, first half: adapt to unlabelled reviews, as train_mlm.py",
        "finetune": "strategy B, second half: fine-tune the adapted model, as train_finetune.py",
        "study": "training strategies x seeds x label budgets",
        "search": "options that train best, by validation",
    },
    "judge": {
        "evaluate": "metrics of a checkpoint on labelled rows",
        "compare": "verdict on two fine-tunings: which is better, by how much, how sure",
        "behaviour": "failure rates on generated cases: negation, contrast, names, typos and others",
        "verify": "evaluate a run's model again, and compare with the metrics on record",
    },
    "use": {
        "predict": "classify texts, from arguments, a file, stdin or a prompt",
        "suggest": "choose the unlabelled reviews to label next",
        "export": "write ONNX files, which `serve --backend onnx` runs without torch",
        "serve": "HTTP service with a demo page",
    },
}
COMMANDS = {name: text for step in STEPS.values() for name, text in step.items()}
# Commands whose options are those of runs, which `parse_arguments` parses.
RUN_COMMANDS = (commands.audit, commands.train, commands.adapt, commands.finetune, commands.study, commands.search)
EXIT_CODES = (
    "exit codes: 0 done; 1 a file cannot be read or written, a run of a study failed, an export is refused, a record "
    "not reproduced or a failure rate over --max_failure_rate; 2 wrong input (one line says what to do); 3 training "
    "diverged; 4 disk full; 130 or 143 interrupted"
)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which names the nearest known option before it asks for missing ones.

    In names of options, dashes and underscores are the same. One without options of its own leaves them to another
    parser.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.option_strings: list[str] = []
        super().__init__(*args, **options)

    def add_argument(self, *args: Any, **options: Any) -> argparse.Action:
        """As argparse's; keeps the names of the option."""
        action = super().add_argument(*args, **options)
        self.option_strings += action.option_strings
        return action

    def spell_options(self, words: Sequence[str]) -> list[str]:
        """The words, with options in the spelling in which they are known."""
        end = words.index("--") if "--" in words else len(words)
        known = {name.replace("_", "-"): name for name in self.option_strings}
        pairs = [(word, *word.partition("=")) for word in words[:end]]
        spelled = [
            known.get(name.replace("_", "-"), name) + equals + value if word.startswith("--") else word
            for word, name, equals, value in pairs
        ]
        return [*spelled, *words[end:]]

    def check_options(self, words: Sequence[str]) -> None:
        """Ends the command at an option that is unknown."""
        for word in words[: words.index("--")] if "--" in words else words:
            name = word.partition("=")[0]
            is_option = name.startswith("--") and " " not in name  # else a text
            if self.option_strings and is_option and name not in self.option_strings:
                self.error(f"unknown option '{name}'{suggest_name(name, self.option_strings)}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, after `check_options`: of all commands, the words before the command."""
        words = self.spell_options(args or [])
        self.check_options(words[:1] if words and words[0] in COMMANDS else words)
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints one line, and exits with code 2."""
        print_error(f"{message}: see {self.prog} --help")
        sys.exit(InputError.exit_code)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, in the order of their use; each sets `command` to its function."""
    steps = "\n".join(
        f"\n{step}:\n" + "\n".join(f"  {name:10}{text}" for name, text in found.items())
        for step, found in STEPS.items()
    )
    parser = CommandParser(
        "sentiment",
        usage="%(prog)s COMMAND [arguments]",
        description=f"{(sentiment.__doc__ or '').partition(chr(10))[0]}\n{steps}",
        epilog=textwrap.fill(f"sentiment COMMAND --help lists the options of a command; {EXIT_CODES}", 100),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sentiment {sentiment.__version__}")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="sentiment")
    fetching = add_command(parsers, commands.fetch)
    fetching.add_argument("name", choices=["minilm", "snippets", "lexicon", "synonyms", "keyboard", "words"])
    for command in RUN_COMMANDS:
        add_command(parsers, command, add_help=False)
    add_evaluation_commands(parsers)
    add_prediction_commands(parsers)
    add_serve_command(parsers)
    return parser


def add_command(parsers: Any, command: Callable[..., Any], **options: Any) -> argparse.ArgumentParser:
    """Add the parser of a command, named after its function."""
    name = command.__name__
    parser: argparse.ArgumentParser = parsers.add_parser(
        name, description=COMMANDS[name], allow_abbrev=False, **options
    )
    parser.set_defaults(command=command)
    return parser


def add_evaluation_commands(parsers: Any) -> None:
    """Add `evaluate`, `compare`, `behaviour` and `verify`."""
    evaluating = add_command(parsers, commands.evaluate)
    evaluating.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    add_data_options(evaluating, "as for train_e2e.py", required=True)
    evaluating.add_argument("--output", type=Path, metavar="FILE", help="also write the metrics to a JSON file")

    comparing = add_command(parsers, commands.compare)
    comparing.add_argument("folder_a", metavar="RUN_A", help="the folder of a finished fine-tuning")
    comparing.add_argument("folder_b", metavar="RUN_B", help="another, with the same test rows; differences are B - A")
    comparing.add_argument("--output_dir", default="outputs/comparison", help="folder of the report")
    comparing.add_argument("--metric", choices=METRICS, help="what decides; default: that of both runs, else accuracy")
    comparing.add_argument(
        "--label_issues",
        metavar="FOLDER",
        nargs="+",
        default=(),
        help="of `audit --label_issues`, one for each run: also a verdict without the rows whose label is suspected",
    )
    comparing.add_argument(
        "--behaviour", metavar="FOLDER", help="of `behaviour` on both runs: also their failure rates in the report"
    )
    add_data_options(comparing, "other labelled rows to test both on, as for train_e2e.py")

    testing = add_command(parsers, commands.behaviour)
    testing.add_argument(
        "models", metavar="RUN", nargs="+", help="the folder of a run, or its model folder; up to five"
    )
    testing.add_argument("--cases", metavar="FILE", help="own cases in place of the built-in ones: YAML, or a table")
    add_column_options(testing, COLUMN_OPTIONS[:3])
    testing.add_argument("--capabilities", default="", metavar="A,B", help="only these; default: all")
    testing.add_argument("--count", type=int, help="cases of each capability, from templates; default: 200")
    testing.add_argument("--seed", type=int, help="seed of the cases from templates; default: 1")
    testing.add_argument(
        "--max_failure_rate", type=float, default=1.0, metavar="P", help="exit code 1 if a failure rate is over P"
    )
    testing.add_argument("--output_dir", default="outputs/behaviour", help="folder of the report")

    verifying = add_command(parsers, commands.verify)
    verifying.add_argument("run", metavar="RUN", help="the folder of a finished run")
    verifying.add_argument("--data_dir", help="folder with local copies of datasets; default: that of the run")


def add_prediction_commands(parsers: Any) -> None:
    """Add `predict`, `suggest` and `export`."""
    predicting = add_command(parsers, commands.predict)
    predicting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    predicting.add_argument("texts", nargs="*", metavar="TEXT")
    predicting.add_argument("--file", help="CSV, JSON, Parquet or Excel with a text column, or one text per line")
    add_column_options(predicting, COLUMN_OPTIONS[:4])
    predicting.add_argument(
        "--output", type=Path, metavar="FILE", help=".csv, .tsv, .jsonl, .parquet or .xlsx; default: CSV on stdout"
    )
    predicting.add_argument(
        "--abstain_below", type=float, default=0.0, metavar="P", help="label texts with a lower score `uncertain`"
    )
    predicting.add_argument("--probabilities", action="store_true", help="also a column p_<label> for each class")

    suggesting = add_command(parsers, commands.suggest)
    suggesting.add_argument("model", metavar="RUN", help="the folder of a fine-tuning, or its model folder")
    add_data_options(suggesting, "unlabelled reviews", "unsupervised, else all but validation and test", required=True)
    suggesting.add_argument("--count", type=int, default=100, metavar="N", help="reviews to suggest; default 100")
    suggesting.add_argument("--seed", type=int, default=42, help="seed of the draws; default 42")
    output = "new file, in a format of `predict`; default: suggestions.csv"
    suggesting.add_argument("--output", type=Path, default=Path("suggestions.csv"), metavar="FILE", help=output)

    exporting = add_command(parsers, commands.export)
    exporting.add_argument("model", metavar="MODEL", help="the folder of a run, or its model folder")
    exporting.add_argument("--int8", action="store_true", help="also an int8 file: faster, and nearly as accurate")
    add_data_options(exporting, "labelled texts for the check, as for train_e2e.py; default: the run's test rows")


def add_serve_command(parsers: Any) -> None:
    """Add `serve`."""
    serving = add_command(parsers, commands.serve)
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
        "--abstain-below", type=float, metavar="P", help="label texts with a lower score `uncertain`, with number null"
    )
    serving.add_argument("--timeout", type=float, metavar="SECONDS", help="limit for answering a request; default 10")
    serving.add_argument(
        "--examples",
        action="store_true",
        help="the page offers some of the run's test texts to try; whoever can use the service can read them",
    )
    serving.add_argument(
        "--access-log", action="store_true", help="a line on stderr for each request; without, warnings and errors only"
    )


def add_data_options(parser: Any, dataset: str, split: str = LABELLED_SPLIT, required: bool = False) -> None:
    """Add the options of a dataset: which one (`dataset` is the help), where, its columns and its default `split`."""
    parser.add_argument("--dataset", required=required, help=dataset)
    parser.add_argument("--data_dir", help="folder with local copies of datasets, read instead of the Hub")
    add_column_options(parser, COLUMN_OPTIONS)
    parser.add_argument("--split", help=f"published split; default: {split}")


def add_column_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add options that say which columns are read, and how, as for train_e2e.py."""
    for name in names:
        parser.add_argument(f"--{name}", metavar=name.rsplit("_", 1)[-1].upper(), help="as for train_e2e.py")
