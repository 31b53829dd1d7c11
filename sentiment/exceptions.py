"""The one error that a user can mend, and how others are quoted in it."""


class InputError(ValueError):
    """Wrong input: one line that says what is wrong, where, and what to do.

    Commands print it without a traceback and exit with code 2.
    """


def first_line(error: Exception) -> str:
    """What an error of a library says, as far as it fits into a message of one line; its type where it says nothing.

    >>> first_line(ValueError("no such file\\nand much more"))
    'no such file'
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def require(condition: bool, message: str) -> None:
    """Raises InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)
