"""Activation matching of a onto b: the permutation, and how good it is per group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from pipeline import symmetry
from pipeline.artifacts.store import write_tensors
from pipeline.data.augment import normalise
from pipeline.data.subsets import training_batches
from pipeline.runs import Match
from pipeline.stages.job import Job
from pipeline.stages.outcome import finite
from pipeline.streams import generator
from pipeline.symmetry import matching


def execute(job: Job) -> None:
    """Collect all groups' statistics in one pass, assign, write permutation and quality."""
    run, settings = job.run, job.recipe
    assert isinstance(run, Match)
    a, b = job.state("a"), job.state("b")
    spec = job.spec(run)
    status = "ok" if finite(a) and finite(b) else "diverged"
    if status == "diverged" or settings.similarity == "random":
        # A control; and for a network that diverged, whose activations say nothing.
        permutation = symmetry.random(spec, generator(run.b.seed, "random-match", run.a.seed))
        if status == "diverged":
            permutation = symmetry.identity(spec)
        _write(job, permutation, status, {}, 0)
        return
    device = job.device
    model_a, model_b = job.model(run.a), job.model(run.b)
    for model, state in ((model_a, a), (model_b, b)):
        model.load_state_dict(state)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = job.data.to(device)
    count = min(settings.images or len(data.train), len(data.train))
    size = min(settings.batch_size, count)
    count -= count % size
    # As training sees them: shuffled, augmented, the last short batch dropped.
    images = training_batches(
        data,
        count,
        batch_size=size,
        order=generator(run.b.seed, "match-order", run.a.seed),
        augmentation=generator(run.b.seed, "match-augmentation", run.a.seed)
        if settings.augment
        else None,
    )

    def batches() -> Iterator[Tensor]:
        for part in images:
            batch = normalise(part.to(device, non_blocking=True), data.mean, data.std)
            yield batch.contiguous(memory_format=torch.channels_last)

    found = matching.match(
        matching.collect(model_a, model_b, spec, batches()),
        similarity=settings.similarity,
        std=settings.std,
        epsilon=settings.epsilon,
    )
    quality = {name: asdict(group) for name, group in found.quality.items()}
    _write(job, found.permutation, status, quality, count)


def _write(
    job: Job,
    permutation: symmetry.Permutation,
    status: str,
    quality: Mapping[str, object],
    images: int,
) -> None:
    write_tensors(job.folder / "permutation.safetensors", permutation)
    job.metrics(status=status, images=images, groups=quality)
    job.finish("permutation.safetensors", "metrics.json")
