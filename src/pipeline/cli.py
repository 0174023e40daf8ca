"""How every entry point ends: 0, or one clear line and 1, or because it was asked to.

That is 143 of a training, which has saved; 130 of all else after Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterable

from pipeline.errors import Interrupted, UserError

TERMINATED, INTERRUPTED = 143, 130
#: What asks for an end: a scheduler or a user, Ctrl-C, a terminal that closes.
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: The last line of a training that a signal has ended.
STOPPED = "stopped: saved, and goes on from here"


def _who() -> str:
    """Which process of a run this is, unless it is the first or the only one."""
    rank = os.environ.get("RANK", "0") if "WORLD_SIZE" in os.environ else "0"
    return "" if rank == "0" else f"process {rank}: "


def heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those of these signals that this process does not ignore, as under ``nohup``: it stays so."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


def show_anything() -> None:
    """Let both streams write any text: what their encoding cannot show becomes a question mark.

    A file's name that is no text, and a table on a terminal that is not UTF-8, must not end a job.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a test has put another one
            stream.reconfigure(errors="replace")


def main(job: Callable[[], None]) -> None:
    """Run ``job``; a user's mistake becomes one line on standard error and status 1."""
    show_anything()
    try:
        job()
        print(end="", flush=True)
    except UserError as error:
        print(f"error: {_who()}{error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Interrupted:
        if not _who():
            print(STOPPED, file=sys.stderr, flush=True)
        sys.exit(TERMINATED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
