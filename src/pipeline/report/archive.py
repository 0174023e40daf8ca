"""Snakemake's own report of a study: runtimes, the graph of jobs, each result with how it was made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline import snakemake_internals
from pipeline.artifacts.store import temporary, write_atomic
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.graph import Graph
from pipeline.study.targets import Targets

ABOUT = ("experiments", "settings", "provenance")
#: Style and behaviour of the page, beside the captions.
PARTS = Path("workflow/report")


def targets(config: Config) -> list[str]:
    """The files that it shows."""
    about = [f"{config.main.results}/{config.scope}/about/{name}.html" for name in ABOUT]
    shown = Targets(Graph(config)).shown("table", "claims", "figure")
    return about + [file for file in shown if file.endswith((".html", ".svg"))]


def write_archive(config: Config, path: Path) -> None:
    """Render ``path`` by ``snakemake --report`` in a second Snakemake process; works offline.

    Raises:
        UserError: Snakemake could not render it; its own words stand above in the log.
    """
    unfinished = temporary(path, path.suffix)  # Snakemake looks at how the name ends
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "snakemake", *targets(config), "--report", str(unfinished), "--cores", "1",
        "--report-stylesheet", str(PARTS / "report.css"),
        "--config", f"study={config.main.study}", f"protocol={config.main.protocol}",
    ]  # fmt: skip
    try:
        if subprocess.run(command, check=False).returncode or not unfinished.exists():
            raise UserError(f"{path}: Snakemake could not write the report; see above")
        page = snakemake_internals.page(
            unfinished.read_text(encoding="utf-8"),
            config.title,
            (PARTS / "report.js").read_text(encoding="utf-8"),
        )
    finally:
        unfinished.unlink(missing_ok=True)
    write_atomic(path, page.encode())
