"""The `sentiment` command, and how every command ends."""

import sys
from collections.abc import Callable
from typing import Any

from sentiment.exceptions import InputError


def run_command(command: Callable[..., Any], **options: Any) -> None:
    """Runs a command; wrong input ends it with one line on stderr and exit code 2."""
    try:
        command(**options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
