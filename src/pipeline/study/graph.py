"""From a run to its settings, inputs and ancestors: the graph that Snakemake walks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.artifacts import keys
from pipeline.artifacts.keys import (
    Curve,
    Dense,
    ImpBarrier,
    ImpBlock,
    Mask,
    Match,
    Plane,
    Run,
    Snapshot,
    Solution,
    Sparse,
)  # fmt: skip
from pipeline.artifacts.store import digest
from pipeline.catalog.schema import choose, without_defaults
from pipeline.errors import UserError
from pipeline.study.config import Config
from pipeline.study.experiment import target_rounds
from pipeline.study.outputs import Linked
from pipeline.study.settings import ALGORITHM, ImpSettings


@dataclass(frozen=True)
class File:
    """A file of a run, and the tensors in it that are meant (all, for an empty prefix)."""

    run: Run
    name: str
    prefix: str = ""

    @property
    def path(self) -> str:
        return keys.path(self.run, self.name)


class Graph:
    """Settings, input files and ancestors of every run of a study; results are remembered."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._recipe = config.recipes.resolve
        self.inputs = cache(self._inputs)
        self.settings = cache(self._settings)
        self._digests: dict[Run, str] = {}

    # -- recipes ---------------------------------------------------------------------------

    def recipe(self, run: Run) -> Any:
        """The settings of a run's own recipe."""
        match run:
            case Dense():
                return self._recipe("dense", run.recipe)
            case Snapshot():
                return self._recipe("dense", run.dense.recipe)
            case ImpBlock() | Mask():
                return self._recipe("imp", run.recipe)
            case Solution():
                return self._recipe("imp", run.mask.recipe)
            case Match():
                return self._recipe("match", run.recipe)
            case Sparse():
                return self._recipe("sparse", run.recipe)
            case Curve() | ImpBarrier() | Plane():
                return self._recipe("connectivity", run.recipe)

    # -- files -----------------------------------------------------------------------------

    def weights_at(self, dense: Dense, epoch: int) -> File:
        """The weights of a dense run after ``epoch`` epochs: end, trunk state or snapshot."""
        settings = self.recipe(dense)
        if epoch > settings.epochs:
            raise UserError(
                f"{keys.folder(dense)}: epoch {epoch} lies beyond T = {settings.epochs}"
            )
        if epoch == settings.epochs:
            return File(dense, "weights.safetensors")
        if epoch in settings.trunk:
            return File(dense, "trunk.safetensors", keys.epoch_prefix(epoch) + "weights/")
        return File(Snapshot(dense, epoch), "weights.safetensors")

    def round_weights(self, dense: Dense, recipe: str, number: int) -> File:
        """The weights after an IMP round; round 0 is the dense solution."""
        if number == 0:
            return File(dense, "weights.safetensors")
        per_block = self._recipe("imp", recipe).rounds_per_block
        block = ImpBlock(dense, recipe, math.ceil(number / per_block))
        return File(block, "rounds.safetensors", keys.round_prefix(number))

    def block_rounds(self, block: ImpBlock) -> range:
        """The rounds that a block trains."""
        per_block = self.recipe(block).rounds_per_block
        return range((block.block - 1) * per_block + 1, block.block * per_block + 1)

    def mask_source(self, mask: Mask) -> File:
        """The weights from which a mask is cut."""
        rounds = target_rounds(mask.target, self.recipe(mask).fraction)
        return self.round_weights(mask.dense, mask.recipe, rounds - 1)

    def _inputs(self, run: Run) -> dict[str, File]:
        """The files a run reads, by role.

        Raises:
            UserError: the run, asked for by its path, cannot be made.
        """
        self.check(run)
        match run:
            case Dense():
                return {}
            case Snapshot():
                return {"trunk": File(run.dense, "trunk.safetensors")}
            case ImpBlock():
                first = self.block_rounds(run).start
                return {
                    "start": self.round_weights(run.dense, run.recipe, first - 1),
                    **self._rewind(run.dense, self.recipe(run)),
                }
            case Mask():
                return {"weights": self.mask_source(run)}
            case Solution():
                return {
                    "mask": File(run.mask, "mask.safetensors"),
                    "start": self.mask_source(run.mask),
                    **self._rewind(run.mask.dense, self.recipe(run)),
                }
            case Match():
                end = self.recipe(run.b).epochs if run.epoch is None else run.epoch
                return {"a": self.weights_at(run.a, self.recipe(run.a).epochs),
                        "b": self.weights_at(run.b, end)}  # fmt: skip
            case Sparse():
                files = {
                    "start": self.weights_at(run.init, run.rewind),
                    "mask": File(run.mask, "mask.safetensors"),
                }
                if run.match:
                    files["permutation"] = File(run.match, "permutation.safetensors")
                return files
            case Curve():
                return {
                    **self.inputs(run.match),
                    "permutation": File(run.match, "permutation.safetensors"),
                }
            case ImpBarrier():
                per_block = self._recipe("imp", run.imp).rounds_per_block
                blocks = range(1, math.ceil(run.rounds / per_block) + 1)
                return {"dense": File(run.dense, "weights.safetensors")} | {
                    f"block{n}": File(ImpBlock(run.dense, run.imp, n), "rounds.safetensors")
                    for n in blocks
                }
            case Plane():
                match = run.permuted.match
                if match is None:
                    raise UserError(f"{keys.folder(run)}: a plane needs a permuted run")
                return {
                    "lth": File(run.lth, "metrics.json"),
                    "dense": self.weights_at(match.a, self.recipe(match.a).epochs),
                    "permuted": File(run.permuted, "metrics.json"),
                    "permutation": File(match, "permutation.safetensors"),
                }

    def _rewind(self, dense: Dense, settings: ImpSettings) -> dict[str, File]:
        if settings.style == "finetune":
            return {}
        return {"rewind": self.weights_at(dense, settings.rewind_epoch)}

    def check(self, run: Run) -> None:
        """Whether a run that was asked for by its path can be made.

        Raises:
            UserError: unknown data set, model, recipe or method, impossible width, or an epoch
                beyond the end.
        """
        where = keys.folder(run)
        dense = self.networks(run)
        for network in dense:
            self.config.check_network(network.dataset, network.model, float(network.width), where)
            self.config.check_shapes(network.dataset, dense[0].dataset, where)
        self.recipe(run)
        limits: dict[str, tuple[int, Dense]] = {}
        match run:
            case Snapshot():
                limits = {"epoch": (run.epoch, run.dense)}
            case ImpBlock() | Solution():
                settings = self.recipe(run)
                if settings.style == "rewind":
                    limits = {"rewind_epoch of the imp recipe": (settings.rewind_epoch, dense[0])}
            case Match() if run.epoch is not None:
                limits = {"matching epoch t": (run.epoch, run.b)}
            case Sparse():
                limits = {"rewind epoch k": (run.rewind, run.init)}
                methods = self.config.recipes.methods
                method = methods[choose(run.method, methods, where, "method")]
                if method.permute != (run.match is not None) or run.paired != (method.init == "b"):
                    raise UserError(
                        f"{where}: does not fit method {run.method!r}: only init: b goes with a "
                        "pair a<s>-b<s>, and only permute: true with .<match>"
                    )
        for what, (epoch, network) in limits.items():
            horizon = self.recipe(network).epochs
            if epoch >= horizon:
                raise UserError(f"{where}: {what}: {epoch} must lie below T = {horizon}")

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
        model = self.config.models[self.networks(run)[0].model]
        own = {
            "algorithm": ALGORITHM[run.stage],
            "data": self.facts(self.dataset(run)),
            **({"model": model.identity} if model.identity else {}),
            "parents": parents,
            "recipe": without_defaults(self.recipe(run)),
            "run": run.key,
            "stage": run.stage,
        }
        if not parents:
            del own["parents"]
        return own

    def facts(self, dataset: str) -> dict[str, Any]:
        """What a data set's entry says that changes the bits of runs on it."""
        info = self.config.datasets[dataset]
        names = ("name", "classes", "channels", "size", "train_images", "flip", "pad")
        own = {name: getattr(info, name) for name in names}
        if info.kind == "image_folder":
            own["kind"] = info.kind  # cropped at random scales
        return own | {"mean": list(info.mean), "std": list(info.std)}

    def networks(self, run: Run) -> tuple[Dense, ...]:
        """The dense runs that a run names; the first is at home on the data set that it reads."""
        match run:
            case Dense():
                return (run,)
            case Sparse():
                return (run.init, run.mask.dense)
            case Match():
                return (run.b, run.a)
            case Curve():
                return (run.match.b, run.match.a)
            case Solution():
                return (run.mask.dense,)
            case Plane():
                return (run.permuted.init, run.permuted.mask.dense)
            case _:
                return (run.dense,)

    def dataset(self, run: Run) -> str:
        """The data set that a run reads."""
        return self.networks(run)[0].dataset

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
