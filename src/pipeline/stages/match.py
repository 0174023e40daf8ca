"""Matching of a onto b: the permutation, and how good it is per group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.data.augment import normalise
from pipeline.runs import Dense, Match
from pipeline.stages.job import Job
from pipeline.stages.outcome import finite
from pipeline.streams import generator
from pipeline.study.settings import MatchSettings
from pipeline.symmetry import matching
from pipeline.symmetry.matchers import Pair, find
from pipeline.symmetry.permutation import PermutationSpec

State = Mapping[str, Tensor]


def execute(job: Job) -> None:
    """Match by the recipe's matcher; write permutation and quality."""
    run = job.run
    assert isinstance(run, Match)
    status, found = matched(job, job.spec(run), (run.a, run.b), (job.state("a"), job.state("b")))
    job.write_tensors("permutation.safetensors", found.permutation)
    job.metrics(status=status, images=found.images, groups=quality(found), **found.search)


def matched(
    job: Job, spec: PermutationSpec, runs: tuple[Dense, Dense], states: tuple[State, State]
) -> tuple[str, matching.Match]:
    """The matching of a state of a onto one of b by the job's recipe, and its status.

    What a network that diverged computes says nothing: the permutation is then the identity.
    """
    if not all(map(finite, states)):
        return "diverged", matching.Match(symmetry.identity(spec), {})
    return "ok", find(pair(job, spec, runs, states, job.recipe), job.recipe)


def quality(found: matching.Match) -> dict[str, dict[str, Any]]:
    """How good each group's match is, by group."""
    return {name: asdict(group) for name, group in found.quality.items()}


def pair(
    job: Job,
    spec: PermutationSpec,
    runs: tuple[Dense, Dense],
    states: tuple[State, State],
    settings: MatchSettings,
) -> Pair:
    """The networks, and images as training sees them: shuffled, augmented, short batches dropped."""
    a, b = runs
    available = job.graph.info(job.run).train_images
    count = min(settings.images or available, available)
    size = min(settings.batch_size, count)
    count -= count % size

    def drawn(purpose: str) -> torch.Generator:
        return generator(b.stream, purpose, a.stream)

    def networks() -> tuple[nn.Module, nn.Module]:
        found = job.model(a), job.model(b)
        for model, state in zip(found, states, strict=True):
            model.load_state_dict(state)
            model.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return found

    def given() -> Iterator[tuple[Tensor, Tensor]]:
        data = job.data.to(job.device)
        images = data.subset(
            count,
            batch_size=size,
            order=drawn("match-order"),
            augmentation=drawn("match-augmentation") if settings.augment else None,
        )
        for part, labels in images:
            batch = normalise(part.to(job.device, non_blocking=True), data.mean, data.std)
            yield batch.contiguous(memory_format=torch.channels_last), labels

    return Pair(spec, *states, networks, given, drawn)
