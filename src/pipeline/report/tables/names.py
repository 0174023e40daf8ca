"""How methods, corrections, networks and sparsities are written in tables and figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from pipeline.catalog import datasets, networks

METHODS = {"imp": "IMP", "lth": "LTH"}
#: Methods that a table shortens.
_SHORT = {"permuted": "perm."}
CORRECTIONS = {
    "none": "no correction", "reset": "BatchNorm reset", "repair": "REPAIR",
    "repair-blocks": "REPAIR at blocks",
}  # fmt: skip

# The paper's order of methods; a user's own methods follow in alphabetical order.
_ORDER = ["dense", "imp", "lth", "naive", "permuted"]


def method(name: str, labels: Mapping[str, str] | None = None) -> str:
    """The label that a study gives a method, else the paper's name, else its own."""
    return (labels or {}).get(name) or _SHORT.get(name) or METHODS.get(name, name)


def whole_method(name: str, labels: Mapping[str, str] | None = None) -> str:
    """As `method`, where there is room for a word that tables shorten."""
    return (labels or {}).get(name) or METHODS.get(name, name)


def method_key(name: str, order: Sequence[str] = _ORDER) -> tuple[int, str]:
    """Sort key that puts methods in the paper's order."""
    return (order.index(name) if name in order else len(order), name)


def data(name: str) -> str:
    """A data set, and how many of its training images are withheld."""
    whole, _, count = name.partition(datasets.WITHHELD)
    label = datasets.INFO[whole].label if whole in datasets.INFO else whole
    return f"{label} ({int(count):,} withheld)" if count else label


def model(name: str) -> str:
    return networks.NETWORKS[name].label if name in networks.NETWORKS else name


def network(model_name: str, width: float | None) -> str:
    """Model and width as the paper writes them: ``ResNet20×4``."""
    if width is None or math.isnan(width):
        return model(model_name)
    return f"{model(model_name)}×{width:g}"


def place(
    dataset: str, model: str, width: float | None = None, sparsity: float | None = None,
    rewind_epoch: float | None = None, split: str = "",
) -> str:  # fmt: skip
    """A network (of any width: None), its data, and where: ``ResNet20×4 / CIFAR-10, S = 80%``."""
    parts = [f"{network(model, width)} / {data(dataset)}"]
    parts += [] if sparsity is None else [at(sparsity)]
    parts += [] if rewind_epoch is None else [f"k = {rewind_epoch:g}"]
    return ", ".join([*parts, split] if split else parts)


def from_the_input(groups: Iterable[str]) -> list[str]:
    """Groups of units, each once, from the input up: in the network's order, those of a stage together."""
    found = [*dict.fromkeys(groups)]
    stages = [name.partition(".")[0] for name in found]
    return sorted(found, key=lambda name: (stages.index(name.partition(".")[0]), name))


def at(sparsity: float) -> str:
    return f"S = {percent(sparsity)}"


def percent(fraction: float) -> str:
    """A sparsity in (0, 1) as the tables write it: ``80%``."""
    return f"{round(100 * fraction, 6):g}%"


def signed(value: float, sign: str = "+", decimals: int = 2) -> str:
    """A number with its sign, a true minus."""
    return f"{value:{sign}.{decimals}f}".replace("-", "−")


def unless_nan(value: float, text: str) -> str:
    """A text about a number, and none where the number is unknown."""
    return "" if math.isnan(value) else text


def number(value: float) -> str:
    """An epoch or a width without a trailing ``.0``."""
    return f"{value:g}"
