"""The `sentiment` command: which command runs, and how every command ends."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sentiment import commands
from sentiment.command_parser import COMMANDS, RUN_COMMANDS, build_parser
from sentiment.config.data_arguments import join_negative_values
from sentiment.environment import disable_progress_bars_in_logs, print_error
from sentiment.exceptions import (
    FULL_DISK,
    DivergenceError,
    InputError,
    SaveError,
    TrainingInterrupted,
    first_line,
    suggest_name,
)

# Errors of the operating system that a user can fix: printed in one line, without a traceback.
SYSTEM_ERRORS = FULL_DISK | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}


def main(argv: Sequence[str] | None = None) -> None:
    """The `sentiment` command."""
    parser = build_parser()
    words = join_negative_values(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words:
        parser.print_help(sys.stderr)
        sys.exit(InputError.exit_code)
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(f"unknown command '{words[0]}'{suggest_name(words[0], COMMANDS)}")
    known, rest = parser.parse_known_args(words)
    options = vars(known)
    command = options.pop("command")
    if command in RUN_COMMANDS:
        options["flags"] = rest
    elif command is commands.predict and not any(word.startswith("-") for word in rest):
        options["texts"] += rest  # after options, which argparse does not look for them
    elif rest:
        parser.error(f"unknown argument '{' '.join(rest)}'")
    run_command(command, **options)


def run_command(command: Callable[..., Any], **options: Any) -> None:
    """Runs a command; an error that the user can fix ends it with one line on stderr and an exit code."""
    disable_progress_bars_in_logs()
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
