"""What we touch in Snakemake, on the version that it was looked at."""

from __future__ import annotations

import inspect
import io
import logging
import re
import signal
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from threading import Event, Lock
from types import SimpleNamespace

import pytest
from snakemake.api import DAGApi  # (first, or its modules do not load)
from snakemake.dag import DAG
from snakemake.exceptions import MissingRuleException
from snakemake.persistence.file import FilePersistence
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.workflow import NOTHING_TO_BE_DONE_MSG, Workflow
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline import snakemake_internals as internals
from pipeline.cli import ENDS
from pipeline.errors import UserError

ROOT = Path(__file__).parents[1]


def test_the_version_in_use_is_the_one_that_was_looked_at() -> None:
    """After an upgrade: look at all that the module touches, run the whole suite, raise SEEN."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"snakemake=={internals.SEEN}" in pins
    assert version("snakemake") == internals.SEEN


def test_one_module_alone_touches_them() -> None:
    words = re.compile(
        r"needrun_jobs|_user_kill|_settings\.(cores|nodes|dryrun)|getLogger|\.snakemake\b"
        r"|Snakemake Report<"
    )
    files = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.*"), *(ROOT / "src").rglob("*.py")]
    found = {
        path.name for path in files if path.suffix != ".pyc" and words.search(path.read_text())
    }
    assert found == {"snakemake_internals.py"}


def test_what_is_touched_is_still_there() -> None:
    assert callable(DAG.needrun_jobs)
    assert "self._user_kill = None" in inspect.getsource(JobScheduler.__init__)
    assert {"resource_settings", "output_settings"} <= {*inspect.signature(Workflow).parameters}
    assert {event.value for event in LogEvent} >= internals._TALK
    assert "No rule to produce" in inspect.getsource(MissingRuleException)
    assert "cores have to be specified for local execution" in inspect.getsource(DAGApi)
    assert "force_incomplete" in inspect.getsource(DAG.check_incomplete)


@pytest.mark.parametrize("sent", ENDS)
def test_a_stop_is_taken_whatever_lock_the_scheduler_holds(sent: signal.Signals) -> None:
    """Its own handler, in the thread that holds the lock, would never return."""
    stopped = Event()
    scheduler = SimpleNamespace(
        _lock=Lock(), _user_kill=None, _open_jobs=SimpleNamespace(release=stopped.set)
    )
    workflow = SimpleNamespace(scheduler=scheduler, resource_settings=SimpleNamespace(nodes=None))
    before = {number: signal.getsignal(number) for number in ENDS}
    try:
        signal.signal(signal.SIGTERM, lambda *_: JobScheduler.exit_gracefully(scheduler))
        internals.stop_safely(workflow)
        with scheduler._lock:
            signal.raise_signal(sent)
            assert scheduler._user_kill is None
        assert stopped.wait(60) and internals.stopped(workflow)
        if sent == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):  # a second one
                signal.raise_signal(sent)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(("nodes", "sent"), [(4, signal.SIGINT), (None, signal.SIGHUP)])
def test_jobs_of_a_cluster_are_cancelled_by_ctrl_c_and_what_is_ignored_stays_so(
    nodes: int | None, sent: signal.Signals
) -> None:
    workflow = SimpleNamespace(resource_settings=SimpleNamespace(nodes=nodes))
    before = {number: signal.getsignal(number) for number in ENDS}
    try:
        signal.signal(signal.SIGTERM, lambda *_: None)
        own = signal.SIG_IGN if sent == signal.SIGHUP else before[sent]
        signal.signal(sent, own)
        internals.stop_safely(workflow)
        assert signal.getsignal(sent) is own
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("length", [1, 300])
def test_what_we_note_as_unfinished_snakemake_takes_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.chdir(tmp_path)
    file = "x" * length
    internals.mark([file])
    snakemake = FilePersistence(path=internals.NOTES)
    assert snakemake._filter_incomplete_keys([file, "other"]) == {file}
    internals.forget([file], "incomplete")
    snakemake._clear_cache()
    assert snakemake._filter_incomplete_keys([file]) == set()


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO, io.StringIO]]:
    """Snakemake's logger with a terminal and a log of ours, as it was afterwards."""
    logger, terminal = logging.getLogger(internals._LOGGER), io.StringIO()
    before = logger.handlers, logger.filters, logger.level
    log = io.StringIO()
    file = logging.FileHandler("/dev/null")
    file.setStream(log)
    logger.handlers, logger.filters = [logging.StreamHandler(terminal), file], []
    logger.setLevel(logging.INFO)
    yield logger, terminal, log
    logger.handlers, logger.filters, logger.level = before


