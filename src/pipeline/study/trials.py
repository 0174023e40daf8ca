"""Trials of networks: where they are kept, and what a study asks of the networks in it.

A trial is made once for each network (model, width and the shape of the data), before anything is
trained with it (`pipeline.stages.trial`), and kept below the results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache, partial
from importlib.machinery import PathFinder
from pathlib import Path

from pipeline.artifacts.store import digest, file_digest, read_json, write_json
from pipeline.catalog.networks import Network, OwnNetwork
from pipeline.errors import UserError
from pipeline.runs import Curve, Dense, Run
from pipeline.runs.trial import Trial
from pipeline.study.config import Config
from pipeline.study.graph import Graph

FOLDER = "trials"
#: Raised by hand when a trial asks more of a network: all are tried again.
ALGORITHM = 2


def place(config: Config, dense: Dense) -> Path:
    """Where the trial of a dense run's network is kept.

    Its name changes with the code of the module of a network of one's own, as far as it stands in
    one file: that is tried again, though no run changes with it.
    """
    return _place(config, dense.network)


def _place(config: Config, network: tuple[str, str, str]) -> Path:
    dataset, model, width = network
    made, shape = config.models[model], config.datasets[dataset].shape
    key = digest([ALGORITHM, made.identity, _code(made)])
    sizes = f"{shape['channels']}x{shape['size']}-{shape['classes']}"
    return config.results / FOLDER / f"{model}-w{width}" / f"{sizes}-{key}.json"


def read(path: Path) -> Trial | None:
    """The trial that is kept in a file, done or begun; None where there is none, or it is damaged."""
    try:
        return Trial(**read_json(path))
    except (UserError, TypeError):
        return None


def known(config: Config, dense: Dense) -> Trial | None:
    """What is known of a dense run's network so far: its trial, or its size alone."""
    path = place(config, dense)
    return read(path) or read(size_file(path))


def size_file(path: Path) -> Path:
    """Where the size of a network of one's own stands, for the job that is to try it."""
    return path.with_suffix(".size.json")


def keep(path: Path, trial: Trial) -> None:
    """Write down what a trial has found."""
    write_json(path, asdict(trial))


def untried(config: Config, runs: Iterable[Run]) -> list[Dense]:
    """A dense run for each network that runs train, or that they name, and that was not tried."""
    found = places(config, (run for run in runs if run.trains))
    return [dense for path, dense in found.items() if not ((trial := read(path)) and trial.done)]


def places(config: Config, runs: Iterable[Run]) -> dict[Path, Dense]:
    """Where the trials of the networks of runs are kept, and a dense run of each."""
    networks = {dense.network: dense for run in runs for dense in run.networks}
    found: dict[Path, Dense] = {}
    for network, dense in networks.items():
        found.setdefault(_place(config, network), dense)
    return found


def declared(graph: Graph) -> list[Run]:
    """The runs of a study's tables and figures; where it has none, those of its experiments."""
    config = graph.config
    regular = [name for name, output in config.outputs.items() if not output.optional]
    runs = graph.outputs(regular)
    if not runs:
        for experiment in config.experiments.values():
            runs += [cell.run for cell in experiment.cells()]
            if any(method.permute for method in experiment.ways.values()):
                matchings = map(experiment.matching, experiment.pairs)
                runs += [Curve(matching, experiment.connectivity) for matching in matchings]
    return graph.closure(runs)


def misfits(graph: Graph, runs: Iterable[Run]) -> Iterator[str]:
    """Why runs cannot be made as their recipes say; a line for each recipe and network."""
    told: set[tuple[object, ...]] = set()
    for run in runs:
        of = (run.stage, run.label, run.home.network)
        if of not in told and (problem := graph.misfit(run)):
            told.add(of)
            yield problem


def obstacles(
    graph: Graph, runs: Iterable[Run], made: Mapping[Path, Trial] | None = None
) -> Iterator[str]:
    """Why runs cannot be made, as the trials of their networks show; each line once.

    ``made`` are trials, by their place, that need not be kept.
    """
    kept = cache(read)
    at = cache(partial(_place, graph.config))
    told: set[str] = set()
    for run in runs:
        for dense in run.networks:
            path = at(dense.network)
            trial = (made or {}).get(path) or kept(path)
            problem = run.obstacle(graph, trial) if trial and trial.done else None
            line = f"network {words(dense)}: {problem}"
            if problem and line not in told:
                told.add(line)
                yield line


def words(dense: Dense) -> str:
    """A dense run's network for people."""
    return f"{dense.model}×{dense.width} on {dense.dataset}"


def _code(network: Network) -> str:
    """Digest of the file of a network's function, which is not imported; empty for the built-in."""
    if not isinstance(network, OwnNetwork):
        return ""
    path: list[str] | None = [*sys.path, str(Path().resolve())]
    spec = None
    for name in network.entry.factory.partition(":")[0].split("."):
        spec = PathFinder.find_spec(name, path) if path else None
        path = list(spec.submodule_search_locations or []) if spec else None
    file = spec.origin if spec else None
    return file_digest(Path(file)) if file and Path(file).is_file() else ""
