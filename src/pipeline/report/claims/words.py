"""How the units of claims and their numbers are written."""

from __future__ import annotations

import math

from pipeline.report.tables import names


def place(
    dataset: str, model: str, width: float | None = None, sparsity: float | None = None,
    rewind_epoch: float | None = None, split: str = "",
) -> str:  # fmt: skip
    """What a unit is about: ``ResNet20×1 / CIFAR-10, S = 80%, k = 10``."""
    parts = [f"{names.network(model, width)} / {names.dataset(dataset)}"]
    parts += [] if sparsity is None else [at(sparsity)]
    parts += [] if rewind_epoch is None else [f"k = {rewind_epoch:g}"]
    return ", ".join([*parts, split] if split else parts)


def at(sparsity: float) -> str:
    return f"S = {names.percent(sparsity)}"


def unless_nan(value: float, text: str) -> str:
    """A text about a number, and none where the number is unknown."""
    return "" if math.isnan(value) else text


def signed(value: float, sign: str = "+", decimals: int = 2) -> str:
    """A number with its sign, a true minus."""
    return f"{value:{sign}.{decimals}f}".replace("-", "−")
