"""A process of ours ends as Python ends one, without taking apart what it has loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: What the process does, each to the same end as in a script that just does it.
WORK = {
    "nothing": "pass",
    "status": "sys.exit(3)",
    "status-beyond-a-byte": "sys.exit(259)",
    "negative": "sys.exit(-1)",
    "yes": "sys.exit(True)",
    "words": "sys.exit('what is wrong')",
    "buffered": "print('a' * 100_000); sys.stderr.write('b')",
    "at-exit": "atexit.register(print, 'last'); print('first')",
    "a-thread": "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "a-pool": "ThreadPoolExecutor(2).submit(lambda: (time.sleep(0.2), print('late')))",
    "a-mistake": "raise ValueError('of ours')",
    "a-signal": "os.kill(os.getpid(), signal.SIGTERM)",
    "closed": "os.close(1); print('nowhere')",
}
BEFORE = """
import atexit, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pipeline.machine.process import process
def work():
    {}
"""


def ends(code: str) -> tuple[int, str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stdout, done.stderr.splitlines()[-1] if done.stderr else ""


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_it_ends_as_python_does(work: str) -> None:
    before = BEFORE.format(work)
    expected = ends(f"{before}work()")
    if "os.close" in work:  # where Python has more to say, and a status of its own, 120
        expected = 0, "", ""
    assert ends(f"{before}process(work)") == expected


def test_nothing_is_taken_apart() -> None:
    held = "class Held:\n    def __del__(self):\n        print('taken apart')\nheld = Held()\n"
    before = held + BEFORE.format("print('done')")
    assert ends(f"{before}work()") == (0, "done\ntaken apart\n", "")
    assert ends(f"{before}process(work)") == (0, "done\n", "")
