"""Write all runs of a study as one table, a row per run, to a CSV or Parquet file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.store import write_atomic
from pipeline.errors import UserError
from pipeline.study.config import Config

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "export runs.csv --study demo"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, help="file to write; its ending, .csv or .parquet, says how"
    )


def encoded(runs: pd.DataFrame, ending: str) -> bytes:
    """A frame as the content of a file with this ending, ``.csv`` or ``.parquet``.

    Raises:
        UserError: another ending, or Parquet without the package pyarrow.
    """
    if ending == ".csv":
        return str(runs.to_csv(index=False)).encode()
    if ending != ".parquet":
        raise UserError(f"a file to export to ends in .csv or .parquet, not in {ending!r}")
    try:
        return bytes(runs.to_parquet(index=False))
    except ImportError:
        raise UserError(
            "Parquet needs a package that is not installed: pip install pyarrow"
        ) from None


def run(config: Config, arguments: argparse.Namespace) -> None:
    from pipeline.results import everything

    path: Path = arguments.file
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    runs = everything(config)
    write_atomic(path, encoded(runs, path.suffix))
    missing = int((runs["status"] == "missing").sum())
    print(f"{path}: {len(runs)} rows, {missing} of them missing")
