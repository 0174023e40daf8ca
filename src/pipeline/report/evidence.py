"""What a study says, as one folder of a repository: tables, figures and a page that joins them.

Numbers and pictures only, no weights. A text of the reader's own, ``conclusion.md`` in the folder,
stands on the page as it is and outlives writing the folder anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.artifacts.store import existing, write_atomic
from pipeline.errors import UserError
from pipeline.report import about, build, figures, tables
from pipeline.report.tables import Table
from pipeline.study.config import Config
from pipeline.study.outputs import Output

CONCLUSION = "conclusion.md"
_KEPT = ("csv", "md")


def publish(
    config: Config, folder: Path, *, pack: Path | None = None, partial: bool = False
) -> list[Path]:
    """Write every table (CSV, Markdown) and figure (PNG) of a study that is not optional, and README.md.

    ``pack``: a folder with what the runs have measured, read in place of the results. Returns the
    files, the page first. Raises UserError where runs are missing, unless ``partial``: tables and
    figures then show them as missing.
    """
    if pack is not None:
        config.results = existing(pack)
    provenance = about.provenance(config)
    missing = int(provenance.tidy["missing"].sum())
    if missing and not partial:
        raise UserError(
            f"{config.main.study}: {missing} runs are missing; run them ({config.command()}) "
            "or ask for --partial"
        )
    files: list[Path] = []
    parts = [_head(config, missing, pack)]
    own = folder / CONCLUSION
    if own.exists():
        parts.append(own.read_text(encoding="utf-8").strip())
    for name, output in config.outputs.items():
        if output.optional or output.what == "group":
            continue
        if output.what == "figure":
            parts.append(_figure(config, name, output, folder / name, files))
            continue
        parts.append(_table(build.table(config, name), folder / name, files))
        if output.published:
            beside = build.comparison_of(config, name)
            parts.append(_table(beside, folder / f"{name}.comparison", files))
    parts.append(_table(provenance, folder / "provenance", files))
    page = folder / "README.md"
    write_atomic(page, ("\n\n".join(parts) + "\n").encode())
    return [page, *files]


def _head(config: Config, missing: int, pack: Path | None) -> str:
    study, protocol = config.main.study, config.main.protocol
    scalar, option = "", f" --study {study}"
    if protocol != "paper":
        scalar, option = f" protocol={protocol}", f"{option} --protocol {protocol}"
    commands = [f"DATA_ROOT=... snakemake -c2 --config study={study}{scalar}"]
    page = f"python -m pipeline evidence docs/evidence/{study}{option}"
    if pack is not None:
        commands.append(f"python -m pipeline pack {pack} --light{option}")
        page += f" --from {pack}"
    state, alone = "", "  # this alone makes the page from what the runs measured"
    if missing:
        page += " --partial"
        state = f"\n\n**{missing} runs are missing**; what needs them says so."
    listed = "\n".join([*commands, page if pack is None else page + alone])
    return f"# {config.title}{state}\n\nThe runs, and this page:\n\n```sh\n{listed}\n```"


def _table(table: Table, stem: Path, files: list[Path]) -> str:
    """The table as it stands on the page; its files are added to ``files``."""
    files += tables.write(table, stem, _KEPT)
    heading, _, rest = tables.to_markdown(table).strip().partition("\n")
    return f"## {heading.lstrip('# ')} ([CSV]({stem.name}.csv))\n{rest}"


def _figure(config: Config, name: str, output: Output, stem: Path, files: list[Path]) -> str:
    files += figures.save(*build.figure(config, name), stem, ("png",))
    title, shows = output.title or name, re.sub(r"\s+", " ", output.shows)
    return f"## {title} ([CSV]({name}.csv))\n\n![{title}]({name}.png)\n\n{shows}"


def names(files: Iterable[Path]) -> str:
    """The files of ``publish`` in a few words."""
    found = list(files)
    pictures = sum(path.suffix == ".png" for path in found)
    return f"{found[0]}: {len(found) - 1} files beside it, {pictures} of them pictures"
