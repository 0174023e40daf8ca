"""``config.yaml``, the recipes and one study, read and checked as a whole.

Jobs that wait in a queue run with the study as it was submitted: the process that submits writes
what it read to one file named by its digest (``freeze``) and hands the name on in the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts.store import canonical, digest, write_atomic
from pipeline.catalog import datasets as data_catalog
from pipeline.catalog import networks as model_catalog
from pipeline.catalog.schema import (
    AT_LEAST_ONE,
    check_name,
    choose,
    extended,
    mapping,
    named,
    option,
    parse,
    quote,
)
from pipeline.errors import UserError
from pipeline.runs import STAGES
from pipeline.study.experiment import Experiment, ExperimentEntry, check_entry, check_prunes
from pipeline.study.outputs import Linked, Output, parse_output
from pipeline.study.recipes import Library
from pipeline.study.settings import Checked, Method, Protocol
from pipeline.study.strict_yaml import read_yaml

FROZEN = "PIPELINE_CONFIG"
DATA_ROOT = "DATA_ROOT"
#: Folders below the results that no study may be named after.
RESERVED = {*STAGES, "data", "logs", "benchmarks", "tensorboard"}


@dataclass(frozen=True)
class Main(Checked):
    """``config.yaml``: which study to run, and where data and results lie."""

    study: str = option("demo", "name of a file in config/studies, without .yaml")
    protocol: str = option("paper", "a protocol of config/recipes.yaml")
    results: str = option("results", "folder of all artifacts")
    data_root: str = option(
        "data", "folder of the data sets; the variable DATA_ROOT goes before it"
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where training runs")
    deterministic: bool = option(
        False, "on a GPU, algorithms that give the same bits every time, and are slower; the CPU "
        "always does",
    )  # fmt: skip
    recorded: bool = option(
        True, "on a GPU, a step is recorded once and replayed; false: launched anew each time"
    )
    warm: bool = option(
        True, "jobs of this machine start as forks of one process that has imported what they need"
    )
    sharing: Literal["mps", "turns"] = option(
        "mps", "how runs share a GPU of this machine: side by side by NVIDIA MPS, which is started "
        "where it is installed, or by turns",
    )  # fmt: skip
    processes: int = option(
        1, "processes that share a training on photographs, one GPU each; no bit more than rounding "
        "depends on it", AT_LEAST_ONE,
    )  # fmt: skip
    nodes: int = option(1, "machines over which these processes are spread evenly", AT_LEAST_ONE)
    tensorboard: bool = option(
        False, "write the history of each training for TensorBoard, to <results>/tensorboard"
    )
    slices: tuple[str, ...] = option(
        (), "folders in which results folders of slices lie, taken over before anything runs; one "
        "may stand without a list",
    )  # fmt: skip

    def check(self, where: str) -> None:
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UserError(
                f"{where}: tensorboard: true needs a package that is not installed: "
                "pip install tensorboard"
            )
        if self.processes % self.nodes:
            raise UserError(f"{where}: processes ({self.processes}) must be a multiple of nodes")
        check_name(self.study, f"{where}: study")
        if self.study in RESERVED:
            raise UserError(
                f"{where}: study: {self.study!r} is the name of a folder of runs; choose another"
            )
        # Snakemake puts the results folder into patterns of files and lines of shell.
        if not re.fullmatch(r"[\w./@%+=:,-]+", self.results):
            raise UserError(
                f"{where}: results: {quote(self.results)} is not allowed; "
                "use letters, digits and . / _ - @ % + = : ,"
            )
        places = [("data_root", self.data_root), *(("slices", place) for place in self.slices)]
        for key, place in places:
            if not place.isprintable() or not place:
                raise UserError(f"{where}: {key}: {quote(place)} is no name of a folder")


@dataclass(frozen=True)
class StudyFile:
    """A file in ``config/studies``."""

    experiments: Any = option(help="experiments by name")
    title: str = option("", "title, printed above the report")
    outputs: Any = option(None, "tables and figures by name")


class Config:
    """A study under a protocol: experiments, outputs, recipes, data sets; references checked."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        for part in ("main", "recipes", "datasets", "study"):
            if part not in mapping(raw, "submitted study"):
                raise UserError(f"submitted study: key {part!r} is missing")
        self.raw = dict(raw)
        self.main: Main = parse(Main, raw["main"], "config.yaml")
        self.main.check("config.yaml")
        self.results = Path(self.main.results)
        self.data_root = Path(os.environ.get(DATA_ROOT) or self.main.data_root)
        self.models: dict[str, model_catalog.Network] = {
            **model_catalog.NETWORKS,
            **model_catalog.own_networks(raw.get("models")),
        }
        self.recipes = Library(raw["recipes"], "config/recipes.yaml")
        protocols = self.recipes.protocols
        for name, protocol in protocols.items():
            place = f"config/recipes.yaml: protocols: {name}"
            for model in protocol.sparsity_tolerance or ():
                choose(model, self.models, f"{place}: sparsity_tolerance", "model")
            for model, prunes in (protocol.sparsity_prunes or {}).items():
                choose(model, self.models, f"{place}: sparsity_prunes", "model")
                check_prunes(prunes, f"{place}: sparsity_prunes: {model}")
        self.protocol: Protocol = protocols[
            choose(self.main.protocol, protocols, "config.yaml", "protocol")
        ]
        self.datasets = {
            **data_catalog.INFO,
            **data_catalog.own_data_sets(raw["datasets"], self.results),
        }
        self.where = f"config/studies/{self.main.study}.yaml"
        study: StudyFile = parse(StudyFile, raw["study"], self.where)
        self.title = study.title or self.main.study
        entries = named(study.experiments, f"{self.where}: experiments")
        if not entries:
            raise UserError(f"{self.where}: experiments: declare at least one")
        self.experiments = {name: self._experiment(name, entries) for name in entries}
        self._outputs = named(study.outputs, f"{self.where}: outputs")

    @cached_property
    def outputs(self) -> dict[str, Output]:
        """The study's tables and figures by name, checked."""
        place = f"{self.where}: outputs"
        found = {
            name: parse_output(name, raw, self.experiments, self.protocol, f"{place}: {name}")
            for name, raw in self._outputs.items()
        }
        for name, output in found.items():
            if isinstance(output, Linked):
                output.link(found, self.experiments, f"{place}: {name}")
        return found

    @property
    def scope(self) -> str:
        """Folder of tables and figures: the study's, and in it one per protocol but ``paper``."""
        if self.main.protocol == "paper":
            return self.main.study
        return f"{self.main.study}/{self.main.protocol}"

    def _experiment(self, name: str, entries: Mapping[str, Any]) -> Experiment:
        where = f"{self.where}: experiments: {name}"
        raw = extended(name, entries, f"{self.where}: experiments", "experiment")
        entry = parse(ExperimentEntry, raw, where)
        check_entry(entry, where)
        self.check_network(entry.dataset, entry.model, entry.width, where)
        labels = {
            kind: self.recipes.label(kind, getattr(entry, kind), self.protocol, f"{where}: {kind}")
            for kind in ("dense", "imp", "match", "sparse", "connectivity")
        }
        source = dict(entry.mask_from or {})
        mask_dataset = choose(
            source.get("dataset", entry.dataset), self.datasets, f"{where}: mask_from", "data set"
        )
        mask_dense = self.recipes.label(
            "dense", source.get("dense", entry.dense), self.protocol, f"{where}: mask_from: dense"
        )
        self.check_shapes(mask_dataset, entry.dataset, f"{where}: mask_from")
        self._check_precision(labels, where)
        horizon = self.recipes.resolve("dense", labels["dense"]).epochs
        self._check_epochs(entry, horizon, where)
        imp = self.recipes.resolve("imp", labels["imp"])
        if imp.style == "rewind":
            end = self.recipes.resolve("dense", mask_dense).epochs
            if imp.rewind_epoch >= end:
                raise UserError(f"{where}: imp: rewind_epoch must lie below T = {end}")
        return Experiment(
            **vars(entry) | labels, name=name, mask_dataset=mask_dataset, mask_dense=mask_dense,
            ways=self._ways(entry.methods, where), horizon=horizon,
            fraction=imp.fraction, line=self.recipes.resolve("connectivity", labels["connectivity"]),
            protocol=self.protocol,
        )  # fmt: skip

    def _check_precision(self, labels: Mapping[str, str], where: str) -> None:
        """What the processor cannot compute; of a GPU a job knows more."""
        for kind, label in labels.items():
            found = getattr(self.recipes.resolve(kind, label), "precision", "fp32")
            if found == "tf32" and self.main.device == "cpu":
                raise UserError(f"{where}: {kind}: precision: tf32 needs a GPU, not device: cpu")

    def _ways(self, names: tuple[str, ...], where: str) -> dict[str, Method]:
        """Methods by name, their matching recipes as labels under the protocol."""
        found: dict[str, Method] = {}
        for name in names:
            choose(name, self.recipes.methods, f"{where}: methods", "method")
            found[name] = method = self.recipes.methods[name]
            if method.match:
                match = self.recipes.label("match", method.match, self.protocol, f"{where}: {name}")
                found[name] = replace(method, match=match)
        return found

    def check_network(self, dataset: str, model: str, width: float, where: str) -> None:
        """Raise UserError for an unknown data set or model, or a width that is impossible."""
        choose(dataset, self.datasets, where, "data set")
        info = self.models[choose(model, self.models, where, "model")]
        info.check_allowed(where)
        problem = info.width_error(width)
        if problem:
            raise UserError(f"{where}: width: {problem}")

    def check_shapes(self, source: str, target: str, where: str) -> None:
        """Raise UserError where a mask of one data set's network does not fit the other's."""
        a, b = (
            (info.channels, info.size, info.classes)
            for info in (self.datasets[source], self.datasets[target])
        )
        if a != b:
            raise UserError(
                f"{where}: {source} and {target} differ in channels, size or classes: {a} and {b}"
            )

    def _check_epochs(self, entry: ExperimentEntry, horizon: int, where: str) -> None:
        offset = self.protocol.rewind_offset
        for k in entry.rewind_epochs:
            if k + offset >= horizon:
                trained = f" ({k + offset} trained)" if offset else ""
                raise UserError(
                    f"{where}: rewind_epochs: {k}{trained} must lie below T = {horizon} "
                    "of the dense recipe"
                )
        for t in entry.matching_epochs:
            if t > horizon:
                raise UserError(f"{where}: matching_epochs: {t} must not exceed T = {horizon}")


