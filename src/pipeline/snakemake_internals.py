"""All that touches what Snakemake does not promise to keep; seen on the version in ``SEEN``.

Its objects are handed in: nothing here imports it.
"""

from __future__ import annotations

import html
import json
import logging
import os
import re
import shlex
import signal
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from pipeline.cli import ENDS, heeded
from pipeline.errors import UserError, brief

#: The version on which all of this was looked at. With another one, look again and raise it.
SEEN = "9.27.1"

#: Where Snakemake keeps its notes, in the folder in which it was started.
NOTES = Path(".snakemake")
_LOGGER = "snakemake.logging"


#: Its command line as a process of ours, of the words behind it: a third less to start and end.
SNAKEMAKE = """
from importlib import import_module
from pipeline.machine.process import process
process(lambda: import_module("snakemake.cli").main())
"""
#: In a dry run, the file to which each job that would run is written as a line of JSON.
JOBS = "PIPELINE_JOBS"


@dataclass(frozen=True)
class Job:
    """A job that will run: its rule, its wildcards and its files; ``forced``: because it was asked for."""

    rule: str
    wildcards: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    logs: list[str]
    forced: bool = False


def jobs(workflow: Any) -> list[Job]:
    """The jobs that will run, once the graph of all jobs stands."""
    return [
        Job(
            job.rule.name, job.wildcards_dict, list(job.input), list(job.output), list(job.log),
            bool(workflow.dag.reason(job).forced),
        )
        for job in workflow.dag.needrun_jobs()
    ]  # fmt: skip


#: What it says of each job and of its own working: the line of progress says it shorter.
_TALK = {
    "job_info", "group_info", "shellcmd", "job_started", "job_finished", "progress",
    "resources_info", "run_info",
}  # fmt: skip
_ALSO = re.compile(
    r"Assuming unrestricted shared|Building DAG of jobs|Using shell:|Conda environments: ignored"
    r"|Select jobs to execute|Elapsed time:|.* has been submitted with SLURM jobid"
)


def hush(workflow: Any) -> None:
    """Keep from the terminal what Snakemake says of jobs one by one; its log has all of it.

    A dry run says all.
    """
    if dry(workflow):
        return
    for handler in _handlers(logging.StreamHandler):
        handler.addFilter(
            lambda record: (
                record.levelno != logging.INFO
                or not (_event(record) in _TALK or _ALSO.match(str(record.msg)))
            )
        )


def speak_after(clear: Callable[[], None]) -> None:
    """Call ``clear`` before each line on the terminal, and let the log have every detail."""

    def cleared(record: logging.LogRecord) -> bool:
        del record
        clear()
        return True

    for handler in _handlers(logging.StreamHandler):
        handler.addFilter(cleared)  # the last one: what comes here will be shown
    for handler in _handlers(logging.FileHandler):
        for part in (handler.formatter, *handler.filters):
            if "quiet" in getattr(part, "__dict__", {}):
                vars(part)["quiet"] = set()


def _handlers(kind: type[logging.Handler]) -> list[logging.Handler]:
    """Those of Snakemake that write to a terminal, or to its log."""
    found = logging.getLogger(_LOGGER).handlers
    file = kind is logging.FileHandler
    return [one for one in found if isinstance(one, logging.FileHandler) == file]


def note_jobs(workflow: Any) -> None:
    """In a dry run, write what would run to the file that ``JOBS`` names, if it names one.

    Not the rules that only stand for a target: they make nothing.
    """
    if not dry(workflow) or not (name := os.environ.get(JOBS)):
        return
    file = Path(name)

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if _event(record) == "job_info" and vars(record)["output"]:
                note = {"rule": vars(record)["rule_name"], **vars(record)["wildcards"]}
                with file.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(note) + "\n")

    logging.getLogger(_LOGGER).addHandler(Noted())


def _event(record: logging.LogRecord) -> str | None:
    """What a line of Snakemake's is about, such as "job_info"; None: nothing that it has a name for."""
    event = getattr(record, "event", None)
    return event and str(event.value)


def dry(workflow: Any) -> bool:
    """Whether nothing is to be run."""
    return bool(workflow.output_settings.dryrun)


def touching(workflow: Any) -> bool:
    """Whether files that are there are taken as new (``--touch``), and no job runs."""
    return bool(workflow.touch)


def cores(workflow: Any) -> int:
    """Processors of this machine that jobs may use together."""
    return int(workflow.resource_settings.cores or 1)


