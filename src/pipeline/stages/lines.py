"""What curves, IMP barriers and planes share: data for statistics and evaluation."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.connectivity.correction import check_place, reset_batch_norm
from pipeline.connectivity.survey import Ground
from pipeline.data import Split
from pipeline.data.photographs import Photographs
from pipeline.errors import UserError
from pipeline.evaluation import Images, evaluate_batches
from pipeline.runs import Dense
from pipeline.stages.job import Job
from pipeline.streams import generator

#: Bytes of training images that are kept in memory for a path, at most.
KEPT = 32e9


def ground(job: Job, dense: Dense) -> Ground:
    """Architecture and data for a run of the connectivity stages, by its settings."""
    settings, device = job.recipe, job.device
    data = job.data.to(device)
    images = min(settings.images or len(data.train), len(data.train))
    if isinstance(data, Photographs) and 2 * images * 3 * data.size**2 > KEPT:
        raise UserError(
            f"{images:,} training images of {data.name} do not fit in memory: give the connectivity "
            f"recipe {job.run.label!r} a number of images"
        )
    drawn = data.subset(
        images,
        batch_size=settings.batch_size,
        order=generator(0, "statistics-order"),
        augmentation=generator(0, "statistics-augmentation") if settings.augment else None,
    )
    # Kept: every network on a path is measured on the same images.
    kept = torch.cat([part.to(device) for part, _ in drawn])
    splits = {}
    for name in settings.splits:
        if name == "train":
            splits[name] = data.training_split(images, order=generator(0, "statistics-order"))
        else:
            splits[name] = _first(data.test_split(), settings.test_images)
    model = job.model(dense)
    for correction in settings.corrections:
        try:
            check_place(model, correction)
        except ValueError as error:
            raise UserError(
                f"{error}: leave {correction} out of the recipe's corrections"
            ) from None
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Ground.of_images(
        model, splits, data.mean, data.std, kept,
        batch_size=settings.batch_size, precision=settings.precision,
    )  # fmt: skip


def _first(split: Split, count: int | None) -> Split:
    """The first ``count`` images of a split; all for None."""
    return split if count is None else Split(split.images[:count], split.labels[:count])


def loss_at_initialisation(job: Job, dense: Dense, at: Ground) -> dict[str, dict[str, float]]:
    """Loss and error of a dense run's initialisation, the reference line of Figure 3.

    BatchNorm statistics are measured first: those an untrained network starts with fit no data, and
    its loss under them says nothing.
    """
    model = job.model(dense, generator(dense.seed, "init")).to(job.device)
    reset_batch_norm(model, at.batches)
    rows = {}
    for name, split in at.splits.items():
        assert isinstance(split, Images)
        found = evaluate_batches(model, replace(split, batch_size=512)())  # as all runs had it
        rows[name] = {"loss": found.loss, "error": found.error}
    return rows
