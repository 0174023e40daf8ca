"""``config.yaml``, the recipes and one study, read and checked as a whole.

Jobs that wait in a queue run with the study as it was submitted: the process that submits writes
what it read to one file named by its digest (``freeze``) and hands the name on in the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
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
    NOT_NEGATIVE,
    Checked,
    check_name,
    choose,
    extended,
    mapping,
    named,
    option,
    parse,
    quote,
)
from pipeline.errors import UserError, brief
from pipeline.runs import STAGES
from pipeline.runs.sweeps import Sweep
from pipeline.study.experiment import (
    Experiment,
    ExperimentEntry,
    check_entry,
    check_epochs,
    check_prunes,
)
from pipeline.study.files import moved, whole
from pipeline.study.levels import Masks
from pipeline.study.outputs import Linked, Output, parse_output
from pipeline.study.recipes import Library
from pipeline.study.settings import RECIPES, Method, Protocol
from pipeline.study.strict_yaml import read_yaml
from pipeline.study.works import FOLDER, Works, texts

FROZEN, DATA_ROOT, COMMAND = "PIPELINE_CONFIG", "DATA_ROOT", "command line"
#: Folders below the results that no study may be named after.
RESERVED = {*STAGES, "data", "trials", "logs", "benchmarks", "tensorboard", "wandb"}


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
    sharing: Literal["mps", "threads", "turns"] = option(
        "mps", "how runs share a GPU of this machine: side by side by NVIDIA MPS, which is started "
        "where it is installed; trainings as threads of one process; or by turns",
    )  # fmt: skip
    processes: int = option(
        1, "processes that share a training on photographs, one GPU each; no bit more than rounding "
        "depends on it", AT_LEAST_ONE,
    )  # fmt: skip
    nodes: int = option(1, "machines over which these processes are spread evenly", AT_LEAST_ONE)
    tensorboard: bool = option(
        False, "write the history of each training for TensorBoard, to <results>/tensorboard"
    )
    wandb: bool = option(
        False,
        "write the history of each training for Weights & Biases, offline, to <results>/wandb",
    )
    seed_offset: int = option(0, "added to all seeds of the study", NOT_NEGATIVE)
    slices: tuple[str, ...] = option(
        (), "folders in which results folders of slices lie, taken over before anything runs; one "
        "may stand without a list",
    )  # fmt: skip

    def check(self, where: str, given: Collection[str] = ()) -> None:
        """As ``Checked.check``; ``given``: the keys that the command line has set."""

        def at(key: str) -> str:
            return COMMAND if key in given else where

        for package in ("tensorboard", "wandb"):
            if getattr(self, package) and find_spec(package) is None:
                raise UserError(
                    f"{at(package)}: {package}: true needs a package that is not installed: "
                    f"pip install {package}"
                )
        if self.sharing == "threads" and not self.warm:
            raise UserError(f"{at('sharing')}: sharing: threads needs warm: true")
        if self.processes % self.nodes:
            place = at("nodes" if "nodes" in given else "processes")
            raise UserError(f"{place}: processes ({self.processes}) must be a multiple of nodes")
        check_name(self.study, f"{at('study')}: study")
        if self.study in RESERVED:
            place = f"{at('study')}: study: {self.study!r}"
            raise UserError(f"{place} is the name of a folder of runs; choose another")
        # Snakemake puts the results folder into patterns of files and lines of shell.
        if not re.fullmatch(r"[\w./@%+=:,-]+", self.results):
            raise UserError(
                f"{at('results')}: results: {quote(self.results)} is not allowed; "
                "use letters, digits and . / _ - @ % + = : ,"
            )
        places = [("data_root", self.data_root), *(("slices", place) for place in self.slices)]
        for key, place in places:
            if not place.isprintable() or not place:
                raise UserError(f"{at(key)}: {key}: {quote(place)} is no name of a folder")


@dataclass(frozen=True)
class StudyFile:
    """A file in ``config/studies``."""

    experiments: Any = option(help="experiments by name")
    title: str = option("", "title, printed above the report")
    outputs: Any = option(None, "tables and figures by name")
    extends: str | None = option(
        None, "study over whose experiments, tables and figures these are laid; null drops one"
    )
    uses: str | None = option(
        None,
        "study whose experiments are this one's, too, and whose tables and figures can be extended",
    )


class Config:
    """A study under a protocol: experiments, outputs, recipes, data sets; references checked."""

    def __init__(self, raw: Mapping[str, Any], given: Collection[str] = ()) -> None:
        for part in ("main", "recipes", "datasets", "study"):
            if part not in mapping(raw, "submitted study"):
                raise UserError(f"submitted study: key {part!r} is missing")
        self.raw, self.given = dict(raw), tuple(given)
        self.main: Main = parse(Main, raw["main"], "config.yaml")
        self.main.check("config.yaml", given)
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
        place = COMMAND if "protocol" in given else "config.yaml"
        name = choose(self.main.protocol, protocols, place, "protocol")
        self.protocol: Protocol = protocols[name]
        self.datasets = {
            **data_catalog.INFO,
            **data_catalog.own_data_sets(raw["datasets"], self.results),
        }
        self.works = Works.read(raw.get("works"), self.datasets, self.models, self.recipes.methods)
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
            output.cite(self.works, f"{place}: {name}")
            if isinstance(output, Linked):
                output.link(found, self.experiments, f"{place}: {name}")
            for run in output.needs(self.experiments):
                if run.kind == "connectivity":
                    self.check_fit(run.kind, run.label, run.home.model, f"{place}: {name}")
        return found

    @property
    def labels(self) -> dict[str, set[str]]:
        """Labels of the recipes in use, by their kind."""
        entries = self.experiments.values()
        kinds = (*RECIPES, "sweep")
        found = {kind: {getattr(one, kind) for one in entries} - {None} for kind in kinds}
        found["imp"] |= {one.one_shot for one in entries if one.levels}
        found["dense"] |= {one.mask_dense for one in entries}
        found["match"] |= {match for one in entries for match in one.matchers.values()}
        found["match"] |= {way.match for one in entries for way in one.ways.values() if way.match}
        return found

    def command(self, target: str = "") -> str:
        """What to type for a target of this study; without one, for all of them."""
        main, words = self.main, [f"study={self.main.study}"]
        words += [f"protocol={main.protocol}"] if main.protocol != "paper" else []
        words += [f"results={main.results}"] if main.results != "results" else []
        return " ".join(["snakemake", *filter(None, [target]), "-c2 --config", *words])

    @property
    def scope(self) -> str:
        """Folder of tables and figures: the study's, and in it one per protocol but ``paper``."""
        if self.main.protocol == "paper":
            return self.main.study
        return f"{self.main.study}/{self.main.protocol}"

    def data_set(self, name: object, where: str) -> data_catalog.DataInfo:
        """A data set by name; ``<name>+validation=<n>`` has n of its training images withheld.

        Raises:
            UserError: unknown, or a number that is not allowed or spelled otherwise.
        """
        text = name if isinstance(name, str) else ""
        whole, mark, count = text.partition(data_catalog.WITHHELD)
        info: data_catalog.DataInfo = self.datasets[
            choose(whole if mark else name, self.datasets, where, "data set")
        ]
        if mark and not re.fullmatch(r"[1-9][0-9]{0,8}", count):
            raise UserError(f"{where}: {quote(name)}: expected a number behind {mark!r}")
        if mark:
            self.datasets[text] = info = info.without(int(count), where)
        return info

    def _experiment(self, name: str, entries: Mapping[str, Any]) -> Experiment:
        where = f"{self.where}: experiments: {name}"
        raw = extended(name, entries, f"{self.where}: experiments", "experiment")
        entry = parse(ExperimentEntry, raw, where)
        check_entry(entry, where)
        entry = self._withheld(entry, where)
        self.check_network(entry.dataset, entry.model, entry.width, where)
        labels = {
            kind: self.recipes.label(kind, getattr(entry, kind), self.protocol, f"{where}: {kind}")
            for kind in RECIPES
        }
        source = dict(entry.mask_from or {})
        mask_dataset = source.get("dataset", entry.dataset)
        self.data_set(mask_dataset, f"{where}: mask_from")
        mask_dense = self.recipes.label(
            "dense", source.get("dense", entry.dense), self.protocol, f"{where}: mask_from: dense"
        )
        self.check_shapes(mask_dataset, entry.dataset, f"{where}: mask_from")
        ways = self._ways(entry.methods, where)
        for match in dict.fromkeys([labels["match"], *(m.match for m in ways.values() if m.match)]):
            self.check_fit("match", match, entry.model, where)
        self._check_precision(labels, where)
        horizon = self.recipes.resolve("dense", labels["dense"]).epochs
        training = self.recipes.resolve("sparse", labels["sparse"]).training
        check_epochs(entry, horizon, training, self.protocol.rewind_offset, where)
        labels |= self._sweep(entry, labels, where)
        imp = self.recipes.resolve("imp", labels["imp"])
        masks = Masks(self.recipes, self.protocol, self.models[entry.model])
        labels |= masks.of(entry, labels, ways, where)
        if imp.style == "rewind":
            end = self.recipes.resolve("dense", mask_dense).epochs
            if imp.rewind_epoch >= end:
                raise UserError(f"{where}: imp: rewind_epoch must lie below T = {end}")
        line = self.recipes.resolve("connectivity", labels["connectivity"])
        if "repair-blocks" in line.corrections and not self.models[entry.model].blocks:
            raise UserError(
                f"{where}: connectivity: {labels['connectivity']}: corrections: repair-blocks: "
                f"{entry.model} has no blocks of several BatchNorm layers"
            )
        return Experiment(
            **vars(entry) | labels, name=name, mask_dataset=mask_dataset, mask_dense=mask_dense,
            ways=ways, horizon=horizon, training=training,
            chain=imp, line=line,
            protocol=self.protocol,
        )  # fmt: skip

    def _withheld(self, entry: ExperimentEntry, where: str) -> ExperimentEntry:
        """The entry on data of which its validation images are withheld, a's mask's too."""
        if not entry.validation:
            return entry
        data = self.data_set(entry.dataset, where).without(entry.validation, where)
        self.data_set(data.name, where)
        source = dict(entry.mask_from or {})
        if source.get("dataset") == entry.dataset:
            source["dataset"] = data.name
        return replace(entry, dataset=data.name, mask_from=source or None)

    def _sweep(
        self, entry: ExperimentEntry, labels: Mapping[str, str], where: str
    ) -> dict[str, Any]:
        """The sweep of an experiment and its matching recipes, as labels; checked."""
        if entry.sweep is None:
            if entry.matches:
                raise UserError(f"{where}: matches go with a sweep")
            return {}
        label = self.recipes.label("sweep", entry.sweep, self.protocol, f"{where}: sweep")
        sweep: Sweep = self.recipes.resolve("sweep", label)
        if not entry.pairs:
            raise UserError(f"{where}: pairs: a sweep needs at least one pair [a, b] of seeds")
        if entry.mask_from:
            raise UserError(f"{where}: sweep goes with no mask_from: a and b have one recipe")
        dense, place = self.recipes.resolve("dense", labels["dense"]), f"{where}: sweep {label}"
        sweep.of_network(entry.model, place)
        for seeds in sweep.members(entry.pairs):
            sweep.fit(seeds, dense, place)
        place, matchings = f"{where}: matches", {}
        for reference in entry.matches or (entry.match,):
            match = self.recipes.label("match", reference, self.protocol, place)
            self.check_fit("match", match, entry.model, where)
            name = reference if isinstance(reference, str) else reference["recipe"]
            if name in matchings:
                raise UserError(
                    f"{place}: {name!r} stands twice; add a recipe with 'extends: {name}'"
                )
            matchings[name] = match
        return {"sweep": label, "over": sweep, "matchers": matchings}

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
        self.data_set(dataset, where)
        info = self.models[choose(model, self.models, where, "model")]
        info.check_allowed(where)
        problem = info.width_error(width)
        if problem:
            raise UserError(f"{where}: width: {problem}")

    def check_fit(self, kind: str, label: str, model: str, where: str) -> None:
        """Raise UserError where a recipe of matching or connectivity does not fit a network."""
        recipe, network = self.recipes.resolve(kind, label), self.models[model]
        if kind == "match" and recipe.taps not in network.taps:
            raise UserError(
                f"{where}: match: {label}: taps: {recipe.taps} does not fit {model!r}, a network of "
                "your own, which is observed where tracing finds its groups; allowed: "
                f"{', '.join(network.taps)}"
            )
        if kind == "connectivity" and "repair" in recipe.corrections and not network.repairs:
            raise UserError(
                f"{where}: connectivity: {label}: corrections: repair does not fit {model!r}, which "
                "has neither BatchNorm nor convolutions with biases; allowed: none, reset"
            )

    def check_shapes(self, source: str, target: str, where: str) -> None:
        """Raise UserError where a mask of one data set's network does not fit the other's."""
        a, b = (
            (info.channels, info.size, info.classes)
            for info in (self.data_set(source, where), self.data_set(target, where))
        )
        if a != b:
            raise UserError(
                f"{where}: {source} and {target} differ in channels, size or classes: {a} and {b}"
            )


