"""``config.yaml``, the recipes and one study, read and checked as a whole.

Jobs that wait in a queue run with the study as it was submitted: the process that submits writes
what it read to one file named by its digest (``freeze``) and hands the name on in the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts.store import canonical, digest, write_atomic
from pipeline.data import catalog as data_catalog
from pipeline.errors import UserError
from pipeline.models import catalog as model_catalog
from pipeline.study.experiment import Experiment, ExperimentEntry, check_entry, resolve_methods
from pipeline.study.files import read_yaml
from pipeline.study.outputs import Claims, Output, parse_output
from pipeline.study.recipes import Library, check_name
from pipeline.study.schema import mapping, option, parse, suggest
from pipeline.study.settings import Protocol

FROZEN = "PIPELINE_CONFIG"
DATA_ROOT = "DATA_ROOT"


@dataclass(frozen=True)
class Main:
    """``config.yaml``: which study to run, and where data and results lie."""

    study: str = option("demo", "name of a file in config/studies, without .yaml")
    protocol: str = option("paper", "a protocol of config/recipes.yaml")
    results: str = option("results", "folder of all artifacts")
    data_root: str = option(
        "data", "folder of the data sets; the variable DATA_ROOT goes before it"
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where training runs")


class Config:
    """A study under a protocol: experiments, outputs, recipes, data sets; all references checked."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = dict(raw)
        self.main: Main = parse(Main, raw["main"], "config.yaml")
        self.results = Path(self.main.results)
        self.data_root = Path(os.environ.get(DATA_ROOT) or self.main.data_root)
        self.library = Library(raw["recipes"], "config/recipes.yaml")
        if self.main.protocol not in self.library.protocols:
            allowed = suggest(self.main.protocol, sorted(self.library.protocols))
            raise UserError(f"config.yaml: unknown protocol {self.main.protocol!r}; {allowed}")
        self.protocol: Protocol = self.library.protocols[self.main.protocol]
        self.datasets = data_catalog.INFO | data_catalog.DECLARED
        for name, entry in mapping(raw["datasets"], "config/datasets.yaml").items():
            check_name(name, "config/datasets.yaml")
            if name in self.datasets:
                raise UserError(
                    f"config/datasets.yaml: {name!r} is the name of a built-in data set"
                )
            self.datasets[name] = data_catalog.parse_entry(name, self._placed(entry))
        self.where = f"config/studies/{self.main.study}.yaml"
        study = mapping(raw["study"], self.where)
        for key in study:
            if key not in ("title", "experiments", "outputs"):
                allowed = suggest(key, ["title", "experiments", "outputs"])
                raise UserError(f"{self.where}: unknown key {key!r}; {allowed}")
        self.title = str(study.get("title") or self.main.study)
        entries = mapping(study.get("experiments"), f"{self.where}: experiments")
        self.experiments = {name: self._experiment(name, entries) for name in entries}
        self._outputs = mapping(study.get("outputs"), f"{self.where}: outputs")

    @cached_property
    def outputs(self) -> dict[str, Output]:
        """The study's tables and figures by name, checked."""
        place = f"{self.where}: outputs"
        found = {
            check_name(name, place): parse_output(raw, self.experiments, f"{place}: {name}")
            for name, raw in self._outputs.items()
        }
        for name, output in found.items():
            if isinstance(output, Claims):
                output.link(found, self.experiments, f"{place}: {name}")
        return found

    @property
    def scope(self) -> str:
        """Folder of tables and figures below the results: the study, and the protocol if another."""
        if self.main.protocol == "paper":
            return self.main.study
        return f"{self.main.study}/{self.main.protocol}"

    def _placed(self, entry: Any) -> Any:
        """A data set's entry with ``{results}`` in its path filled in."""
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            path = entry["path"].replace("{results}", str(self.results.resolve()))
            return entry | {"path": path}
        return entry

    def _experiment(self, name: str, entries: Mapping[str, Any]) -> Experiment:
        where = f"{self.where}: experiments: {name}"
        check_name(name, f"{self.where}: experiments")
        raw = _extended(name, entries, f"{self.where}: experiments")
        entry = parse(ExperimentEntry, raw, where)
        check_entry(entry, where)
        self._check_network(entry, where)
        labels = {
            kind: self.library.label(kind, getattr(entry, kind), self.protocol, f"{where}: {kind}")
            for kind in ("dense", "imp", "match", "sparse", "connectivity")
        }
        source = dict(entry.mask_from or {})
        mask_dataset = source.get("dataset", entry.dataset)
        mask_dense = self.library.label(
            "dense", source.get("dense", entry.dense), self.protocol, f"{where}: mask_from: dense"
        )
        self._check_transfer(mask_dataset, entry.dataset, where)
        horizon = self.library.resolve("dense", labels["dense"]).epochs
        self._check_epochs(entry, horizon, where)
        imp = self.library.resolve("imp", labels["imp"])
        if imp.style == "rewind":
            end = self.library.resolve("dense", mask_dense).epochs
            if imp.rewind_epoch >= end:
                raise UserError(f"{where}: imp: rewind_epoch must lie below T = {end}")
        tolerance = (self.protocol.sparsity_tolerance or {}).get(entry.model, 0.0)
        return Experiment(
            name=name, dataset=entry.dataset, model=entry.model, width=entry.width, **labels,
            methods=resolve_methods(entry, self.library, self.protocol, where),
            sparsities=entry.sparsities, rewind_epochs=entry.rewind_epochs, pairs=entry.pairs,
            matching_epochs=entry.matching_epochs, replicates=entry.replicates,
            mask_dataset=mask_dataset, mask_dense=mask_dense, horizon=horizon,
            fraction=imp.fraction, tolerance=tolerance, offset=self.protocol.rewind_offset,
        )  # fmt: skip

    def _check_network(self, entry: ExperimentEntry, where: str) -> None:
        if entry.dataset not in self.datasets:
            allowed = suggest(entry.dataset, sorted(self.datasets))
            raise UserError(f"{where}: unknown data set {entry.dataset!r}; {allowed}")
        if entry.model not in model_catalog.KNOWN:
            allowed = suggest(entry.model, sorted(model_catalog.KNOWN))
            raise UserError(f"{where}: unknown model {entry.model!r}; {allowed}")
        problem = model_catalog.KNOWN[entry.model].width_error(entry.width)
        if problem:
            raise UserError(f"{where}: width: {problem}")

    def _check_transfer(self, source: object, target: str, where: str) -> None:
        if not isinstance(source, str) or source not in self.datasets:
            allowed = suggest(str(source), sorted(self.datasets))
            raise UserError(f"{where}: mask_from: unknown data set {source!r}; {allowed}")
        shapes = [
            (self.datasets[n].channels, self.datasets[n].size, self.datasets[n].classes)
            for n in (source, target)
        ]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{where}: mask_from: {source} and {target} differ in channels, size or classes: "
                f"{shapes[0]} and {shapes[1]}"
            )

    def _check_epochs(self, entry: ExperimentEntry, horizon: int, where: str) -> None:
        for k in entry.rewind_epochs:
            if k + self.protocol.rewind_offset >= horizon:
                trained = (
                    f" (trained {k + self.protocol.rewind_offset})"
                    if self.protocol.rewind_offset
                    else ""
                )
                raise UserError(
                    f"{where}: rewind_epochs: {k}{trained} must lie below T = {horizon} of the dense recipe"
                )
        for t in entry.matching_epochs:
            if t > horizon:
                raise UserError(f"{where}: matching_epochs: {t} must not exceed T = {horizon}")


