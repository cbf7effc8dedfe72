"""Errors that a user can mend: one line that names the thing, what is wrong and what to do."""


class UserError(Exception):
    """A failure that the user can act on; its text is printed alone, without a traceback (exit code 1)."""

    exit_code = 1


class UsageError(UserError):
    """An option or argument that can't be meant (exit code 2)."""

    exit_code = 2
