"""Evaluation of corrected mixtures of networks, with what they share computed once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.connectivity.correction import (
    CORRECTIONS,
    Batches,
    ChannelStatistics,
    blocks,
    endpoint_statistics,
    has_batch_norm,
    mix_statistics,
    repair,
    repaired_blocks,
    reset_batch_norm,
)
from pipeline.connectivity.merge import StateDict, corner_of
from pipeline.data import Split
from pipeline.data.augment import normalise
from pipeline.evaluation import Images, Labelled, evaluate_batches
from pipeline.forward import device_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """What networks are measured on, the same for all that are compared.

    model: architecture, device and memory format; it is copied, not changed.
    splits: by name, what gives images and labels.
    batches: gives training images for the statistics of the corrections, at every call the same:
        only on the same images can networks be compared.
    precision: that of every forward pass.
    """

    model: nn.Module
    splits: Mapping[str, Labelled]
    batches: Batches
    precision: str = "fp32"

    @classmethod
    def of_images(
        cls,
        model: nn.Module,
        splits: Mapping[str, Split],
        mean: Sequence[float],
        std: Sequence[float],
        images: Tensor,
        batch_size: int = 512,
        precision: str = "fp32",
    ) -> Self:
        """On raw images, uint8 [N, C, H, W], where they are.

        mean, std: per channel, for pixels in [0, 1]. images: for the statistics, plain or augmented.
        """

        def batches() -> Iterator[Tensor]:
            return (normalise(part, mean, std) for part in torch.split(images, batch_size))

        given = partial(Images, mean=mean, std=std, batch_size=batch_size)
        return cls(
            model, {name: given(split) for name, split in splits.items()}, batches, precision
        )


class Surveyor:
    """Evaluates corrected mixtures of some networks ("end points") of one architecture.

    What does not depend on the mixture is done once: the end points are moved to the device, and
    their activation statistics are measured when REPAIR is asked for.
    """

    def __init__(
        self, ground: Ground, endpoints: Sequence[StateDict], corrections: Iterable[str]
    ) -> None:
        self.corrections = tuple(corrections)
        unknown = [name for name in self.corrections if name not in CORRECTIONS]
        if unknown or not self.corrections:
            raise ValueError(f"corrections {unknown}: allowed are {', '.join(CORRECTIONS)}")
        self.model = copy.deepcopy(ground.model)
        device = device_of(self.model)
        self.endpoints = tuple(
            {name: tensor.to(device) for name, tensor in theta.items()} for theta in endpoints
        )
        self._ground = ground
        #: What the end points give to corrections that mix their statistics.
        self._statistics: dict[str, list[ChannelStatistics]] = {}
        for correction in self.corrections:
            if correction.startswith("repair"):
                self._statistics[correction] = [
                    self._measured(theta, correction) for theta in self.endpoints
                ]

    def _measured(self, theta: StateDict, correction: str) -> ChannelStatistics:
        on = self._ground
        self.model.load_state_dict(theta)
        if correction == "repair":
            return endpoint_statistics(self.model, on.batches, precision=on.precision)
        return endpoint_statistics(
            self.model, on.batches, precision=on.precision, names=blocks(self.model),
            training=True,
        )  # fmt: skip

    def survey(self, theta: StateDict, coefficients: Sequence[float]) -> list[Row]:
        """Rows (correction, split, loss, error) of the mixture ``theta`` of the end points.

        ``coefficients`` say which mixture it is (REPAIR's targets mix alike). An end point itself
        is never corrected: it is evaluated once and its rows are repeated for each correction. So
        are those of "reset" for a network without BatchNorm, which has nothing to reset.
        """
        at_endpoint = corner_of(coefficients) is not None
        measured: dict[str, list[Row]] = {}
        rows = []
        for correction in self.corrections:
            idle = at_endpoint or (correction == "reset" and not has_batch_norm(self.model))
            applied = "none" if idle else correction
            if applied not in measured:
                self.model.load_state_dict(theta)
                with self.corrected(applied, coefficients):
                    measured[applied] = self._evaluate()
            rows += [{"correction": correction, **row} for row in measured[applied]]
        return rows

    @contextmanager
    def corrected(self, correction: str, coefficients: Sequence[float]) -> Iterator[None]:
        """The mixture that ``model`` holds corrected; its weights must be loaded anew afterwards."""
        model, batches, precision = self.model, self._ground.batches, self._ground.precision
        if correction == "reset":
            reset_batch_norm(model, batches, precision=precision)
        if correction not in self._statistics:
            yield
            return
        targets = mix_statistics(self._statistics[correction], coefficients)
        if correction == "repair":
            repair(model, batches, targets, precision=precision)
            yield
        else:
            with repaired_blocks(model, batches, targets, precision=precision):
                yield

    def _evaluate(self) -> list[Row]:
        on, rows = self._ground, []
        for name, split in on.splits.items():
            result = evaluate_batches(self.model, split(), precision=on.precision)
            rows.append({"split": name, "loss": result.loss, "error": result.error})
        return rows
