"""How jobs get memory from the C library: kept once it was used, and in large pages.

A training step allocates and frees the same activations over and over. glibc returns blocks of
that size to the system after each use, and the next step pays for every page of them again.
Python's collector, at its defaults, goes through all that imports make again and again.
"""

from __future__ import annotations

import gc
import os

VARIABLE = "GLIBC_TUNABLES"
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "mmap_threshold": 1 << 30,  # bytes: smaller blocks come from the heap
        "trim_threshold": 1 << 36,  # the heap does not shrink
        "top_pad": 1 << 28,  # and grows in steps
        "hugetlb": 1,  # asks for transparent huge pages (glibc 2.35 and newer)
    }.items()
)


def tune() -> None:
    """Set it for the processes that this one starts, unless the user has set it already.

    Other C libraries do not read the variable. No result depends on it.
    """
    os.environ.setdefault(VARIABLE, TUNABLES)


def collect_rarely() -> None:
    """Let this process look for cycles rarely: what it imports, and a graph of runs, has none."""
    gc.set_threshold(50_000, 20, 50)
