"""Weights of a run as a plain ``torch.nn.Module``, for notebooks and other tools.

>>> from pipeline import interop
>>> net = interop.network("results/dense/digits/resnet20-w0.5/dense-digits/seed0")

What the network is comes from the settings recorded beside the run's files: no study is read.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline import models, symmetry
from pipeline.artifacts.record import PROVENANCE, record_of, verify
from pipeline.artifacts.store import read_tensors
from pipeline.catalog import networks
from pipeline.errors import UserError
from pipeline.runs import STAGES, Dense, ImpBlock, Match, Run, Sparse, parse
from pipeline.runs.dense import epoch_prefix
from pipeline.runs.imp import round_prefix
from pipeline.weights import dense_state, is_sparse


def network(
    run: str | Path,
    *,
    at: int | None = None,
    permuted_by: str | Path | None = None,
    results: str | Path = "results",
    allow_code: bool = False,
) -> nn.Module:
    """The network of a run with its weights: normalised images [N, C, H, W] to logits [N, classes].

    On the CPU and in evaluation mode. Weights that a mask removed are zero. The files are checked
    against their recorded digests.

    Args:
        run: folder of a dense, snapshot, imp, solution or sparse run, or a file in it; below
            ``results`` where the path begins with the stage, as the column ``path`` of
            `pipeline.results.load` does.
        at: of a dense run the epoch of a kept trunk state (None: the end), of an IMP block the
            round (None: its last).
        permuted_by: folder of a match run a → b; the weights are then moved by its permutation.
            The run must be of its a.
        results: the results folder.
        allow_code: allow a network of the user's own to run its code.

    Raises:
        UserError: not a run with weights, missing or changed files, no such epoch or round, or a
            permutation of another network.
    """
    base, found = _locate(run, Path(results))
    if not found.trains:
        *others, last = (stage for stage, kind in STAGES.items() if kind.trains)
        raise UserError(
            f"{found.folder}: holds no weights; expected a {', '.join(others)} or {last} run"
        )
    dense, (settings, shape) = found.home, _recorded(base, found)
    made = networks.recorded(dense.model, settings, allow_code=allow_code)
    made.check_allowed(dense.key, "give allow_code=True")
    model = models.build(made, width=float(dense.width), generator=None, **shape)
    state = _state(base, found, at, model)
    if permuted_by is not None:
        place, match = _locate(permuted_by, Path(results))
        if not isinstance(match, Match):
            raise UserError(f"{permuted_by}: not the path of a match run")
        if match.a != dense:
            raise UserError(f"{permuted_by}: permutes {match.a.key}, not {dense.key}")
        path = place / match.path("permutation.safetensors")
        verify(path)
        spec = models.permutation_spec(made, model, images=(shape["channels"], shape["size"]))
        state = symmetry.apply(spec, read_tensors(path), state)
    model.load_state_dict(state)
    return model.eval()


def _locate(path: str | Path, results: Path) -> tuple[Path, Run]:
    """The results folder and the run of a path."""
    parts = Path(path).parts
    for index, stage in enumerate(parts):
        rest = parts[index + 1 :]
        for words in (rest, rest[:-1]):  # a folder, or a file in it
            with suppress(UserError):
                run = parse(stage, "/".join(words))
                return (Path(*parts[:index]) if index else results), run
    raise UserError(f"{path}: not the path of a run; a stage is one of {', '.join(STAGES)}")


def _recorded(base: Path, run: Run) -> tuple[dict[str, Any], dict[str, int]]:
    """Settings of a network of the user's own, and classes, channels and size of the images."""
    path = base / run.path(PROVENANCE)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    record = record_of(path.parent)
    settings = record.settings if record else {}
    try:
        shape = {name: settings["data"][name] for name in ("classes", "channels", "size")}
    except (KeyError, TypeError):
        raise UserError(f"{path}: does not say what network was trained") from None
    return settings.get("model", {}), shape


def _state(base: Path, run: Run, at: int | None, model: nn.Module) -> dict[str, Tensor]:
    """The network's state that a run holds, dense."""
    if isinstance(run, ImpBlock) or (isinstance(run, Dense) and at is not None):
        tensors = _part(base, run, at)
    elif at is not None:
        raise UserError(f"{run.folder}: 'at' goes with dense runs and IMP blocks only")
    else:
        path = base / run.path("weights.safetensors")
        if isinstance(run, Sparse) and not path.exists() and path.parent.exists():
            raise UserError(f"{path}: not kept; set keep_weights: true in its sparse recipe")
        verify(path, outputs=run.files)
        tensors = read_tensors(path)
    if not is_sparse(tensors):
        return tensors
    return dense_state(tensors, model.state_dict())[0]


def _part(base: Path, run: Dense | ImpBlock, at: int | None) -> dict[str, Tensor]:
    """The tensors of one epoch of a trunk, or of one round of an IMP block."""
    dense = isinstance(run, Dense)
    path = base / run.path("trunk.safetensors" if dense else "rounds.safetensors")
    verify(path)
    tensors = read_tensors(path)
    word = "epoch" if dense else "round"
    kept = sorted({int(name.partition("/")[0].removeprefix(word)) for name in tensors})
    if at is None:
        at = kept[-1]
    if at not in kept:
        raise UserError(f"{path}: holds {word}s {', '.join(map(str, kept))}, not {at}")
    prefix = f"{epoch_prefix(at)}weights/" if dense else round_prefix(at)
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
