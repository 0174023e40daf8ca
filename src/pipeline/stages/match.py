"""Matching of a onto b: the permutation, and how good it is per group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
from torch import Tensor, nn

from pipeline import symmetry
from pipeline.data.augment import normalise
from pipeline.runs import Match
from pipeline.stages.job import Job
from pipeline.stages.outcome import finite
from pipeline.streams import generator
from pipeline.symmetry import matching
from pipeline.symmetry.matchers import MATCHERS, Pair


def execute(job: Job) -> None:
    """Match by the recipe's matcher; write permutation and quality."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Match)
    pair = _pair(job, run)
    if finite(pair.a) and finite(pair.b):
        status, found = "ok", MATCHERS[settings.similarity](pair, settings)
    else:  # what a network that diverged computes says nothing
        status, found = "diverged", matching.Match(symmetry.identity(pair.spec), {})
    job.write_tensors("permutation.safetensors", found.permutation)
    quality = {name: asdict(group) for name, group in found.quality.items()}
    job.metrics(status=status, images=found.images, groups=quality, **found.search)


def _pair(job: Job, run: Match) -> Pair:
    """The networks, and images as training sees them: shuffled, augmented, short batches dropped."""
    settings = job.recipe
    a, b = job.state("a"), job.state("b")
    available = job.graph.info(run).train_images
    count = min(settings.images or available, available)
    size = min(settings.batch_size, count)
    count -= count % size

    def drawn(purpose: str) -> torch.Generator:
        return generator(run.b.seed, purpose, run.a.seed)

    def networks() -> tuple[nn.Module, nn.Module]:
        found = job.model(run.a), job.model(run.b)
        for model, state in zip(found, (a, b), strict=True):
            model.load_state_dict(state)
            model.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return found

    def batches() -> Iterator[Tensor]:
        data = job.data.to(job.device)
        images = data.subset(
            count,
            batch_size=size,
            order=drawn("match-order"),
            augmentation=drawn("match-augmentation") if settings.augment else None,
        )
        for part, _ in images:
            batch = normalise(part.to(job.device, non_blocking=True), data.mean, data.std)
            yield batch.contiguous(memory_format=torch.channels_last)

    return Pair(job.spec(run), a, b, networks, batches, count, drawn)