def elsewhere(workflow: Any) -> int | None:
    """How many jobs may run at once elsewhere, on a cluster; None where this machine runs them."""
    found: int | None = workflow.resource_settings.nodes
    return found


def stopped(workflow: Any) -> bool:
    """Whether a signal has come while jobs ran: these save and end, and no other begins."""
    return getattr(getattr(workflow, "scheduler", None), "_user_kill", None) is not None


def stop_safely(workflow: Any) -> None:
    """Take SIGTERM in a thread of its own; call it in the main thread once Snakemake takes it.

    Its handler waits for a lock that the main thread, which it interrupts, may hold: for ever.
    Where jobs run on this machine, other signals of ``ENDS`` are taken so, too: jobs have them
    themselves, and save. A second Ctrl-C is Snakemake's own, which ends them.
    """
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        Thread(target=before, args=(number, frame)).start()

    for number in heeded(ENDS):
        if number == signal.SIGTERM or elsewhere(workflow) is None:
            signal.signal(number, stop)


def end_quietly(workflow: Any) -> None:
    """Show no errors and no logs of jobs that end because they were asked to."""
    logging.getLogger(_LOGGER).addFilter(
        lambda record: record.levelno < logging.ERROR or not stopped(workflow)
    )


def explain(tell: Callable[[str], str]) -> None:
    """Say in one line of our own what Snakemake says of a call that lacks something.

    ``tell(target)`` says what is wrong with a target that no rule makes.
    """

    def told(record: logging.LogRecord) -> bool:
        text = str(record.msg)
        unknown = re.search(r"No rule to produce (\S+) \(if you use", text)
        if unknown:
            record.msg, record.args = f"error: {tell(unknown[1])}", ()
        elif "cores have to be specified for local execution" in text:
            words = " ".join(shlex.quote(word) for word in ["snakemake", "-c2", *sys.argv[1:]])
            record.msg, record.args = f"error: say how many processors jobs may use: {words}", ()
        return True

    logging.getLogger(_LOGGER).addFilter(told)


def check_words(words: Sequence[str]) -> None:
    """Whether what stands behind ``--config`` can be meant so; for the default profile.

    Raises:
        SystemExit: a target stands there; one line on standard error, and status 1.
    """
    behind = False
    for word in words:
        if word.startswith("-"):
            behind = word in ("--config", "-C")
        elif behind and "=" not in word:
            others = [other for other in words if other != word]
            meant = " ".join(shlex.quote(other) for other in ["snakemake", word, *others])
            print(
                f"error: {word!r} stands behind --config, where KEY=VALUE is expected; "
                f"targets come first: {meant}",
                file=sys.stderr,
            )
            sys.exit(1)


def forget(files: Iterable[str], *kinds: str) -> None:
    """Remove Snakemake's notes of files: that a job was making one, "incomplete"; how it was
    made, "metadata"."""
    for kind in kinds:
        folder = NOTES / kind
        if folder.is_dir() and any(folder.iterdir()):
            for file in files:
                _note(folder, file).unlink(missing_ok=True)


def mark(files: Iterable[str]) -> None:
    """Note that a job was making these files: with ``rerun-incomplete`` they are made again.

    Raises:
        UserError: the folder of notes cannot be written.
    """
    folder = NOTES / "incomplete"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            note = _note(folder, file)
            if not note.exists():
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text('{"external_jobid": null}')
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None


def _note(folder: Path, file: str) -> Path:
    """Where Snakemake keeps its note of a file."""
    most = (os.pathconf(folder, "PC_NAME_MAX") or 255) - 1
    name = urlsafe_b64encode(file.encode()).decode()
    *first, last = (name[place : place + most] for place in range(0, len(name), most))
    return folder.joinpath(*(f"@{part}" for part in first), last)


def stored(file: Any) -> bool:
    """Whether an object is there, of a file in S3 storage as a rule names it.

    The plugin itself takes whatever a server or the way to it says for "no".

    Raises:
        UserError: nothing can be known of it: no credentials, no server, no access.
    """
    place = file.flags["storage_object"]
    try:
        place.s3obj().load()
    except Exception as error:
        answer = getattr(error, "response", {}).get("Error", {}).get("Code")
        if answer == "404":
            return False
        server = place.provider.settings.endpoint_url or "the endpoint of AWS"
        raise UserError(
            f"{place.query}: at {server}: {brief(error)}; endpoint and keys: "
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL, ..._ACCESS_KEY, ..._SECRET_KEY"
        ) from None
    return True


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
