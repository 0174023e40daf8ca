"""The exceptions that entry points tell in one line."""


class UserError(Exception):
    """A user's mistake, told in one clear line: what is wrong, where, what is allowed.

    Entry points print the message and exit with status 1; no traceback is shown.
    """


class Interrupted(Exception):
    """SIGTERM came, and what was done so far is saved: the same command goes on from there."""


def brief(problem: object, length: int = 300) -> str:
    """What other software says of a problem, as a part of a line: on one line, bounded, printable.

    An exception without words is named by its type; what is longer ends in "...".
    """
    text = " ".join(str(problem).split()) or type(problem).__name__
    text = text if len(text) <= length else text[: length - 3] + "..."
    return "".join(letter if letter.isprintable() else "?" for letter in text)
