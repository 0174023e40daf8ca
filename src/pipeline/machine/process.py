"""How a process of ours begins and ends: at once."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from pipeline.machine import memory


def process(work: Callable[[], object]) -> NoReturn:
    """Do ``work`` and end this process as Python does, but at once.

    Python takes all that was imported apart, object by object, which costs a job that has loaded
    torch a quarter of a second; the system frees it as a whole.
    """
    memory.collect_rarely()
    code: object = None
    try:
        work()
    except SystemExit as error:
        code = error.code
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing ends its processes
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            print(end="", file=stream, flush=True)
    os._exit((code or 0) & 0xFF)
