"""Loss and accuracy of one network on one split.

Totals stay on the device until the last batch, so that the host waits once per evaluation; a small
network on a GPU is otherwise slowed down by waiting for every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.data import Split
from pipeline.data.augment import normalise
from pipeline.forward import arithmetic, device_of, evaluation_mode

Labelled = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives, at every call, the same batches: normalised images [B, C, H, W], classes int64 [B]."""


def normalised(
    batches: Iterable[tuple[Tensor, Tensor]],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of uint8 [n, C, H, W] and int64 [n], their images normalised on a device."""
    for images, labels in batches:
        yield normalise(images.to(device, non_blocking=True), mean, std), labels


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Images:
    """The images of a split, given in normalised batches where they are; the last may be smaller.

    mean, std: per channel, for pixels in [0, 1].
    """

    split: Split
    mean: Sequence[float]
    std: Sequence[float]
    batch_size: int = 512

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Labelled`."""
        parts = (torch.split(t, self.batch_size) for t in (self.split.images, self.split.labels))
        batches = zip(*parts, strict=True)
        return normalised(batches, self.mean, self.std, self.split.images.device)


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` measured.

    loss: mean cross entropy per image, in nats; ``inf`` where ``finite`` is false.
    accuracy: top-1, in %. Where logits are not finite it is whatever ``argmax`` gives (NaN counts
        as the largest value), which for a diverged network is near the share of one class.
    top5: top-5 accuracy in %, or None when it was not asked for or there are at most five classes.
    logits: float16 [N, classes] on the CPU, or None when not asked for. Values beyond the range of
        float16 are held at its largest value; ties that rounding makes can change an ``argmax``.
    finite: whether every logit was finite.
    """

    loss: float
    accuracy: float
    top5: float | None
    logits: Tensor | None
    finite: bool

    @property
    def error(self) -> float:
        """0-1 loss, in %."""
        return 100.0 - self.accuracy


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int = 512,
    precision: str = "fp32",
    logits: bool = False,
    top5: bool = False,
) -> Evaluation:
    """Evaluate ``model`` in evaluation mode on every image, the last incomplete batch included.

    images: uint8 [N, C, H, W]; labels: int64 [N]; mean, std: per channel, for pixels in [0, 1].
    logits, top5: also return the logits, the top-5 accuracy.

    The loss is the exact mean over images, not the mean of the batches' means; cross entropy is
    taken in fp32 and summed in fp64 whatever the precision of the forward pass.
    """
    if len(labels) == 0 or len(images) != len(labels):
        raise ValueError(
            f"{len(images)} images and {len(labels)} labels: need as many, at least one"
        )
    parts = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    batches = normalised(parts, mean, std, device_of(model))
    return evaluate_batches(model, batches, precision=precision, logits=logits, top5=top5)


def evaluate_batches(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    precision: str = "fp32",
    logits: bool = False,
    top5: bool = False,
    reduce: Callable[[Tensor], object] | None = None,
) -> Evaluation:
    """``evaluate`` on a stream of batches, each (normalised images [n, C, H, W], int64 [n]).

    reduce: adds up, in place, a float64 tensor of totals over the processes that share the images;
        loss and accuracies are then those of all images, and the logits those of this process.
    """
    device = device_of(model)
    totals = torch.zeros(5, dtype=torch.float64, device=device)
    kept: list[Tensor] = []
    classes = count = 0
    with evaluation_mode(model), torch.inference_mode(), arithmetic(device, precision):
        for images, labels in batches:
            batch = images.to(device, non_blocking=True)
            target = labels.to(device, non_blocking=True)
            count += len(target)
            output = model(batch).float()
            classes = output.shape[1]
            loss = functional.cross_entropy(output, target, reduction="none")
            totals[0] += loss.sum(dtype=torch.float64)
            totals[1] += (output.argmax(dim=1) == target).sum()
            if top5 and classes > 5:
                totals[2] += (output.topk(5, dim=1).indices == target[:, None]).sum()
            totals[3] += (~output.isfinite()).sum()
            if logits:
                limit = torch.finfo(torch.float16).max
                kept.append(output.clamp(-limit, limit).half())
        totals[4] = count
        if reduce is not None:
            reduce(totals)
    loss_sum, correct, correct5, not_finite, images_seen = totals.tolist()
    return Evaluation(
        loss=loss_sum / images_seen if not_finite == 0 else math.inf,
        accuracy=100.0 * correct / images_seen,
        top5=100.0 * correct5 / images_seen if top5 and classes > 5 else None,
        # A copy made here is an ordinary tensor; one born in inference mode is not.
        logits=torch.cat(kept).cpu().clone() if kept else None,
        finite=not_finite == 0,
    )
