"""How every entry point ends: 0, or one clear line and 1, or 143 after SIGTERM."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pipeline.errors import UserError

TERMINATED = 143


def main(job: Callable[[], None]) -> None:
    """Run ``job``; a user's mistake becomes one line on standard error and status 1."""
    try:
        job()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            print("stopped by SIGTERM: saved, and goes on from here", file=sys.stderr, flush=True)
            sys.exit(TERMINATED)
        raise
