"""The report of a study: Snakemake's own, rendered by Snakemake from what exists."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import Path

from pipeline.artifacts.store import write_atomic
from pipeline.errors import UserError
from pipeline.study.config import Config

ABOUT = ("experiments", "settings", "provenance")
#: Style and behaviour of the page, beside the captions.
PARTS = Path("workflow/report")
_TITLE, _END = "<title>Snakemake Report</title>", "</body>"


def targets(config: Config) -> list[str]:
    """The files that the report shows."""
    folder = config.results / config.scope
    found = [f"{folder}/about/{name}.html" for name in ABOUT]
    for name, output in config.outputs.items():
        if output.optional or output.what == "group":
            continue
        if output.what == "figure":
            found.append(f"{folder}/figures/{name}.svg")
            continue
        found.append(f"{folder}/tables/{name}.html")
        if output.published:
            found.append(f"{folder}/tables/{name}.comparison.html")
    return found


def write_report(config: Config, path: Path) -> None:
    """Render ``path`` by ``snakemake --report`` in a second Snakemake process; works offline.

    Raises:
        UserError: Snakemake could not render it; its own words stand above in the log.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "snakemake", *targets(config), "--report", str(temporary), "--cores", "1",
        "--report-stylesheet", str(PARTS / "report.css"),
        "--config", f"study={config.main.study}", f"protocol={config.main.protocol}",
    ]  # fmt: skip
    try:
        if subprocess.run(command, check=False).returncode or not temporary.exists():
            raise UserError(f"{path}: Snakemake could not write the report; see above")
        page = finished(temporary.read_text(encoding="utf-8"), config.title)
    finally:
        temporary.unlink(missing_ok=True)
    write_atomic(path, page.encode())


def finished(page: str, title: str) -> str:
    """Snakemake's page with the study's title and with figures that can be enlarged."""
    script = (PARTS / "report.js").read_text(encoding="utf-8")
    head, body, end = page.rpartition(_END)
    if _TITLE not in head or not body:
        raise UserError("the report of this version of Snakemake has another form than expected")
    head = head.replace(_TITLE, f"<title>{html.escape(title)}</title>", 1)
    return f"{head}<script>\n{script}</script>\n{body}{end}"
