"""All that touches what Snakemake does not promise to keep; seen on the version in ``SEEN``.

Its objects are handed in: nothing here imports it.
"""

from __future__ import annotations

import html
import logging
import os
import signal
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.errors import UserError

#: The version on which all of this was looked at. With another one, look again and raise it.
SEEN = "9.27.1"

#: Where Snakemake keeps its notes, in the folder in which it was started.
NOTES = Path(".snakemake")


@dataclass(frozen=True)
class Job:
    """A job that will run: its wildcards and its files."""

    wildcards: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    logs: list[str]


def jobs(workflow: Any) -> list[Job]:
    """The jobs that will run, once the graph of all jobs stands."""
    found = workflow.dag.needrun_jobs()
    return [
        Job(job.wildcards_dict, list(job.input), list(job.output), list(job.log)) for job in found
    ]


def dry(workflow: Any) -> bool:
    """Whether nothing is to be run."""
    return bool(workflow.output_settings.dryrun)


def cores(workflow: Any) -> int:
    """Processors of this machine that jobs may use together."""
    return int(workflow.resource_settings.cores or 1)


def elsewhere(workflow: Any) -> int | None:
    """How many jobs may run at once elsewhere, on a cluster; None where this machine runs them."""
    found: int | None = workflow.resource_settings.nodes
    return found


def stopped(workflow: Any) -> bool:
    """Whether SIGTERM has come while jobs ran: these save and end, and no other begins."""
    return getattr(getattr(workflow, "scheduler", None), "_user_kill", None) is not None


def stop_safely() -> None:
    """Take SIGTERM in a thread of its own; call it in the main thread once Snakemake takes it.

    Its handler waits for a lock that the main thread, which it interrupts, may hold: for ever.
    """
    before = signal.getsignal(signal.SIGTERM)
    if callable(before):
        signal.signal(signal.SIGTERM, lambda *words: Thread(target=before, args=words).start())


def end_quietly(workflow: Any) -> None:
    """Show no errors and no logs of jobs that end because they were asked to."""
    logging.getLogger("snakemake.logging").addFilter(
        lambda record: record.levelno < logging.ERROR or not stopped(workflow)
    )


def forget(files: Iterable[str], *kinds: str) -> None:
    """Remove Snakemake's notes of files: that a job was making one, "incomplete"; how it was
    made, "metadata"."""
    for kind in kinds:
        folder = NOTES / kind
        if not folder.is_dir():
            continue
        most = (os.pathconf(folder, "PC_NAME_MAX") or 255) - 1
        for file in files:
            name = urlsafe_b64encode(file.encode()).decode()
            *first, last = (name[place : place + most] for place in range(0, len(name), most))
            folder.joinpath(*(f"@{part}" for part in first), last).unlink(missing_ok=True)


_TITLE, _END = "<title>Snakemake Report</title>", "</body>"


def page(rendered: str, title: str, script: str) -> str:
    """The page of ``snakemake --report`` with another title and a script at its end.

    Raises:
        UserError: it is not of the form that the version in ``SEEN`` writes.
    """
    head, body, end = rendered.rpartition(_END)
    if _TITLE not in head or not body:
        raise UserError("the report of this version of Snakemake has another form than expected")
    head = head.replace(_TITLE, f"<title>{html.escape(title)}</title>", 1)
    return f"{head}<script>\n{script}</script>\n{body}{end}"
