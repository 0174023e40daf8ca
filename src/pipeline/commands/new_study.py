"""Write a commented study file that runs as it stands, to be changed line by line."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.artifacts.store import write_atomic
from pipeline.catalog.schema import check_name
from pipeline.errors import UserError
from pipeline.study.config import RESERVED, Config

EXAMPLE = "new-study mine"
#: Runs on the digits with the demo's recipes: after `make demo`, nothing of it trains again.
TEMPLATE = """\
# Run it:            snakemake -c2 --config study={name}
# What it costs:     python -m pipeline plan --study {name}
# What may be named: python -m pipeline list
# Every key:         docs/reference/settings.md
title: {name}

experiments:
  # An experiment is one network on one data set: seeds, sparsities, rewind epochs, methods.
  first:
    dataset: digits # python -m pipeline list data-sets
    model: resnet20 # python -m pipeline list networks
    width: 0.5 # multiplies the number of channels
    # Recipes of config/recipes.yaml: how each kind of run computes.
    dense: dense-digits
    imp: imp-ft-digits
    sparse: sparse-digits
    connectivity: line-digits
    sparsities: [0.95, 0.97] # shares of the weights that are pruned
    rewind_epochs: [1] # k: epochs that the initialisation was trained before the sparse run
    # Seeds (a, b): the mask comes from a, naive and permuted runs start from b. Two pairs or more
    # give a spread; three are the paper's.
    pairs: [[0, 1]]
    # methods: [lth, naive, permuted] # the default; python -m pipeline list methods
  # A second experiment says what differs:
  # wider:
  #   extends: first
  #   width: 1

outputs:
  # Each entry is a target of its own: snakemake table_first -c2 --config study={name}
  table_first:
    kind: rewind-grid
    title: Test accuracy, ResNet20×0.5 on digits
    experiments: [first]
  figure_first:
    kind: accuracy-vs-sparsity
    title: Accuracy against sparsity
    experiments: [first]
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the study's name: letters, digits, '-' and '_'")


def run(config: Config, arguments: argparse.Namespace) -> None:
    del config
    name = check_name(arguments.name, "new-study")
    if name in RESERVED:
        raise UserError(f"new-study: {name!r} is the name of a folder of runs; choose another")
    path = Path("config", "studies", f"{name}.yaml")
    if path.exists():
        raise UserError(f"{path}: is there already; choose another name, or edit it")
    write_atomic(path, TEMPLATE.format(name=name).encode())
    print(f"{path}: run it with snakemake -c2 --config study={name}")
