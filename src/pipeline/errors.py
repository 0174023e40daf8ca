"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A user's mistake, told in one clear line: what is wrong, where, what is allowed.

    Entry points print the message and exit with status 1; no traceback is shown.
    """
