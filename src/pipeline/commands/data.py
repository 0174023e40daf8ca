"""Fetch and check data sets: downloaded by torchvision where missing, checksums compared."""

from __future__ import annotations

import argparse

from pipeline.catalog.schema import suggest
from pipeline.errors import UserError
from pipeline.study.config import Config

EXAMPLE = "data cifar10"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", help="data sets, built-in or of config/datasets.yaml")


def run(config: Config, arguments: argparse.Namespace) -> None:
    from pipeline.data import load
    from pipeline.stages.data import check_scale

    for name in arguments.names:
        if name not in config.datasets:
            raise UserError(f"unknown data set {name!r}; {suggest(name, sorted(config.datasets))}")
        data = load(config.datasets[name], config.data_root)
        check_scale(data)
        shape = f"{data.channels}×{data.size}×{data.size}"
        print(f"{name}: {len(data.train)} training and {len(data.test)} test images, {shape}: fine")
