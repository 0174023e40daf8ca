"""Write the study as it is now to one file, for jobs that start later, and print its path."""

from __future__ import annotations

import argparse

from pipeline.snakemake_internals import NOTES
from pipeline.study.config import Config
from pipeline.study.config import freeze as write

EXAMPLE = "freeze --study paper   # PIPELINE_CONFIG=$(...) sbatch slurm/pilot.sbatch table_5"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Only those of every command."""


def run(config: Config, arguments: argparse.Namespace) -> None:
    print(write(config, NOTES / "pipeline"))