def read(root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``config.yaml`` under ``root`` with the files it names.

    ``overrides`` are the keys given on the command line (``study``, ``protocol`` …).
    """
    given = dict(overrides or {})
    main = dict(mapping(read_yaml(root / "config.yaml"), "config.yaml"))
    for part in (main, given):
        if isinstance(part.get("slices"), str):
            part["slices"] = [part["slices"]] if part["slices"] else []
    parse(Main, given, COMMAND)
    main |= given
    parsed: Main = parse(Main, main, "config.yaml")
    folder = root / "config"
    studies = [p.stem for p in (folder / "studies").glob("*.yaml")]
    choose(parsed.study, studies, COMMAND if "study" in given else "config.yaml", "study")
    study = moved(whole(folder / "studies", parsed.study), parsed.seed_offset)
    datasets, models = folder / "datasets.yaml", folder / "models.yaml"
    return Config(
        {
            "main": main,
            "recipes": read_yaml(folder / "recipes.yaml"),
            "datasets": read_yaml(datasets) if datasets.exists() else {},
            "models": read_yaml(models) if models.exists() else {},
            "study": study,
            "works": texts(folder / FOLDER),
        },
        given,
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
        raise UserError(f"{name}: the submitted study cannot be read: {brief(error)}") from None


def load(root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The submitted study inside a job, else the study on disk."""
    return frozen() or read(root, overrides)
