"""From a run to its settings, inputs and ancestors: the graph that Snakemake walks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from pipeline.artifacts.store import digest
from pipeline.catalog.datasets import DataInfo
from pipeline.catalog.schema import choose, without_defaults
from pipeline.errors import UserError
from pipeline.runs import File, Run
from pipeline.runs.sweeps import Sweep
from pipeline.study.config import Config
from pipeline.study.outputs import Linked
from pipeline.study.settings import Method
from pipeline.study.shares import shares


class Graph:
    """Settings, input files and ancestors of every run of a study; results are remembered.

    It is the study that runs ask (`pipeline.runs.Study`).
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.recipe = cache(self._recipe)
        self.inputs = cache(self._inputs)
        self.settings = cache(self._settings)
        self._digests: dict[Run, str] = {}

    # -- what runs ask ---------------------------------------------------------------------

    def _recipe(self, run: Run) -> Any:
        """The settings of a run's own recipe, as far as they concern it; called as ``recipe``."""
        return run.own(self.config.recipes.resolve(run.kind, run.label))

    def info(self, run: Run) -> DataInfo:
        """The data set that a run reads."""
        return self.config.datasets[run.home.dataset]

    def method(self, name: str, where: str) -> Method:
        """A sparse method; UserError for an unknown one."""
        methods: dict[str, Method] = self.config.recipes.methods
        return methods[choose(name, methods, where, "method")]

    def sweep(self, label: str, where: str) -> Sweep:
        """The settings of a sweep recipe; UserError for an unknown one."""
        found: Sweep = self.config.recipes.resolve("sweep", label, where)
        return found

    def _inputs(self, run: Run) -> dict[str, File]:
        """The files a run reads, by role.

        Raises:
            UserError: the run, asked for by its path, cannot be made.
        """
        self.check(run)
        return run.inputs(self)

    def check(self, run: Run) -> None:
        """Whether a run that was asked for by its path can be made.

        Raises:
            UserError: unknown data set, model, recipe or method, impossible width, or an epoch
                beyond the end.
        """
        where = run.folder
        for network in run.networks:
            self.config.check_network(network.dataset, network.model, float(network.width), where)
            self.config.check_shapes(network.dataset, run.home.dataset, where)
        self.recipe(run)
        self.config.check_fit(run.kind, run.label, run.home.model, where)
        run.check(self)
        horizon = self.recipe(run.home).epochs
        for what, epoch in run.limits(self).items():
            if epoch >= horizon:
                raise UserError(f"{where}: {what}: {epoch} must lie below T = {horizon}")

    def misfit(self, run: Run) -> str | None:
        """Why a run cannot train as its recipe says: batch against images, warm-up against epochs."""
        if not run.trains:
            return None
        settings, info = run.training(self), self.info(run)
        # a sparse run has the dense recipe's epochs, less k
        epochs = getattr(settings, "epochs", self.recipe(run.home).epochs)
        if settings.batch_size > info.train_images:
            return (
                f"{run.folder}: batch_size {settings.batch_size:,} is more than the "
                f"{info.train_images:,} training images of {info.name}"
            )
        if settings.warmup_epochs and settings.warmup_epochs >= epochs:
            return (
                f"{run.folder}: warmup_epochs {settings.warmup_epochs} must lie below T = {epochs}"
            )
        return None

    def processes(self, run: Run) -> int:
        """Processes that share a run: ``processes`` of config.yaml for trainings on photographs.

        Others are small, and use a machine best as many runs side by side.

        Raises:
            UserError: the run's batch cannot be dealt to so many.
        """
        count = self.config.main.processes
        if count == 1 or not run.trains or self.info(run).kind != "image_folder":
            return 1
        try:
            shares(run.training(self), count)
        except UserError as error:
            raise UserError(f"{run.folder}: config.yaml: processes: {count}: {error}") from None
        return count

    # -- identity --------------------------------------------------------------------------

    def digest(self, run: Run) -> str:
        """Digest of a run's settings, and so of all its ancestors' settings."""
        stack = [run]
        while stack:  # no recursion: chains of IMP blocks are long
            top = stack[-1]
            unknown = [parent for parent in self.parents(top) if parent not in self._digests]
            if unknown:
                stack += unknown
            else:
                self._digests[stack.pop()] = digest(self.settings(top))
        return self._digests[run]

    def _settings(self, run: Run) -> dict[str, Any]:
        """All that decides the bits of a run: its own settings and the digests of its parents.

        Sorted, values equal to the schema's defaults dropped.
        """
        parents = {
            role: [self.digest(file.run), file.name, file.prefix]
            for role, file in sorted(self.inputs(run).items())
        }
        model = self.config.models[run.home.model]
        found = {
            "algorithm": run.algorithm,
            "data": self.facts(run.home.dataset),
            **({"model": model.identity} if model.identity else {}),
            **({"parents": parents} if parents else {}),
            "recipe": without_defaults(self.recipe(run)),
            "run": run.key,
            "stage": run.stage,
            **run.beside(self),
        }
        return dict(sorted(found.items()))

    def facts(self, dataset: str) -> dict[str, Any]:
        """What a data set's entry says that changes the bits of runs on it."""
        info = self.config.datasets[dataset]
        names = ("name", "classes", "channels", "size", "train_images", "flip", "pad")
        own = {name: getattr(info, name) for name in names}
        if info.kind == "image_folder":
            own["kind"] = info.kind  # cropped at random scales
        return own | {"mean": list(info.mean), "std": list(info.std)}

    def parents(self, run: Run) -> list[Run]:
        """The runs whose files a run reads, each once."""
        return list(dict.fromkeys(file.run for file in self.inputs(run).values()))

    def closure(self, runs: Iterable[Run]) -> list[Run]:
        """The runs and all their ancestors, each once, ancestors first."""
        done: dict[Run, None] = {}
        stack = [(run, False) for run in reversed(list(runs))]
        while stack:
            run, ready = stack.pop()
            if run in done:
                continue
            if ready:
                done[run] = None
            else:
                stack.append((run, True))
                stack.extend((parent, False) for parent in reversed(self.parents(run)))
        return list(done)

    def outputs(self, names: Iterable[str]) -> list[Run]:
        """The runs that the named tables and figures show, each once."""
        found: dict[Run, None] = {}
        for name in names:
            choose(name, self.config.outputs, self.config.where, "table or figure")
            output = self.config.outputs[name]
            if isinstance(output, Linked):
                found.update(dict.fromkeys(self.outputs(output.outputs)))
            found.update(dict.fromkeys(output.needs(self.config.experiments)))
        return list(found)
