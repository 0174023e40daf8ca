"""Fetch and check data sets: downloaded by torchvision where missing, checksums compared."""

from __future__ import annotations

import argparse

from pipeline.study.config import Config

EXAMPLE = "data cifar10"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", help="data sets, built-in or of config/datasets.yaml")


def run(config: Config, arguments: argparse.Namespace) -> None:
    from pipeline.data import load
    from pipeline.stages.data import check_scale

    for name in arguments.names:
        data = load(config.data_set(name, "data"), config.data_root)
        check_scale(data)
        shape = f"{data.channels}×{data.size}×{data.size}"
        print(f"{name}: {len(data.train)} training and {len(data.test)} test images, {shape}: fine")
