"""The one error that a user can mend."""


class InputError(ValueError):
    """Wrong input: one line that says what is wrong, where, and what to do.

    Commands print it without a traceback and exit with code 2.
    """
