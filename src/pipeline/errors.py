"""The exceptions that entry points tell in one line."""


class UserError(Exception):
    """A user's mistake, told in one clear line: what is wrong, where, what is allowed.

    Entry points print the message and exit with status 1; no traceback is shown.
    """


class Interrupted(Exception):
    """A signal came, and what was done so far is saved: the same command goes on from there."""


def brief(problem: object, lines: int | None = None) -> str:
    """What other software says of a problem, as part of a line: on one line, bounded, printable.

    ``lines``: how many of its first lines; torch adds advice and stacks to the first. An exception
    without words is named by its type.
    """
    said = str(problem).strip().splitlines()[:lines]
    text = " ".join(" ".join(said).split()) or type(problem).__name__
    text = text if len(text) <= 300 else text[:297] + "..."
    return "".join(letter if letter.isprintable() else "?" for letter in text)