def read(root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``config.yaml`` under ``root`` with the files it names.

    ``overrides`` are the keys given on the command line (``study``, ``protocol`` …).
    """
    main = dict(mapping(read_yaml(root / "config.yaml"), "config.yaml")) | dict(overrides or {})
    if isinstance(main.get("slices"), str):
        main["slices"] = [main["slices"]] if main["slices"] else []
    parsed: Main = parse(Main, main, "config.yaml")
    folder = root / "config"
    studies = [p.stem for p in (folder / "studies").glob("*.yaml")]
    choose(parsed.study, studies, "config.yaml", "study")
    datasets, models = folder / "datasets.yaml", folder / "models.yaml"
    return Config(
        {
            "main": main,
            "recipes": read_yaml(folder / "recipes.yaml"),
            "datasets": read_yaml(datasets) if datasets.exists() else {},
            "models": read_yaml(models) if models.exists() else {},
            "study": read_yaml(folder / "studies" / f"{parsed.study}.yaml"),
        }
    )


def freeze(config: Config, folder: Path) -> Path:
    """Write what was read to ``folder`` and name it in the environment of all jobs."""
    path = (folder / f"{digest(config.raw)}.json").resolve()
    if not path.exists():
        write_atomic(path, canonical(config.raw).encode())
    os.environ[FROZEN] = str(path)
    return path


def frozen() -> Config | None:
    """The study as it was submitted, inside a job; None outside."""
    name = os.environ.get(FROZEN)
    return _thawed(name) if name else None


@cache
def _thawed(name: str) -> Config:
    """What a file holds, which is named by its content."""
    try:
        return Config(json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: the submitted study cannot be read: {error}") from None


def load(root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The submitted study inside a job, else the study on disk."""
    return frozen() or read(root, overrides)
