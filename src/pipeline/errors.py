"""The exceptions that entry points tell in one line."""


class UserError(Exception):
    """A user's mistake, told in one clear line: what is wrong, where, what is allowed.

    Entry points print the message and exit with status 1; no traceback is shown.
    """


class Interrupted(Exception):
    """SIGTERM came, and what was done so far is saved: the same command goes on from there."""
