"""What is matched in the place of two networks: copies that are mixed of two epochs, or pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from pipeline import models, pruning
from pipeline.catalog import layers
from pipeline.catalog.networks import find
from pipeline.runs import Dense, File
from pipeline.runs.sweeps import Matching, Mix, Prune
from pipeline.stages.job import Job
from pipeline.streams import generator
from pipeline.symmetry.mixing import mixed

State = Mapping[str, Tensor]


def matched_states(
    job: Job, each: Matching, runs: tuple[Dense, Dense], read: Callable[[File], State]
) -> tuple[State, State]:
    """The states of a and b that a matching looks at: those of its files, or copies of them."""
    a, b = read(each.a), read(each.b)
    if isinstance(each.copies, Mix):
        mix = each.copies
        order = [*job.model(runs[0]).state_dict()]  # a file has the names in an order of its own
        layered = find(runs[0].model).layers
        back = layers.tensors(order, layered, mix.kind, mix.k, substring=mix.substring)
        return mixed(back, read(mix.a), a), mixed(back, read(mix.b), b)
    if isinstance(each.copies, Prune):
        names = models.prunable_parameters(job.model(runs[0]), each.copies.prunable)
        epoch = each.point.rpartition(".")[2]
        return (
            pruned(a, names, each.copies, runs[0].seed, epoch),
            pruned(b, names, each.copies, runs[1].seed, epoch),
        )
    return a, b


def pruned(
    state: State, names: Sequence[str], prune: Prune, seed: int, epoch: str
) -> dict[str, Tensor]:
    """A copy of a state without some of its weights ``names`` (Sharma et al., Appendix H.2).

    Random ones are drawn from a stream of the network's own, another one at every epoch and fraction.
    """
    weights = {name: state[name] for name in names}
    mask = pruning.prune_to(weights, pruning.full(weights), prune.fraction)
    if prune.criterion == "random":
        stream = generator(seed, "prune-copy", epoch, f"{prune.fraction:g}")
        mask = pruning.at_random(mask, prune.random, stream)
    return pruning.apply(mask, state)
