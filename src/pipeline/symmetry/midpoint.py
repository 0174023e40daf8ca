"""The loss of networks between pi(a) and b, as a smooth function of the weights of pi(a)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.symmetry.weight_matching import Problem

if TYPE_CHECKING:  # a matcher that uses this is part of that package
    from pipeline.study.settings import MatchSettings
    from pipeline.symmetry.matchers import Pair

Batch = tuple[Tensor, Tensor]


class Midpoint:
    """Networks between b and weights that stand for pi(a).

    They run in evaluation mode; BatchNorm alone normalises by each batch, for averaged statistics
    fit no data.
    """

    def __init__(self, pair: Pair, settings: MatchSettings) -> None:
        #: All parameters that carry units, biases too: each moves with its units.
        self.problem: Problem = pair.problem(replace(settings, biases=True))
        _, b = pair.networks()
        self._model = copy.deepcopy(b).eval()
        for module in self._model.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        self._b = {name: p.detach() for name, p in b.named_parameters()}
        self._a = {name: pair.a[name].to(p.device) for name, p in self._b.items()}
        self._pair = pair

    def loss(self, moved: Mapping[str, Tensor], batch: Batch, alpha: float = 0.5) -> Tensor:
        """Mean cross entropy, in nats, of (1 - alpha) a + alpha b, a's units as in ``moved``."""
        a = self._a | dict(moved)
        between = {name: torch.lerp(a[name], b, alpha) for name, b in self._b.items()}
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        images, labels = batch
        return cross_entropy(functional_call(self._model, between | buffers, (images,)), labels)

    @torch.no_grad()
    def whole(self, moved: Mapping[str, Tensor]) -> float:
        """The loss half way over all batches."""
        losses = [(self.loss(moved, each), len(each[1])) for each in self._pair.labelled()]
        return float(sum(loss * n for loss, n in losses) / sum(n for _, n in losses))