def _extended(name: str, entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    """An experiment's entry laid over the one it extends."""
    chain: list[str] = []
    raw: dict[str, Any] = {}
    while True:
        chain.append(name)
        own = dict(mapping(entries[name], f"{where}: {name}"))
        parent = own.pop("extends", None)
        raw = own | raw
        if parent is None:
            return raw
        if not isinstance(parent, str) or parent not in entries:
            allowed = suggest(str(parent), sorted(entries))
            raise UserError(f"{where}: {name}: extends: unknown experiment {parent!r}; {allowed}")
        if parent in chain:
            raise UserError(f"{where}: {name}: extends: {parent!r} leads back to itself")
        name = parent


def read(root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``config.yaml`` under ``root`` with the files it names.

    ``overrides`` are the scalar keys given on the command line (``study``, ``protocol`` …).
    """
    main = dict(mapping(read_yaml(root / "config.yaml"), "config.yaml")) | dict(overrides or {})
    parsed: Main = parse(Main, main, "config.yaml")
    folder = root / "config"
    studies = sorted(p.stem for p in (folder / "studies").glob("*.yaml"))
    if parsed.study not in studies:
        raise UserError(
            f"config.yaml: unknown study {parsed.study!r}; {suggest(parsed.study, studies)}"
        )
    datasets = folder / "datasets.yaml"
    return Config(
        {
            "main": main,
            "recipes": read_yaml(folder / "recipes.yaml"),
            "datasets": read_yaml(datasets) if datasets.exists() else {},
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
    if not name:
        return None
    try:
        return Config(json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: the submitted study cannot be read: {error}") from None


def load(root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The submitted study inside a job, else the study on disk."""
    return frozen() or read(root, overrides)