def test_the_terminal_is_spared_what_the_log_keeps(
    logged: tuple[logging.Logger, io.StringIO, io.StringIO],
) -> None:
    logger, terminal, log = logged
    call = SimpleNamespace(output_settings=SimpleNamespace(dryrun=False))
    internals.hush(call)
    cleared: list[int] = []
    internals.speak_after(lambda: cleared.append(1))
    logger.info("rule dense", extra={"event": LogEvent.JOB_INFO})
    logger.info("Select jobs to execute...")
    assert terminal.getvalue() == "" and cleared == []
    logger.error("Error in rule dense", extra={"event": LogEvent.JOB_ERROR})
    logger.info(NOTHING_TO_BE_DONE_MSG)
    shown = f"Error in rule dense\n{NOTHING_TO_BE_DONE_MSG}\n"
    assert terminal.getvalue() == shown and cleared == [1, 1]
    assert log.getvalue() == f"rule dense\nSelect jobs to execute...\n{shown}"


def test_a_dry_run_notes_its_jobs_and_hushes_nothing(
    logged: tuple[logging.Logger, io.StringIO, io.StringIO],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger, terminal, _ = logged
    monkeypatch.setenv(internals.JOBS, str(tmp_path / "jobs"))
    call = SimpleNamespace(output_settings=SimpleNamespace(dryrun=True))
    internals.hush(call)
    internals.note_jobs(call)
    for output in (["made"], []):  # the second stands for a target alone
        facts = {"rule_name": "dense", "wildcards": {"stage": "dense"}, "output": output}
        logger.info("rule dense", extra={"event": LogEvent.JOB_INFO, **facts})
    assert terminal.getvalue() == "rule dense\n" * 2
    assert (tmp_path / "jobs").read_text() == '{"rule": "dense", "stage": "dense"}\n'


@pytest.mark.parametrize("length", [1, 300])
def test_what_snakemake_noted_of_a_file_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Where Snakemake itself writes it, for long names too; what it noted of others stays."""
    monkeypatch.chdir(tmp_path)
    snakemake = FilePersistence(path=internals.NOTES)
    kinds = ("incomplete", "metadata")
    file, other = "x" * length, "y" * length

    def noted(name: str) -> list[bool]:
        return [
            Path(snakemake._record_path(internals.NOTES / kind, name)).exists() for kind in kinds
        ]

    for kind in kinds:
        for name in (file, other):
            path = Path(snakemake._record_path(internals.NOTES / kind, name))
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
    internals.forget([file, "never noted"], "incomplete")
    assert (noted(file), noted(other)) == ([False, True], [True, True])
    internals.forget([file], *kinds)
    assert (noted(file), noted(other)) == ([False, False], [True, True])


def test_the_page_gets_a_title_and_its_script() -> None:
    page = "<title>Snakemake Report</title><body>'</body>' in a string</body></html>"
    found = internals.page(page, "a < b", "1;")
    assert found.startswith("<title>a &lt; b</title><body>'</body>' in a string<script>\n1;")
    assert found.endswith("</script>\n</body></html>")
    with pytest.raises(UserError, match="another form"):
        internals.page("<html><body></body></html>", "title", "")
