"""The report of a study: Snakemake's own, rendered by Snakemake from what exists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.errors import UserError
from pipeline.study.config import Config


def targets(config: Config) -> list[str]:
    """The files that the report shows."""
    folder = config.results / config.scope
    found = []
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
    """Render ``path`` by ``snakemake --report`` in a second Snakemake process.

    Raises:
        UserError: Snakemake could not render it; its own words stand above in the log.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "snakemake", *targets(config), "--report", str(temporary), "--cores", "1",
        "--config", f"study={config.main.study}", f"protocol={config.main.protocol}",
    ]  # fmt: skip
    try:
        if subprocess.run(command, check=False).returncode or not temporary.exists():
            raise UserError(f"{path}: Snakemake could not write the report; see above")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
